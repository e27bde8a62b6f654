"""Source clips of requests: found, and brought to what the model makes, with a word on all that is changed.

A request that makes a clip anew may leave size, rate and length open: they follow the clip, as near as the
model can. One that continues a clip leaves the clip as it is, or says what is to become of it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from vitascope.api.pictures import Source
from vitascope.api.reading import Reading
from vitascope.api.services import Services
from vitascope.api.sizes import like
from vitascope.api.views import find
from vitascope.card import MAX_FPS, MIN_FPS, ModelCard, makes_size
from vitascope.errors import Expired, InvalidRequest, VideoNotFound
from vitascope.jobs.job import Job, State
from vitascope.media.foreign import SAME_RATE, Facts, Fit
from vitascope.request import Continuation, GenerationRequest

TO_COME = "to-come"  # stands for a key while the rest is checked, which costs nothing


@dataclass(frozen=True, slots=True)
class SourceClip:
    """A clip that can be used: its bytes or the key of its file, what it is, and whose video it was."""

    param: str
    content: bytes | str
    facts: Facts
    original: Job | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a request comes to with its clip: the reading completed, and what the clip is brought to."""

    reading: Reading
    clip: SourceClip
    available: int  # frames, at the rate of the request
    resize_mode: str

    def fit(self, request: GenerationRequest) -> Fit:
        """Say what the clip is brought to. Raises `InvalidRequest` where it is too short."""
        num_frames = request.num_frames if request.continues is None else request.continues.num_frames
        if num_frames > self.available:
            raise InvalidRequest(
                f"The clip has {self.available} frames at {request.fps:g} fps, and {num_frames} are asked "
                "for; ask for at most that many, or leave the length out.",
                param="num_frames" if self.reading.wish.num_frames is not None else "seconds",
            )
        resampled = not _same(request.fps, self.clip.facts.fps)
        return Fit(
            width=request.width,
            height=request.height,
            num_frames=num_frames,
            fps=request.fps if resampled else None,
            resize_mode=self.resize_mode,
        )


async def find_clip(services: Services, source: Source) -> SourceClip:
    """Find the clip that a request names, and measure it.

    Raises:
        InvalidMedia: it cannot be used.
        InvalidRequest: the video that it names is not done.
        NotFound: there is no such video, or not any more.

    """
    if source.video_id is not None:
        job = await services.off_loop(_finished, services, source.video_id, source.param)
        request, file = job.request, job.file("video")
        assert file is not None, "a job succeeds with its video"
        facts = Facts(
            width=request.width,
            height=request.height,
            num_frames=request.total_frames,
            fps=request.fps,
            span_s=(request.total_frames - 1) / request.fps,
        )
        return SourceClip(source.param, file.key, facts, job)
    data = await asyncio.to_thread(source.content)
    facts = await asyncio.to_thread(services.clips.measure, data, param=source.param)
    return SourceClip(source.param, data, facts)


def plan(reading: Reading, card: ModelCard, clip: SourceClip) -> Plan:
    """Complete a reading by what its clip is. Raises `InvalidRequest` where that is left to the caller."""
    facts = clip.facts
    fps = _rate(reading, card, clip)
    available = facts.frames_at(fps)
    width, height, mode = _size(reading, card, clip)
    warnings = _changes(facts, fps, (width, height), mode)
    wish = replace(reading.wish, fps=fps, width=width, height=height)
    if reading.continues:
        continues = Continuation(clip=TO_COME, num_frames=available)
        wish = replace(wish, first_frame=TO_COME, continues=continues)
    else:
        wish = replace(wish, video=TO_COME)
        if wish.num_frames is None and wish.seconds is None:
            wish = replace(wish, num_frames=_longest(available, card))
            warnings += _left_out(available, wish.num_frames, card)
    completed = replace(reading, wish=wish, warnings=(*reading.warnings, *warnings))
    return Plan(reading=completed, clip=clip, available=available, resize_mode=mode)


async def keep(services: Services, plan: Plan, request: GenerationRequest) -> GenerationRequest:
    """Store the clip as the request needs it, and name it there. Raises `InvalidMedia`."""
    clips, clip = services.clips, plan.clip
    key = await asyncio.to_thread(clips.keep, clip.content, plan.fit(request), param=clip.param)
    if request.continues is None:
        return replace(request, video=key)
    first_frame = await asyncio.to_thread(clips.keep_last_frame, key)
    return replace(request, first_frame=first_frame, continues=replace(request.continues, clip=key))


def _finished(services: Services, video_id: str, param: str) -> Job:
    try:
        job = find(services, video_id).job
    except VideoNotFound as error:
        error.param = param
        raise
    if job.state is State.SUCCEEDED:
        return job
    if job.state is State.EXPIRED:
        raise Expired("The source video has expired; its file was removed.", param=param)
    if job.finished_at is not None:
        raise InvalidRequest("The source video was not made: it failed or was cancelled.", param=param)
    raise InvalidRequest(
        "The source video is not done yet; ask again when its status is completed.", param=param
    )


def _rate(reading: Reading, card: ModelCard, clip: SourceClip) -> float:
    """Choose the frames a second: the caller's, the video's own, or what the model is made for."""
    given, own, native = reading.wish.fps, clip.facts.fps, card.defaults.fps
    fps = given if given is not None else own if clip.original is not None else native
    if not MIN_FPS <= fps <= MAX_FPS:
        raise InvalidRequest(f"fps is {fps:g}; it must be from {MIN_FPS:g} to {MAX_FPS:g}.", param="fps")
    if reading.continues and given is None and not _same(fps, own):
        raise InvalidRequest(
            f"The clip has {own:g} frames a second, and {card.name} is made for {native:g}; set fps to "
            f"{native:g} to have the clip resampled, or to {own:g} to keep it as it is.",
            param="fps",
        )
    return fps


def _size(reading: Reading, card: ModelCard, clip: SourceClip) -> tuple[int, int, str]:
    """Choose width, height and the way there: the caller's, the clip's own, or the nearest to it."""
    wish, mode, facts, native = reading.wish, reading.resize_mode, clip.facts, card.defaults
    own = f"{facts.width}x{facts.height}"
    if wish.width is not None or wish.height is not None:
        width, height = wish.width or native.width, wish.height or native.height
        if (width, height) != (facts.width, facts.height) and mode == "error":
            raise InvalidRequest(
                f"The clip is {own} and {width}x{height} is asked for; set resize_mode to 'crop' or 'pad', "
                "or leave the size out.",
                param=reading.sized_by or "width",
            )
        return width, height, mode
    if makes_size(card.rules, facts.width, facts.height):
        return facts.width, facts.height, mode
    width, height = like((facts.width, facts.height), card)
    if reading.continues:
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
