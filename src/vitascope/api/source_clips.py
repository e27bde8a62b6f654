"""Source clips of requests: found, measured, and kept as the request needs them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from vitascope.api.pictures import Source
from vitascope.api.reading import Reading
from vitascope.api.services import Services
from vitascope.api.views import find
from vitascope.card import ModelCard
from vitascope.errors import Expired, InvalidRequest, VideoNotFound
from vitascope.jobs.job import Job, State
from vitascope.media.clip_decoding import Facts, Fit
from vitascope.media.clip_fitting import Settled, settle
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
    settled: Settled

    def fit(self, request: GenerationRequest) -> Fit:
        """Say what the clip is brought to. Raises `InvalidRequest` where it is too short."""
        return self.settled.fit(request)


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
    facts = await services.decoding(services.clips.measure, data, param=source.param)
    return SourceClip(source.param, data, facts)


def plan(reading: Reading, card: ModelCard, clip: SourceClip) -> Plan:
    """Complete a reading by what its clip is. Raises `InvalidRequest` where that is left to the caller."""
    settled = settle(
        reading.wish,
        card,
        clip.facts,
        resize_mode=reading.resize_mode,
        keeps_rate=clip.original is not None,
        continues=reading.continues,
        sized_by=reading.sized_by,
    )
    wish = replace(settled.wish, video=None if reading.continues else TO_COME)
    if reading.continues:
        continues = Continuation(clip=TO_COME, num_frames=settled.available)
        wish = replace(wish, first_frame=TO_COME, continues=continues)
    completed = replace(reading, wish=wish, warnings=(*reading.warnings, *settled.warnings))
    return Plan(reading=completed, clip=clip, settled=settled)


async def keep(services: Services, plan: Plan, request: GenerationRequest) -> GenerationRequest:
    """Store the clip as the request needs it, and name it there. Raises `InvalidMedia`."""
    clips, clip = services.clips, plan.clip
    key = await services.decoding(clips.keep, clip.content, plan.fit(request), param=clip.param)
    if request.continues is None:
        return replace(request, video=key)
    first_frame = await services.decoding(clips.keep_last_frame, key)
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
