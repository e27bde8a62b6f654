"""What a source clip is brought to before anything is made of it, with a word on all that is changed.

A request that makes a clip anew may leave size, rate and length open: they follow the clip, as near as the
model can. One that continues a clip leaves the clip as it is, or says what is to become of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vitascope.card import MAX_FPS, MIN_FPS, ModelCard, Wish, makes_size
from vitascope.errors import InvalidRequest
from vitascope.media.clip_decoding import SAME_RATE, Facts, Fit
from vitascope.media.sizes import size_like
from vitascope.request import GenerationRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A wish completed by its clip: `available` are the clip's frames at the wish's rate."""

    wish: Wish
    facts: Facts
    available: int
    resize_mode: str
    warnings: tuple[str, ...]

    def fit(self, request: GenerationRequest) -> Fit:
        """Say what the clip is brought to. Raises `InvalidRequest` where it is too short."""
        num_frames = request.num_frames if request.continues is None else request.continues.num_frames
        if num_frames > self.available:
            raise InvalidRequest(
                f"The clip has {self.available} frames at {request.fps:g} fps, and {num_frames} are asked "
                "for; ask for at most that many, or leave the length out.",
                param="num_frames" if self.wish.num_frames is not None else "seconds",
            )
        return Fit(
            width=request.width,
            height=request.height,
            num_frames=num_frames,
            fps=None if _same(request.fps, self.facts.fps) else request.fps,
            resize_mode=self.resize_mode,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    wish: Wish
    resize_mode: str
    keeps_rate: bool
    continues: bool
    sized_by: str | None


def settle(
    wish: Wish,
    card: ModelCard,
    facts: Facts,
    *,
    resize_mode: str = "error",
    keeps_rate: bool = False,
    continues: bool = False,
    sized_by: str | None = None,
) -> Settled:
    """Complete a wish by what its clip is.

    `keeps_rate`: the clip's rate was chosen for this model. `continues`: the clip goes on, else it is made
    anew. `sized_by` is the field to blame for a size.

    Raises:
        InvalidRequest: the clip does not do, and what it becomes is the caller's to say.

    """
    asked = _Asked(
        wish=wish, resize_mode=resize_mode, keeps_rate=keeps_rate, continues=continues, sized_by=sized_by
    )
    fps = _rate(asked, card, facts)
    available = facts.frames_at(fps)
    width, height, mode = _size(asked, card, facts)
    warnings = _changes(facts, fps, (width, height), mode)
    wish = replace(wish, fps=fps, width=width, height=height)
    if not continues and wish.num_frames is None and wish.seconds is None:
        wish = replace(wish, num_frames=_longest(available, card))
        warnings += _left_out(available, wish.num_frames, card)
    return Settled(wish=wish, facts=facts, available=available, resize_mode=mode, warnings=tuple(warnings))


def _rate(asked: _Asked, card: ModelCard, facts: Facts) -> float:
    """Choose the frames a second: the caller's, the video's own, or what the model is made for."""
    given, own, native = asked.wish.fps, facts.fps, card.defaults.fps
    fps = given if given is not None else own if asked.keeps_rate else native
    if not MIN_FPS <= fps <= MAX_FPS:
        raise InvalidRequest(f"fps is {fps:g}; it must be from {MIN_FPS:g} to {MAX_FPS:g}.", param="fps")
    if asked.continues and given is None and not _same(fps, own):
        raise InvalidRequest(
            f"The clip has {own:g} frames a second, and {card.name} is made for {native:g}; set fps to "
            f"{native:g} to have the clip resampled, or to {own:g} to keep it as it is.",
            param="fps",
        )
    return fps


def _size(asked: _Asked, card: ModelCard, facts: Facts) -> tuple[int, int, str]:
    """Choose width, height and the way there: the caller's, the clip's own, or the nearest to it."""
    wish, mode, native = asked.wish, asked.resize_mode, card.defaults
    own = f"{facts.width}x{facts.height}"
    if wish.width is not None or wish.height is not None:
        width, height = wish.width or native.width, wish.height or native.height
        if (width, height) != (facts.width, facts.height) and mode == "error":
            raise InvalidRequest(
                f"The clip is {own} and {width}x{height} is asked for; set resize_mode to 'crop' or 'pad', "
                "or leave the size out.",
                param=asked.sized_by or "width",
            )
        return width, height, mode
    if makes_size(card.rules, facts.width, facts.height):
        return facts.width, facts.height, mode
    width, height = size_like((facts.width, facts.height), card)
    if asked.continues:
        raise InvalidRequest(
            f"The clip is {own}, and {card.name} makes no clips of that size; set size, to {width}x{height} "
            "for example, and resize_mode to 'crop' or 'pad'.",
            param="size",
        )
    return width, height, "crop" if mode == "error" else mode


def _changes(facts: Facts, fps: float, size: tuple[int, int], mode: str) -> list[str]:
    """Say what is done to the clip before anything is made of it."""
    said = []
    if not _same(fps, facts.fps):
        said.append(f"The clip's {facts.fps:g} frames a second were resampled to {fps:g}.")
    if size != (facts.width, facts.height):
        how = {"crop": "covered and cut", "pad": "padded"}[mode]
        said.append(f"The clip's {facts.width}x{facts.height} were {how} to {size[0]}x{size[1]}.")
    return said


def _longest(available: int, card: ModelCard) -> int:
    """Return the most frames that the model makes of so many. Raises `InvalidRequest` where some are lost."""
    stride, most = card.rules.frame_stride, card.rules.max_frames
    if available > most:
        raise InvalidRequest(
            f"The clip has {available} frames; {card.name} makes at most {most}: set num_frames or seconds "
            "to have its beginning made anew.",
            param="num_frames",
        )
    return (available - 1) // stride * stride + 1


def _left_out(available: int, num_frames: int | None, card: ModelCard) -> list[str]:
    if num_frames == available:
        return []
    return [f"Of the clip's {available} frames {card.name} makes {num_frames}; the last ones are left out."]


def _same(fps: float, other: float) -> bool:
    return abs(fps - other) < SAME_RATE
