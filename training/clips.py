"""Procedural clips: one or two flat shapes that move over a flat background.

A `Scene` says what is to be seen; `render` draws it at any size and length. Everything comes from the
generator that is passed in, so a seed names a clip for ever. Knows nothing of captions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (222, 36, 36),
    "orange": (248, 142, 24),
    "yellow": (250, 226, 50),
    "green": (36, 164, 64),
    "blue": (40, 80, 222),
    "purple": (128, 44, 176),
    "pink": (255, 138, 196),
    "white": (246, 246, 246),
    "gray": (128, 128, 128),
    "black": (14, 14, 14),
}
COLOURS = tuple(PALETTE)
SHAPES = ("circle", "square", "triangle", "star", "ring")
DIRECTIONS: dict[str, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "up-left": (-1, -1),
    "up-right": (1, -1),
    "down-left": (-1, 1),
    "down-right": (1, 1),
}
MOTIONS = (*DIRECTIONS, "rotate", "grow", "shrink", "bounce", "still")
SIZES = {"small": 0.175, "normal": 0.225, "big": 0.28}
SPEEDS = {"slow": 0.24, "normal": 0.4, "fast": 0.56}
TURNS = {"slow": 0.55 * math.pi, "normal": 0.95 * math.pi, "fast": 1.4 * math.pi}
LAYOUTS = ("left", "right", "above", "below")
TURNABLE = ("square", "triangle", "star")
PAIR_RADIUS = 0.18
COLOUR_JITTER = 3.0

Layout = Literal["left", "right", "above", "below"]


@dataclass(frozen=True)
class Thing:
    """One shape and its way through the clip; lengths are fractions of the frame's shorter side."""

    colour: str
    shape: str
    motion: str
    size: str
    speed: str
    radius: float
    start: tuple[float, float]
    travel: tuple[float, float]
    angle: float
    rgb: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """A background and one or two things; `layout` is where the first stands as seen from the second."""

    background: str
    rgb: tuple[float, float, float]
    things: tuple[Thing, ...]
    layout: Layout | None = None


def _jittered(rng: np.random.Generator, colour: str) -> tuple[float, float, float]:
    r, g, b = np.asarray(PALETTE[colour]) + rng.uniform(-COLOUR_JITTER, COLOUR_JITTER, 3)
    return float(r), float(g), float(b)


