"""Say what a clip shows, from its decoded frames alone: colours, shape and motion of one or two things.

The judge of every table. It knows the palette and the outlines, and nothing of how the clip was made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from training.clips import COLOURS, PALETTE, SHAPES, Scene, signed_distance

Array = NDArray[np.float32]
GRID = 28
SYMMETRY = {
    "circle": 0.0,
    "ring": 0.0,
    "square": math.pi / 2,
    "triangle": 2 * math.pi / 3,
    "star": 2 * math.pi / 5,
}
ANGLE_STEP = math.radians(6)
_PALETTE = np.asarray([PALETTE[c] for c in COLOURS], np.float32)


@dataclass(frozen=True)
class Seen:
    """What one thing looks like; `motion` is one of the generator's motions or 'other'."""

    colour: str
    shape: str
    motion: str


@dataclass(frozen=True)
class Verdict:
    """What a clip shows; fewer things than asked for where none could be made out."""

    background: str
    things: tuple[Seen, ...]
    background_drift: float


def nearest_colour(rgb: Array) -> str:
    """Return the palette's name for a colour."""
    return COLOURS[int(np.square(_PALETTE - rgb).sum(1).argmin())]


def _sample(cover: Array, scale: float, centre: tuple[float, float]) -> Array:
    """`cover` on the unit grid around `centre`, in units of `scale` pixels; zero outside the frame."""
    axis = (np.arange(GRID) + 0.5) / GRID * 4.4 - 2.2
    ys, xs = centre[0] + axis[:, None] * scale, centre[1] + axis[None, :] * scale
    height, width = cover.shape
    y0, x0 = np.floor(ys).astype(int), np.floor(xs).astype(int)
    fy, fx = ys - y0, xs - x0

    def at(y: NDArray[np.int_], x: NDArray[np.int_]) -> Array:
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        return np.where(inside, cover[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)], 0)

    upper = at(y0, x0) * (1 - fx) + at(y0, x0 + 1) * fx
    lower = at(y0 + 1, x0) * (1 - fx) + at(y0 + 1, x0 + 1) * fx
    return np.asarray(upper * (1 - fy) + lower * fy, np.float32)


def _moments(cover: Array) -> tuple[float, float, float, float]:
    """Area, centre (y, x) and radius of gyration in pixels."""
    total = float(cover.sum())
    ys, xs = np.mgrid[0 : cover.shape[0], 0 : cover.shape[1]]
    y, x = float((cover * ys).sum() / total), float((cover * xs).sum() / total)
    spread = float((cover * ((ys - y) ** 2 + (xs - x) ** 2)).sum() / total)
    return total, y, x, math.sqrt(max(spread, 0.25))


@cache
def _templates(shape: str) -> Array:
    """Outlines of `shape` at every angle (A, GRID, GRID), placed and scaled as what is judged."""
    period = SYMMETRY[shape]
    count = max(1, round(period / ANGLE_STEP))
    side = 96
    ys, xs = (np.mgrid[0:side, 0:side].astype(np.float32) + 0.5 - side / 2) / (side / 3.2)
    drawn = []
    for i in range(count):
        cos, sin = math.cos(i * period / count), math.sin(i * period / count)
        cover = np.clip(0.5 - signed_distance(shape, xs * cos + ys * sin, ys * cos - xs * sin) * 15, 0, 1)
        _, y, x, radius = _moments(cover)
        drawn.append(_sample(cover, radius, (y, x)))
    return np.stack(drawn)


def _fit(cover: Array) -> dict[str, tuple[float, float]]:
    """For every shape the mean square distance of its best angle, and that angle."""
    _, y, x, radius = _moments(cover)
    seen = _sample(cover, radius, (y, x))
    fits = {}
    for shape in SHAPES:
        templates = _templates(shape)
        errors = np.square(templates - seen).mean((1, 2))
        best = int(errors.argmin())
        fits[shape] = (float(errors[best]), best * SYMMETRY[shape] / len(templates))
    return fits


def _turned(angles: list[float], period: float) -> float:
    """Total rotation through `angles`, each known up to the shape's symmetry."""
    total = 0.0
    for before, after in pairwise(angles):
        total += (after - before + period / 2) % period - period / 2
    return total


