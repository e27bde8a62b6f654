"""The Video object: a job in OpenAI's words, all thirteen keys always there, and what we add to them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from vitascope.jobs.job import Job, State

Status = Literal["queued", "in_progress", "completed", "failed"]
MEDIA_TYPE = "video/mp4"

STATUSES: dict[State, Status] = {
    State.QUEUED: "queued",
    State.RUNNING: "in_progress",
    State.SUCCEEDED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "failed",  # every SDK's poll loop ends on it; error.code says "cancelled"
    State.EXPIRED: "completed",
}

_EXAMPLE: JsonDict = {
    "id": "video_0123456789abcdef0123456789abcdef",
    "object": "video",
    "model": "vitascope-tiny",
    "status": "in_progress",
    "progress": 40,
    "created_at": 1758941485,
    "completed_at": None,
    "expires_at": None,
    "prompt": "a red circle moving right on a blue background",
    "size": "64x64",
    "seconds": "2.125",
    "remixed_from_video_id": None,
    "error": None,
    "fps": 8.0,
    "num_frames": 17,
    "seed": 1,
    "seeds": [1],
    "inference_time_s": None,
    "stage_durations": {},
    "peak_memory_mb": None,
    "num_outputs": 1,
    "queue_position": None,
    "eta_s": 2.4,
    "warnings": [],
    "file_name": None,
    "media_type": MEDIA_TYPE,
}


class VideoError(BaseModel):
    """Why a job failed."""

    code: str
    message: str


class Video(BaseModel):
    """One job. OpenAI's keys come first; those from `fps` on are our own."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Status
    progress: int = Field(ge=0, le=100, description="Percent; never falls.")
    created_at: int
    completed_at: int | None
    expires_at: int | None
    prompt: str | None
    size: str
    seconds: str
    remixed_from_video_id: str | None = None
    error: VideoError | None
    fps: float
    num_frames: int
    seed: int = Field(
        description="The seed that is used, given or drawn; of several outputs the first one's."
    )
    seeds: list[int] = Field(description="Every output's seed, in order; each makes the same clip alone.")
    inference_time_s: float | None = Field(description="Device seconds of this job, its wait not counted.")
    stage_durations: dict[str, float] = Field(description="Device seconds by stage.")
    peak_memory_mb: float | None
    num_outputs: int = Field(description="Clips of this job; `index` of the content's URL chooses one.")
    queue_position: int | None = Field(description="Jobs that run before this one; null once it runs.")
    eta_s: float | None = Field(description="Seconds until it is done, its wait included; null if unknown.")
    warnings: list[str]
    file_name: str | None
    media_type: str = MEDIA_TYPE


class VideoList(BaseModel):
    """One page of jobs."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "object": "list",
                "data": [_EXAMPLE],
                "first_id": _EXAMPLE["id"],
                "last_id": _EXAMPLE["id"],
                "has_more": False,
            }
        }
    )

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedVideo(BaseModel):
    """The answer to a delete."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"id": _EXAMPLE["id"], "object": "video.deleted", "deleted": True}}
    )

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


def video_of(job: Job, *, queue_position: int | None = None, eta_s: float | None = None) -> Video:
    """Return a job as the Video object; position and ETA are shown while it is unfinished."""
    request, stats = job.request, job.stats
    status = status_of(job)
    completed = status == "completed"
    return Video(
        id=job.id,
        model=request.model,
        status=status,
        progress=100 if completed else job.tally.percent,
        created_at=int(job.created_at),
        completed_at=int(job.finished_at) if completed and job.finished_at is not None else None,
        expires_at=None if job.expires_at is None else int(job.expires_at),
        prompt=request.prompt,
        size=f"{request.width}x{request.height}",
        remixed_from_video_id=job.remixed_from,
        seconds=f"{round(request.duration_s, 3):g}",
        error=error_of(job),
        fps=request.fps,
        num_frames=request.total_frames,
        seed=request.seed,
        seeds=[request.output(i).seed for i in range(request.num_outputs)],
        num_outputs=request.num_outputs,
        inference_time_s=None if stats is None else round(sum(stats.stage_s.values()), 3),
        stage_durations={} if stats is None else {k: round(v, 3) for k, v in stats.stage_s.items()},
        peak_memory_mb=None if stats is None else round(stats.peak_memory_bytes / 2**20, 1),
        queue_position=queue_position if job.state is State.QUEUED else None,
        eta_s=None if eta_s is None or job.state in ENDED else round(max(eta_s, 0.0), 2),
        warnings=list(job.warnings),
        file_name=f"{job.id}.mp4" if job.state is State.SUCCEEDED else None,
    )


ENDED = frozenset(STATUSES) - {State.QUEUED, State.RUNNING}


def status_of(job: Job) -> Status:
    """Return the job's state in OpenAI's four words."""
    if job.state is State.EXPIRED and job.stats is None:
        return "failed"
    return STATUSES[job.state]


def error_of(job: Job) -> VideoError | None:
    """Return why the job failed, or None; a cancel reads as a failure whose code says so."""
    if job.failure is not None:
        return VideoError(code=job.failure.code, message=job.failure.message)
    if status_of(job) == "failed":
        return VideoError(code="cancelled", message="The job was cancelled.")
    return None