def _pick(rng: np.random.Generator, options: tuple[str, ...] | list[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _travelling(rng: np.random.Generator, thing: Thing) -> Thing:
    """Choose a straight way that begins and ends inside the frame."""
    dx, dy = DIRECTIONS[thing.motion]
    reach = SPEEDS[thing.speed] * rng.uniform(0.92, 1.08) * (0.8 if dx and dy else 1.0)
    reach = min(reach, 1.02 - 2 * thing.radius)
    middle = []
    for along in (dx, dy):
        slack = max(0.0, 0.49 - thing.radius - (reach / 2 if along else 0.0))
        middle.append(0.5 + float(rng.uniform(-1, 1)) * min(slack, 0.09 if along else 0.14))
    start = (middle[0] - dx * reach / 2, middle[1] - dy * reach / 2)
    return replace(thing, start=start, travel=(dx * reach, dy * reach))


def _thing(rng: np.random.Generator, colour: str, motion: str, size: str, shape: str | None = None) -> Thing:
    if shape is None:
        shape = _pick(rng, TURNABLE if motion == "rotate" else SHAPES)
    speed = (
        _pick(rng, ["slow", "normal", "normal", "fast"]) if motion in (*DIRECTIONS, "rotate") else "normal"
    )
    start = (0.5 + float(rng.uniform(-0.13, 0.13)), 0.5 + float(rng.uniform(-0.13, 0.13)))
    radius = SIZES[size] * float(rng.uniform(0.95, 1.05))
    angle = float(rng.uniform(-0.12, 0.12))
    thing = Thing(
        colour, shape, motion, size, speed, radius, start, (0.0, 0.0), angle, _jittered(rng, colour)
    )
    return _travelling(rng, thing) if motion in DIRECTIONS else thing


def single(
    rng: np.random.Generator, motion: str | None = None, colours: tuple[str, str] | None = None
) -> Scene:
    """Draw a scene of one thing; half of all motions are moves in a direction unless `motion` names one."""
    background, colour = colours or tuple(COLOURS[i] for i in rng.permutation(len(COLOURS))[:2])
    if motion is None:
        others = [m for m in MOTIONS if m not in DIRECTIONS]
        motion = _pick(rng, tuple(DIRECTIONS)) if rng.random() < 0.58 else _pick(rng, others)
    thing = _thing(rng, colour, motion, _pick(rng, ["small", "normal", "normal", "big"]))
    return Scene(background, _jittered(rng, background), (thing,))


def _in_slot(rng: np.random.Generator, thing: Thing, slot: str) -> Thing:
    """Move `thing` of a pair to its half of the frame and keep its way inside it."""
    centre = {"left": (0.27, 0.5), "right": (0.73, 0.5), "above": (0.5, 0.27), "below": (0.5, 0.73)}[slot]
    x, y = (c + float(rng.uniform(-0.03, 0.03)) for c in centre)
    radius = PAIR_RADIUS * float(rng.uniform(0.95, 1.05))
    dx, dy = DIRECTIONS.get(thing.motion, (0, 0))
    reach = 0.4 * float(rng.uniform(0.92, 1.08))
    start = (x - dx * reach / 2, y - dy * reach / 2)
    return replace(
        thing, radius=radius, start=start, travel=(dx * reach, dy * reach), speed="normal", size="normal"
    )


def pair(rng: np.random.Generator) -> Scene:
    """Draw a scene of two things of different colours, side by side or one above the other."""
    background, first, second = (COLOURS[i] for i in rng.permutation(len(COLOURS))[:3])
    layout = _pick(rng, LAYOUTS)
    moves = ["up", "down", "bounce"] if layout in ("left", "right") else ["left", "right"]
    motions = [*moves, *moves, "still", "still", "rotate", "grow", "shrink"]
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}[layout]
    things = tuple(
        _in_slot(rng, _thing(rng, colour, _pick(rng, motions), "normal"), slot)
        for colour, slot in ((first, layout), (second, opposite))
    )
    return Scene(background, _jittered(rng, background), things, layout)  # type: ignore[arg-type]


def sample_scene(rng: np.random.Generator, pair_share: float = 0.25) -> Scene:
    """Draw a random scene; `pair_share` of them hold two things."""
    return pair(rng) if rng.random() < pair_share else single(rng)


def signed_distance(shape: str, u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distance to the outline in units of the radius, negative inside; v points down."""
    match shape:
        case "circle":
            return np.hypot(u, v) - 0.92
        case "square":
            return np.maximum(np.abs(u), np.abs(v)) - 0.8
        case "triangle":
            v = v - 0.14
            slope = 0.8660254
            return np.maximum(v, np.maximum(-slope * u - 0.5 * v, slope * u - 0.5 * v)) - 0.56
        case "ring":
            return np.abs(np.hypot(u, v) - 0.71) - 0.24
        case "star":
            return _star(u, v)
    raise ValueError(f"shape {shape!r} is not one of {', '.join(SHAPES)}")


def _star(u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.float32]:
    outer, inner, fifth = 1.12, 0.42 * 1.12, 2 * math.pi / 5
    radius, angle = np.hypot(u, v), np.arctan2(u, -v)
    angle = np.abs(angle - fifth * np.round(angle / fifth))
    tip, notch = (outer, 0.0), (inner * math.cos(fifth / 2), inner * math.sin(fifth / 2))
    normal = (notch[1] - tip[1], tip[0] - notch[0])
    length = math.hypot(*normal)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    return ((x - tip[0]) * normal[0] + (y - tip[1]) * normal[1]) / length


def pose(thing: Thing, t: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Centre x, centre y, radius and angle of `thing` at the times `t` in [0, 1]."""
    x = thing.start[0] + thing.travel[0] * t
    y = thing.start[1] + thing.travel[1] * t
    radius = np.full_like(t, thing.radius)
    angle = np.full_like(t, thing.angle)
    match thing.motion:
        case "rotate":
            angle = angle + TURNS[thing.speed] * t
        case "grow":
            radius = radius * (0.6 + 0.8 * t)
        case "shrink":
            radius = radius * (1.4 - 0.8 * t)
        case "bounce":
            floor, height = 0.93 - thing.radius, 0.86 - 2 * thing.radius
            y = floor - height * np.abs(np.sin(2 * math.pi * t))
    return x, y, radius, angle


def render(
    scene: Scene,
    frames: int = 17,
    height: int = 64,
    width: int = 64,
    window: tuple[int, int, int, int] | None = None,
) -> NDArray[np.uint8]:
    """Draw `scene` as (T, H, W, 3); `window` (top, left, height, width) draws only that part of the frame."""
    side = min(height, width)
    top, left, rows, columns = window or (0, 0, height, width)
    t = np.linspace(0.0, 1.0, frames)
    video = np.empty((frames, rows, columns, 3), np.float32)
    video[:] = scene.rgb
    ys = np.arange(top, top + rows, dtype=np.float32)[None, :, None] + 0.5
    xs = np.arange(left, left + columns, dtype=np.float32)[None, None, :] + 0.5
    for thing in scene.things:
        x, y, radius, angle = (p.astype(np.float32)[:, None, None] for p in pose(thing, t))
        dx, dy = xs - x * width, ys - y * height
        pixels = radius * side
        cos, sin = np.cos(angle) / pixels, np.sin(angle) / pixels
        distance = signed_distance(thing.shape, dx * cos + dy * sin, dy * cos - dx * sin) * pixels
        cover = np.clip(0.5 - distance, 0.0, 1.0)[..., None]
        video += cover * (np.asarray(thing.rgb, np.float32) - video)
    return np.clip(video + 0.5, 0, 255).astype(np.uint8)