def _motion(centres: Array, sizes: Array, turned: float) -> str:
    """Name the motion of centres (T, 2) as (y, x) fractions of the frame and sizes (T,)."""
    dy, dx = centres[-2:].mean(0) - centres[:2].mean(0)
    rises = centres[:, 0].max() - centres[:, 0].min()
    middle = centres[len(centres) // 3 : -(len(centres) // 3), 0]
    if (
        rises > 0.14
        and abs(dy) < 0.5 * rises
        and abs(dx) < 0.12
        and middle.max() > centres[:, 0].min() + 0.6 * rises
    ):
        return "bounce"
    if max(abs(dx), abs(dy)) > 0.11:
        side, vertical = "right" if dx > 0 else "left", "down" if dy > 0 else "up"
        if min(abs(dx), abs(dy)) > 0.414 * max(abs(dx), abs(dy)):
            return f"{vertical}-{side}"
        return side if abs(dx) > abs(dy) else vertical
    growth = sizes[-2:].mean() / sizes[:2].mean()
    if growth > 1.35 or growth < 0.74:
        return "grow" if growth > 1 else "shrink"
    if abs(turned) > math.radians(50):
        return "rotate"
    return "still" if rises < 0.12 else "other"


def _coverage(video: Array, background: Array, region: NDArray[np.bool_]) -> tuple[Array, Array] | None:
    """Colour of what differs from `background` inside `region`, and its coverage (T, H, W)."""
    distance = np.where(region, np.sqrt(np.square(video - background).sum(-1)), 0)
    changed = distance > 42
    if changed.sum() < 8 * len(video):
        return None
    core = changed & (distance >= np.percentile(distance[changed], 45))
    colour = np.median(video[core], 0)
    axis = colour - background
    cover = np.clip(((video - background) @ axis) / float(axis @ axis), 0, 1) * region
    return colour, np.where(cover > 0.12, cover, 0).astype(np.float32)


def _thing(video: Array, background: Array, region: NDArray[np.bool_]) -> Seen | None:
    found = _coverage(video, background, region)
    if found is None:
        return None
    colour, covers = found
    if covers.sum((1, 2)).min() < 6:
        return None
    height, width = covers.shape[1:]
    moments = np.asarray([_moments(c) for c in covers])
    fits = [_fit(c) for c in covers]
    clear = [i for i, (_, y, x, r) in enumerate(moments) if min(y, x, height - y, width - x) > 1.6 * r]
    judged = clear or range(len(fits))
    shape = min(SHAPES, key=lambda s: sum(fits[i][s][0] for i in judged))
    turned = _turned([f[shape][1] for f in fits], SYMMETRY[shape]) if SYMMETRY[shape] else 0.0
    centres = (moments[:, 1:3] / (height, width)).astype(np.float32)
    return Seen(nearest_colour(colour), shape, _motion(centres, moments[:, 3], turned))


def _regions(height: int, width: int, layout: str | None) -> list[NDArray[np.bool_]]:
    """Where to look for each thing: the whole frame, or the two halves in the order of the layout."""
    if layout is None:
        return [np.ones((height, width), bool)]
    first = np.zeros((height, width), bool)
    if layout in ("left", "right"):
        first[:, : width // 2] = True
    else:
        first[: height // 2] = True
    halves = [first, ~first]
    return halves if layout in ("left", "above") else halves[::-1]


def judge(frames: NDArray[np.uint8], layout: str | None = None) -> Verdict:
    """Return what the clip (T, H, W, 3) shows; with a `layout` one thing is looked for in either half."""
    video = frames.astype(np.float32)
    border = np.concatenate([video[:, :2].reshape(-1, 3), video[:, -2:].reshape(-1, 3),
                             video[:, :, :2].reshape(-1, 3), video[:, :, -2:].reshape(-1, 3)])  # fmt: skip
    background = np.median(border, 0)
    still = np.square(video - background).sum(-1) < 40**2
    means = np.stack([f[s].mean(0) if s.any() else background for f, s in zip(video, still, strict=True)])
    things = [_thing(video, background, r) for r in _regions(*frames.shape[1:3], layout)]
    return Verdict(nearest_colour(background), tuple(t for t in things if t), float(means.std(0).max()))


def compare(verdict: Verdict, scene: Scene) -> dict[str, bool]:
    """Which parts of what was asked for are seen; `all` where everything is."""
    same = len(verdict.things) == len(scene.things)
    pairs = list(zip(verdict.things, scene.things, strict=True)) if same else []
    marks = {
        "background": verdict.background == scene.background,
        "colour": same and all(s.colour == t.colour for s, t in pairs),
        "motion": same and all(s.motion == t.motion for s, t in pairs),
        "shape": same and all(s.shape == t.shape for s, t in pairs),
    }
    return marks | {"all": all(marks.values())}


def sharpness(frames: NDArray[np.uint8]) -> float:
    """Mean energy of the Laplacian."""
    v = frames.astype(np.float32)
    inner = 4 * v[:, 1:-1, 1:-1] - v[:, :-2, 1:-1] - v[:, 2:, 1:-1] - v[:, 1:-1, :-2] - v[:, 1:-1, 2:]
    return float(np.square(inner).mean())


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in decibels."""
    error = float(np.square(a.astype(np.float32) - b.astype(np.float32)).mean())
    return 10 * math.log10(255**2 / max(error, 1e-3))


def largest_step(frames: NDArray[np.uint8]) -> float:
    """Return the largest change from one frame to the next, in units of the median change."""
    v = frames.astype(np.float32)
    steps = np.sqrt(np.square(v[1:] - v[:-1]).mean((1, 2, 3)))
    return float(steps.max() / max(float(np.median(steps)), 0.5))
