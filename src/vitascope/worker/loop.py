"""The worker's loop: drives the engine tick by tick; between ticks it listens, reports, previews and saves.

Encoding and saving run in threads beside the device. Whatever goes wrong in a generation ends that generation
alone: the broad `except` of this file turns it into `wire.Failed` with a message that gives nothing away.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from vitascope import wire
from vitascope.engine import events
from vitascope.engine.engine import Engine
from vitascope.engine.generation import Stage
from vitascope.errors import (
    DeviceLost,
    GenerationFailed,
    NotFound,
    OutOfMemory,
    StorageFailed,
    VitascopeError,
)
from vitascope.media.artifacts import Artifacts
from vitascope.media.clips import load_clip
from vitascope.media.inputs import load_picture
from vitascope.media.previews import to_webp
from vitascope.models.family import Media
from vitascope.request import GenerationRequest
from vitascope.worker.channel import Line
from vitascope.worker.outputs import Files, Outputs
from vitascope.worker.recording import Abandoned
from vitascope.worker.running_job import RunningJob

PREVIEW_INTERVAL_S = 0.25
THREADS = 3  # two clips being encoded, one state being saved
STATE_SUFFIX = "safetensors"
NO_MEMORY = "The machine ran out of memory; ask for a smaller size or fewer frames."
FAILED_INSIDE = "The generation failed inside the engine; the server's log says why."

log = logging.getLogger(__name__)


class Loop:
    """One engine's driver. `run` returns after a `Shutdown`, when everything is parked or finished.

    It returns, too, when the device breaks: what is done is stored, and another process takes up the rest.
    """

    def __init__(
        self, engine: Engine, line: Line, artifacts: Artifacts, *, checkpoint_interval_s: float
    ) -> None:
        self._engine = engine
        self._line = line
        self._artifacts = artifacts
        self._checkpoint_interval_s = checkpoint_interval_s
        self._jobs: dict[str, RunningJob] = {}  # on the device
        self._finishing: dict[str, RunningJob] = {}  # off it, being encoded
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="worker")
        self._stopping = False

    def run(self) -> int:
        """Work until told to stop; return the process's exit status, which is not 0 if the device broke."""
        try:
            self._work()
        except DeviceLost:
            log.exception("the device broke: this worker ends, so that another may begin")
            for job in self._jobs.values():
                job.outputs.wait()
                job.outputs.abandon()
            return 1
        finally:
            self._threads.shutdown(wait=True)
        return 0

    def _work(self) -> None:
        while not self._stopping:
            for command in self._line.take(wait=not self._engine.busy):
                self._obey(command)
            if self._engine.busy and not self._stopping:
                self._guard(self._tick, self._engine.drop_current)
        for job in list(self._jobs.values()):
            self._park(job)

    def _guard(self, work: Callable[[], None], whose: Callable[[], Sequence[str]]) -> None:
        """Work for some generations; what goes wrong ends these and no others, but for a broken device."""
        try:
            work()
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001  # the one place where a bug becomes a failed job
            for job_id in whose():
                self._fail(job_id, error)

    # ---- commands

    def _obey(self, command: wire.Command) -> None:
        match command:
            case wire.Generate():
                self._guard(partial(self._start, command), lambda: [command.job_id])
            case wire.Cancel():
                self._cancel(command)
            case wire.WatchPreview() if command.job_id in self._jobs:  # else it has left the device
                self._jobs[command.job_id].watched = command.enabled
            case wire.Shutdown():
                self._stopping = True

    def _start(self, command: wire.Generate) -> None:
        card = self._engine.card
        outputs = Outputs(command.request, card, self._artifacts, self._threads, first=command.output)
        job = self._jobs[command.job_id] = RunningJob(command, outputs)
        self._begin(job, self._read_state(command))

    def _begin(self, job: RunningJob, state: bytes | None) -> None:
        command = job.command
        anew = command.output * command.request.num_steps
        step = anew if state is None else command.resume_step
        job.resuming = state is not None
        self._engine.start(
            job.job_id,
            command.request,
            self._media(command.request),
            output=command.output,
            resume=state,
            sink=job.outputs.add,
            crowded=lambda: job.outputs.crowded,
        )
        self._line.send(wire.Started(job_id=job.job_id, token=job.token, step=step))
        self._report(job, Stage.ENCODE, step)

    def _read_state(self, command: wire.Generate) -> bytes | None:
        if command.resume_key is None:
            return None
        try:
            with self._artifacts.open(command.resume_key) as file:
                return file.read()
        except (NotFound, OSError):
            log.warning("starts anew: its saved state is gone", extra={"job_id": command.job_id})
            return None

    def _media(self, request: GenerationRequest) -> Media:
        keys = request.first_frame, request.last_frame
        first, last = (None if key is None else load_picture(self._artifacts, key) for key in keys)
        return Media(
            first, last, None if request.video is None else load_clip(self._artifacts, request.video)
        )

    def _cancel(self, command: wire.Cancel) -> None:
        job = self._jobs.get(command.job_id) or self._finishing.get(command.job_id)
        if job is not None and job.token == command.token:  # else the event that overtook it is on its way
            job.outputs.abandon()
            self._engine.cancel(command.job_id)

    # ---- events

    def _tick(self) -> None:
        for event in self._engine.tick():
            self._guard(partial(self._hear, event), partial(_one, event.job_id))

    def _hear(self, event: events.Event) -> None:
        job = self._jobs.get(event.job_id)
        match event:
            case _ if job is None:
                return  # it failed outside the engine and was cancelled there
            case events.Advanced() | events.Completed() if job.outputs.failure is not None:
                self._fail(job.job_id, job.outputs.failure)  # of an earlier output's files
            case events.Warned():
                self._line.send(wire.Warned(job_id=job.job_id, token=job.token, warnings=event.warnings))
            case events.Advanced():
                self._advance(job, event)
            case events.Completed() if event.last:
                self._complete(job, event.cost)
            case events.Completed():
                job.outputs.end(partial(self._output_stored, job))
                steps_done = (event.output + 1) * job.request.num_steps
                self._report(job, Stage.ENCODE, steps_done)
            case events.Cancelled():
                self._release(job)
                self._line.send(wire.Cancelled(job_id=job.job_id, token=job.token))
            case events.Failed():
                self._fail_or_restart(job, event.error)

    def _advance(self, job: RunningJob, event: events.Advanced) -> None:
        job.resuming = False
        self._report(job, event.stage, event.step)
        if event.stage != Stage.DENOISE:
            return
        now = time.monotonic()
        if job.watched and now - job.previewed_at >= PREVIEW_INTERVAL_S:
            self._preview(job, event.step)
        due = now - job.saved_at >= self._checkpoint_interval_s
        if due and job.saved.done() and job.outputs.settled:
            job.saved_at = now
            self._save(job)

    def _report(self, job: RunningJob, stage: str, step: int) -> None:
        total = job.request.all_steps
        self._line.send(
            wire.Progress(job_id=job.job_id, token=job.token, stage=stage, step=step, num_steps=total)
        )

    def _preview(self, job: RunningJob, step: int) -> None:
        try:
            picture = self._engine.preview(job.job_id)
        except OutOfMemory:
            job.previewed_at = time.monotonic()  # the next try is after a while, not after every step
            log.warning("no preview: the device lacks the memory for it", extra={"job_id": job.job_id})
            return
        if picture is not None:
            job.previewed_at = time.monotonic()
            self._line.send(wire.Preview(job_id=job.job_id, step=step, image=to_webp(picture)))

    def _complete(self, job: RunningJob, cost: events.Cost) -> None:
        """Free the device; the files come later, from a thread."""
        self._release(job)
        self._finishing[job.job_id] = job
        self._report(job, "finish", job.request.all_steps)
        job.outputs.end(partial(self._recorded, job, cost, time.perf_counter()))

    def _output_stored(self, job: RunningJob, files: Files | BaseException) -> None:
        """Tell of an output before the last; its failure ends the job on the loop's own thread."""
        if not isinstance(files, BaseException):
            self._line.send(wire.OutputStored(job_id=job.job_id, token=job.token, files=files))

    def _recorded(
        self, job: RunningJob, cost: events.Cost, began: float, files: Files | BaseException
    ) -> None:
        del self._finishing[job.job_id]
        if not isinstance(files, BaseException):
            stage_s = cost.stage_s | {"finish": time.perf_counter() - began}
            steps = job.request.num_steps
            stats = wire.Stats(
                stage_s=stage_s, peak_memory_bytes=cost.peak_memory_bytes, num_inference_steps=steps
            )
            self._line.send(wire.Finished(job_id=job.job_id, token=job.token, files=files, stats=stats))
        elif isinstance(files, Abandoned):
            self._line.send(wire.Cancelled(job_id=job.job_id, token=job.token))
        else:
            self._line.send(_failed(job, files))

    def _release(self, job: RunningJob) -> None:
        del self._jobs[job.job_id]

    # ---- failures

    def _fail_or_restart(self, job: RunningJob, error: VitascopeError) -> None:
        """End a job, unless it was its saved state that was of no use: then it starts anew."""
        if job.resuming and isinstance(error, GenerationFailed):
            log.warning("starts anew: %s", error, extra={"job_id": job.job_id})
            self._begin(job, None)
        else:
            self._fail(job.job_id, error)

    def _fail(self, job_id: str, error: BaseException) -> None:
        self._engine.cancel(job_id)  # if it failed outside the engine
        job = self._jobs.get(job_id)
        if job is not None:
            job.outputs.abandon()
            self._release(job)
            self._line.send(_failed(job, error))

    # ---- saved states

    def _save(self, job: RunningJob) -> None:
        """Write a checkpoint, beside the device."""
        snapshot = self._engine.snapshot(job.job_id)
        if snapshot is not None:
            job.saved = self._threads.submit(self._artifacts.put, snapshot.state, STATE_SUFFIX)
            job.saved.add_done_callback(partial(self._saved, job, snapshot.step))

    def _saved(self, job: RunningJob, step: int, key: Future[str]) -> None:
        if key.exception() is not None:  # the job goes on; it would have farther to go back
            log.warning("the state is not saved: %s", key.exception(), extra={"job_id": job.job_id})
            return
        self._line.send(wire.Checkpointed(job_id=job.job_id, token=job.token, step=step, key=key.result()))

    def _park(self, job: RunningJob) -> None:
        """Give a job back at its step boundary, with its state if it can be saved."""
        job.outputs.wait()
        if job.outputs.failure is not None:
            self._fail(job.job_id, job.outputs.failure)
            return
        job.outputs.abandon()
        snapshot = self._engine.park(job.job_id)
        key = None
        try:
            key = None if snapshot is None else self._artifacts.put(snapshot.state, STATE_SUFFIX)
        except (OSError, StorageFailed):
            log.exception("the state is not saved", extra={"job_id": job.job_id})
        step = job.command.resume_step if snapshot is None else snapshot.step
        self._line.send(wire.Parked(job_id=job.job_id, token=job.token, step=step, key=key))


def _one(job_id: str) -> list[str]:
    return [job_id]


def _failed(job: RunningJob, error: BaseException) -> wire.Failed:
    """Tell of an error what a client may know; the log has the rest."""
    if isinstance(error, VitascopeError):
        log.warning("failed: %s", error, extra={"job_id": job.job_id})
        code, message, retryable = error.code, error.message, error.retryable
    else:
        log.error("failed", exc_info=error, extra={"job_id": job.job_id})
        code, message, retryable = GenerationFailed.code, FAILED_INSIDE, False
        if isinstance(error, MemoryError):  # beside the engine, which knows its own
            code, message = OutOfMemory.code, NO_MEMORY
    return wire.Failed(job_id=job.job_id, token=job.token, code=code, message=message, retryable=retryable)
