"""Captions of scenes, in many phrasings, and what each caption says as a fixed list of slots.

`describe` never leaves a caption ambiguous: what it does not say has a default (`default_background`,
standing still, normal size and speed, the first thing on the left or above), and it leaves out only what is
equal to the default.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.clips import COLOURS, DIRECTIONS, LAYOUTS, MOTIONS, SHAPES, SIZES, SPEEDS, Scene, Thing

NOTHING = "-"
SLOTS: dict[str, tuple[str, ...]] = {
    "bg": (NOTHING, *COLOURS),
    "c1": (NOTHING, *COLOURS),
    "s1": (NOTHING, *SHAPES),
    "m1": (NOTHING, *MOTIONS),
    "z1": (NOTHING, *SIZES),
    "v1": (NOTHING, *SPEEDS),
    "c2": (NOTHING, *COLOURS),
    "s2": (NOTHING, *SHAPES),
    "m2": (NOTHING, *MOTIONS),
    "lay": (NOTHING, *LAYOUTS),
}
ROLE_TOKENS = tuple(f"<{slot}>" for slot in SLOTS)

COLOUR_WORDS = {c: (c,) for c in COLOURS} | {
    "gray": ("gray", "gray", "grey"),
    "purple": ("purple", "purple", "violet"),
}
SHAPE_WORDS = {
    "circle": ("circle", "circle", "ball", "ball", "disc", "dot"),
    "square": ("square", "square", "box", "block"),
    "triangle": ("triangle",),
    "star": ("star",),
    "ring": ("ring", "ring", "hoop"),
}
SIZE_WORDS = {"small": ("small", "small", "little", "tiny"), "normal": ("",), "big": ("big", "large", "huge")}
SPEED_WORDS = {
    "slow": ("slowly", "slowly", "gently"),
    "normal": ("",),
    "fast": ("quickly", "fast", "rapidly"),
}
MOVING = (
    "moving",
    "moving",
    "drifting",
    "sliding",
    "gliding",
    "flying",
    "going",
    "travelling",
    "floating",
    "heading",
)
STILL = (
    "standing still",
    "staying still",
    "sitting still",
    "not moving",
    "resting",
    "staying in place",
    "",
    "",
    "",
)
CHANGES = {
    "rotate": (
        "rotating",
        "rotating",
        "spinning",
        "spinning",
        "turning",
        "turning around",
        "spinning around",
    ),
    "grow": (
        "growing",
        "growing",
        "growing bigger",
        "growing larger",
        "getting bigger",
        "getting larger",
        "expanding",
    ),
    "shrink": ("shrinking", "shrinking", "getting smaller", "becoming smaller"),
    "bounce": ("bouncing", "bouncing", "bouncing up and down", "jumping", "jumping up and down", "hopping"),
    "still": STILL,
}
FINITE = {
    "moving": "moves", "drifting": "drifts", "sliding": "slides", "gliding": "glides", "flying": "flies",
    "going": "goes", "travelling": "travels", "floating": "floats", "heading": "heads", "rising": "rises",
    "falling": "falls", "standing": "stands", "staying": "stays", "sitting": "sits", "resting": "rests",
    "rotating": "rotates", "spinning": "spins", "turning": "turns", "growing": "grows", "getting": "gets",
    "expanding": "expands", "shrinking": "shrinks", "becoming": "becomes", "bouncing": "bounces",
    "jumping": "jumps", "hopping": "hops",
}  # fmt: skip
PLACES = {
    "left": ("on the left", "on the left side", "at the left"),
    "right": ("on the right", "on the right side", "at the right"),
    "above": ("at the top", "on top", "above"),
    "below": ("at the bottom", "below"),
}
RELATIONS = {
    "left": ("to the left of", "left of", "on the left of"),
    "right": ("to the right of", "right of", "on the right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath"),
}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def default_background(colours: Sequence[str]) -> str:
    """Return the background of a caption that names none: the first of three that no thing has."""
    return next(c for c in ("white", "black", "gray") if c not in colours)


def default_colour(background: str) -> str:
    """Return the colour of a single thing whose caption names none."""
    return "blue" if background == "red" else "red"


def default_layout(motions: Sequence[str]) -> str:
    """Where the first of two things stands if the caption does not say."""
    return "above" if any(m in ("left", "right") for m in motions) else "left"


def labels(scene: Scene | None) -> list[str]:
    """Return the value of every slot; `None` is the empty prompt."""
    if scene is None:
        return [NOTHING] * len(SLOTS)
    first = scene.things[0]
    values = [scene.background, first.colour, first.shape, first.motion, first.size, first.speed]
    if len(scene.things) == 1:
        return [*values, NOTHING, NOTHING, NOTHING, NOTHING]
    second = scene.things[1]
    return [*values, second.colour, second.shape, second.motion, scene.layout or NOTHING]


def _direction(rng: np.random.Generator, direction: str) -> str:
    if "-" in direction:
        vertical, side = direction.split("-")
        end = "top" if vertical == "up" else "bottom"
        upper = "upper" if vertical == "up" else "lower"
        return _pick(rng, (
            f"diagonally {vertical} and {side}", f"diagonally {vertical} {side}", f"{vertical} and {side}",
            f"{vertical} {side}", f"{vertical}-{side}", f"{vertical} and to the {side}",
            f"towards the {end} {side}", f"to the {upper} {side}", f"towards the {end} {side} corner",
        ))  # fmt: skip
    if direction in ("left", "right"):
        far = "right" if direction == "left" else "left"
        return _pick(rng, (direction,) * 3 + (
            f"to the {direction}", f"to the {direction}", f"towards the {direction}", f"{direction}wards",
            f"{direction}ward", f"from {far} to {direction}", f"from the {far} to the {direction}",
        ))  # fmt: skip
    far, near = ("bottom", "top") if direction == "up" else ("top", "bottom")
    return _pick(rng, (direction,) * 4 + (
        f"{direction}wards", f"{direction}ward", f"to the {near}", f"towards the {near}",
        f"from {far} to {near}",
    ))  # fmt: skip


def _action(rng: np.random.Generator, motion: str, speed: str) -> str:
    """Return the words for a motion as a participle phrase, empty for a thing that simply is there."""
    pace = _pick(rng, SPEED_WORDS[speed])
    if motion in DIRECTIONS:
        if motion in ("up", "down") and rng.random() < 0.2:
            verb = "rising" if motion == "up" else "falling"
            way = motion if rng.random() < 0.4 else ""
        else:
            verb, way = _pick(rng, MOVING), _direction(rng, motion)
        order = rng.random()
        if order < 0.5:
            return _join(verb, way, pace)
        return _join(verb, pace, way) if order < 0.75 or not pace else _join(pace, verb, way)
    phrase = _pick(rng, CHANGES[motion])
    if motion == "rotate":
        return _join(phrase, pace) if rng.random() < 0.7 else _join(pace, phrase)
    return phrase


def _conjugated(rng: np.random.Generator, action: str) -> str:
    """Participle, 'is' form or finite form of an action."""
    style = rng.random()
    words = action.split()
    if not words or style < 0.5:
        return action
    verb = next((i for i, w in enumerate(words) if w in FINITE), None)
    if style < 0.7 or verb is None:
        return f"is {action}"
    if words[0] == "not":
        return "does not move"
    return " ".join([*words[:verb], FINITE[words[verb]], *words[verb + 1 :]])


def _article(rng: np.random.Generator, noun: str) -> str:
    draw = rng.random()
    if draw < 0.06:
        return noun
    if draw < 0.12:
        return f"{'one' if draw < 0.09 else 'the'} {noun}"
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _noun(rng: np.random.Generator, thing: Thing, coloured: bool = True) -> str:
    colour = _pick(rng, COLOUR_WORDS[thing.colour]) if coloured else ""
    return _article(
        rng, _join(_pick(rng, SIZE_WORDS[thing.size]), colour, _pick(rng, SHAPE_WORDS[thing.shape]))
    )


def _single(rng: np.random.Generator, scene: Scene) -> str:
    thing = scene.things[0]
    plain = thing.colour == default_colour(scene.background) and rng.random() < 0.25
    noun, action = _noun(rng, thing, not plain), _action(rng, thing.motion, thing.speed)
    if thing.speed != "normal" and rng.random() < 0.06:
        adjective = "slow" if thing.speed == "slow" else "fast"
        noun = _article(
            rng,
            f"{adjective} {noun.split(' ', 1)[1] if noun.split()[0] in ('a', 'an', 'one', 'the') else noun}",
        )
        action = _action(rng, thing.motion, "normal")
    return _join(noun, _conjugated(rng, action))


def _placed(rng: np.random.Generator, scene: Scene, phrases: list[str]) -> str:
    """Two phrases with a place for each, before or after them."""
    spots = [_pick(rng, PLACES[str(scene.layout)]), _pick(rng, PLACES[OPPOSITE[str(scene.layout)]])]
    glue = _pick(rng, (" and ", ", ", " and "))
    draw = rng.random()
    if draw < 0.55:
        return glue.join(_join(p, s) for p, s in zip(phrases, spots, strict=True))
    if draw < 0.8:
        return glue.join(_join(s, p) for p, s in zip(phrases, spots, strict=True))
    return _join(phrases[0], spots[0]) + glue + phrases[1]


def _pair(rng: np.random.Generator, scene: Scene) -> str:
    first, second = scene.things
    nouns = [_noun(rng, t) for t in scene.things]
    actions = [_action(rng, t.motion, t.speed) for t in scene.things]
    phrases = [_join(n, _conjugated(rng, a)) for n, a in zip(nouns, actions, strict=True)]
    unsaid = scene.layout == default_layout([first.motion, second.motion])
    if not unsaid or rng.random() < 0.35:
        if rng.random() < 0.5:
            relation = _pick(rng, RELATIONS[str(scene.layout)])
            return _join(phrases[0], relation, phrases[1])
        return _placed(rng, scene, phrases)
    if first.motion == second.motion and actions[0] and rng.random() < 0.6:
        both = _pick(rng, ("", "both ", "are ", "are both "))
        return f"{nouns[0]} and {nouns[1]} {both}{actions[0]}"
    return (
        phrases[0]
        + _pick(rng, (" and ", " and ", ", ", " while ", " and next to it ", " with "))
        + phrases[1]
    )


def _on_background(rng: np.random.Generator, caption: str, background: str) -> str:
    colour = _pick(rng, COLOUR_WORDS[background])
    article = "an" if colour[0] in "aeiou" else "a"
    place = f"{article} {colour} background"
    before = _pick(rng, ("on", "on", "over", "against"))
    styles = (
        (0.42, f"{caption} {before} {place}"),
        (0.20, f"{caption} {before} {colour}"),
        (0.06, f"{caption} {_pick(rng, ('in front of', 'with', 'across', 'before'))} {place}"),
        (0.08, f"{caption}, {colour} background"),
        (0.06, f"{caption}, the background is {colour}"),
        (0.10, f"{before} {place}, {caption}"),
        (0.08, f"{colour} background{_pick(rng, (', ', ': '))}{caption}"),
    )
    return styles[int(rng.choice(len(styles), p=[share for share, _ in styles]))][1]


def describe(rng: np.random.Generator, scene: Scene) -> str:
    """One caption of `scene`."""
    caption = _single(rng, scene) if len(scene.things) == 1 else _pair(rng, scene)
    if scene.background != default_background([t.colour for t in scene.things]) or rng.random() < 0.6:
        caption = _on_background(rng, caption, scene.background)
    if rng.random() < 0.08:
        caption = (
            _pick(rng, ("a video of ", "an animation of ", "a clip of ", "animation of ", "video: "))
            + caption
        )
    if rng.random() < 0.12:
        caption += "."
    return caption
