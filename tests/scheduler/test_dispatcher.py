"""The dispatcher, with a real store and a fleet whose workers are the test."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from vitascope.card import Defaults, ModelCard, Rules
from vitascope.config import Settings
from vitascope.errors import NotFound, StoreUnavailable
from vitascope.jobs.job import Job, State, new_id
from vitascope.jobs.launches import MemoryLaunches
from vitascope.jobs.memory import MemoryStore
from vitascope.request import GenerationRequest
from vitascope.scheduler import offload
from vitascope.scheduler.dispatcher import Dispatcher
from vitascope.scheduler.fleet import Lost
from vitascope.scheduler.launcher import Launcher
from vitascope.scheduler.roster import Roster
from vitascope.wire import (
    Cancel,
    Cancelled,
    Checkpointed,
    Failed,
    Finished,
    Generate,
    OutputStored,
    Parked,
    Preview,
    Progress,
    Ready,
    Started,
    Stats,
    StoredFile,
    Warned,
    WatchPreview,
)

PATIENCE_S = 600.0  # a net for what hangs
W1, W2 = "worker-0.1", "worker-0.2"  # one berth: the second is started when the first is lost
CARD = ModelCard(
    name="m", family="f", tasks=("t2v",), identity="x",
    defaults=Defaults(height=8, width=8, num_frames=5, fps=8.0, num_inference_steps=4, guidance_scale=1.0),
    rules=Rules(size_multiple=8, frame_stride=4, max_pixels=64, max_frames=5),
)  # fmt: skip
STATS = Stats(stage_s={"denoise": 4.0, "decode": 1.0}, peak_memory_bytes=1, num_inference_steps=4)
CLIP = StoredFile(variant="video", key="clip", media_type="video/mp4", size_bytes=1, sha256="")


class Files(set):
    """Artifacts as a set of keys."""

    def delete(self, key: str) -> None:
        self.discard(key)


class WatchedStore(MemoryStore):
    """Tells whenever the dispatcher looks for work."""

    def __init__(self, looks: asyncio.Queue, **options) -> None:
        super().__init__(**options)
        self._looks, self._loop = looks, asyncio.get_running_loop()

    def waiting(self):
        self._loop.call_soon_threadsafe(self._looks.put_nowait, None)
        return super().waiting()


class FaultyStore(WatchedStore):
    """A database that goes down at the next call of one kind: before it is done, or before its answer came.

    `down` is set as soon as it is asked in vain; `up` has it answer again.
    """

    def __init__(self, looks: asyncio.Queue, **options) -> None:
        super().__init__(looks, **options)
        self.down, self.up = asyncio.Event(), threading.Event()
        self.faults: dict[str, str] = {}

    def _fail(self) -> None:
        self._loop.call_soon_threadsafe(self.down.set)
        raise StoreUnavailable("server closed the connection unexpectedly")

    def __getattribute__(self, name: str):
        call = super().__getattribute__(name)
        if name not in super().__getattribute__("__dict__").get("faults", ()):
            return call

        def faulty(*args, **kwargs):
            if not self.up.is_set() and self.faults[name] == "undone":
                self._fail()
            done = call(*args, **kwargs)
            if not self.up.is_set():
                self.up.set()
                self._fail()
            return done

        return faulty


class Bench:
    """A dispatcher on a bench: the test speaks as the workers and reads what they are sent."""

    def __init__(self, max_attempts: int = 3, store: type[WatchedStore] = WatchedStore) -> None:
        self.looks: asyncio.Queue = asyncio.Queue()
        self.store = store(self.looks, on_change=lambda _: self.wake())
        self.files = Files()
        self.news: asyncio.Queue = asyncio.Queue()
        self.sent: asyncio.Queue = asyncio.Queue()
        roster = Roster()
        self.launcher = Launcher(Settings(model_name="m"), MemoryLaunches(), self, roster)
        self.dispatcher = Dispatcher(
            self.store, self.files, self, self.launcher, roster, max_attempts=max_attempts
        )

    def wake(self) -> None:
        self.dispatcher.wake()

    def start(self, berth, settings) -> None:
        """Start no worker: the test is it."""

    async def end(self, berth) -> None:
        """End none."""

    def send(self, worker, command) -> None:
        self.sent.put_nowait((worker, command))

    def submit(self, num_outputs: int = 1, model: str = "m") -> Job:
        request = GenerationRequest(
            model=model, prompt="p", negative_prompt="", height=8, width=8, num_frames=5, fps=8.0,
            num_inference_steps=4, guidance_scale=1.0, seed=0, num_outputs=num_outputs,
        )  # fmt: skip
        return self.store.submit(Job(id=new_id(), request=request, created_at=0.0))

    async def say(self, *events, worker: str = W1) -> None:
        """Speak as a worker; return when the dispatcher has heard and written all."""
        for event in events:
            self.news.put_nowait((worker, event))
        await asyncio.wait_for(self.dispatcher.drain(), PATIENCE_S)

    async def command(self, kind, worker: str = W1):
        name, command = await asyncio.wait_for(self.sent.get(), PATIENCE_S)
        assert isinstance(command, kind), command
        assert name == worker
        return command

    async def started(self, worker: str = W1) -> Generate:
        """Return the next job that was handed out, already on the device."""
        command = await self.command(Generate, worker)
        await self.say(Started(job_id=command.job_id, token=command.token, step=0), worker=worker)
        return command

    async def settled(self) -> None:
        """Return once the dispatcher has looked at the store again and has nothing to do."""
        while not self.looks.empty():
            self.looks.get_nowait()
        # The first look may have begun before this call; the third begins when the second is over.
        for _ in range(3):
            self.wake()
            await asyncio.wait_for(self.looks.get(), PATIENCE_S)


@asynccontextmanager
async def running(bench: Bench, ready: bool = True):
    await bench.launcher.start()
    task = asyncio.create_task(bench.dispatcher.run())
    if ready:
        await bench.say(Ready(card=CARD, pid=1))
    try:
        yield bench
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await bench.launcher.close()
        bench.dispatcher.close()


def progress(command: Generate, step: int, stage: str = "denoise") -> Progress:
    return Progress(job_id=command.job_id, token=command.token, stage=stage, step=step, num_steps=4)


def finished(command: Generate) -> Finished:
    return Finished(job_id=command.job_id, token=command.token, files=(CLIP,), stats=STATS)


async def test_a_job_runs_from_claim_to_file():
    async with running(Bench()) as bench:
        job = bench.submit()
        command = await bench.started()
        assert (command.job_id, command.request, command.resume_key) == (job.id, job.request, None)
        await bench.say(finished(command))
        done = bench.store.get(job.id)
        assert (done.state, done.files, done.stats, done.tally.percent) == (
            State.SUCCEEDED,
            (CLIP,),
            STATS,
            100,
        )


async def test_nothing_is_handed_out_before_a_worker_is_ready():
    async with running(Bench(), ready=False) as bench:
        bench.submit()
        await bench.settled()
        assert bench.sent.empty()
        assert not bench.dispatcher.ready()
        await bench.say(Ready(card=CARD, pid=1))
        await bench.started()
        assert (bench.dispatcher.ready(), list(bench.dispatcher.cards())) == (True, [CARD])


async def test_the_next_job_comes_when_the_first_has_left_the_device():
    async with running(Bench()) as bench:
        first, second = bench.submit(), bench.submit()
        command = await bench.started()
        await bench.say(progress(command, 4), progress(command, 4, "decode"))
        await bench.settled()
        assert bench.sent.empty()
        await bench.say(progress(command, 4, "finish"))
        assert (await bench.started()).job_id == second.id
        await bench.say(finished(command))
        assert bench.store.get(first.id).state is State.SUCCEEDED
        assert bench.store.get(second.id).state is State.RUNNING


async def test_the_last_progress_of_a_stage_is_always_written():
    async with running(Bench()) as bench:
        seen = []
        bench.store.progress = _spy(bench.store.progress, seen)
        bench.submit()
        command = await bench.started()
        await bench.say(*[progress(command, step) for step in range(1, 5)], progress(command, 4, "decode"))
        assert ("denoise", 4) in [(tally.stage, tally.step) for _, _, tally in seen]
        await bench.say(finished(command))
        assert ("decode", 4) in [(tally.stage, tally.step) for _, _, tally in seen]


def _spy(call, seen):
    def spied(*args):
        seen.append(args)
        return call(*args)

    return spied


async def test_progress_is_written_soon_and_not_each_time():
    async with running(Bench()) as bench:
        job = bench.submit()
        seen = []
        bench.store.progress = _spy(bench.store.progress, seen)
        command = await bench.started()
        version = asyncio.get_running_loop().create_future()
        bench.store._on_change = lambda _: version.get_loop().call_soon_threadsafe(
            lambda: version.done() or version.set_result(None)
        )
        for _ in range(100):
            bench.news.put_nowait((W1, progress(command, 3)))
        await asyncio.wait_for(version, PATIENCE_S)
        await asyncio.wait_for(bench.dispatcher.drain(), PATIENCE_S)
        assert bench.store.get(job.id).tally.percent == 75
        assert len(seen) <= 3


async def test_a_cancel_reaches_the_worker_and_frees_it():
    async with running(Bench()) as bench:
        job, second = bench.submit(), bench.submit()
        command = await bench.started()
        bench.store.request_cancel(job.id, 1.0)
        cancel = await bench.command(Cancel)
        assert (cancel.job_id, cancel.token) == (job.id, command.token)
        assert bench.store.get(job.id).state is State.RUNNING
        await bench.say(Cancelled(job_id=job.id, token=command.token))
        assert bench.store.get(job.id).state is State.CANCELLED
        assert (await bench.started()).job_id == second.id


async def test_a_job_cancelled_while_it_waits_never_runs():
    async with running(Bench(), ready=False) as bench:
        job, second = bench.submit(), bench.submit()
        bench.store.request_cancel(job.id, 1.0)
        await bench.say(Ready(card=CARD, pid=1))
        assert (await bench.started()).job_id == second.id


async def test_a_warning_is_written_before_the_job_is_done_and_once_if_it_is_made_again():
    async with running(Bench()) as bench:
        job = bench.submit()
        command = await bench.started()
        await bench.say(Warned(job_id=job.id, token=command.token, warnings=("too long",)))
        assert bench.store.get(job.id).warnings == ("too long",)
        await bench.say(Lost(-9), Ready(card=CARD, pid=2))
        again = await bench.started()
        late = Warned(job_id=job.id, token=command.token, warnings=("too late",))
        await bench.say(late, Warned(job_id=job.id, token=again.token, warnings=("too long",)))
        await bench.say(finished(again))
        done = bench.store.get(job.id)
        assert (done.state, done.warnings) == (State.SUCCEEDED, ("too long",))


async def test_a_lost_workers_job_goes_on_elsewhere_from_its_checkpoint():
    async with running(Bench()) as bench:
        job = bench.submit()
        command = await bench.started()
        await bench.say(Checkpointed(job_id=job.id, token=command.token, step=2, key="ck2"))
        await bench.say(Lost(-9))
        assert bench.store.get(job.id).state is State.QUEUED
        assert not bench.dispatcher.ready()
        await bench.say(Ready(card=CARD, pid=2), worker=W2)
        again = await bench.started(W2)
        assert (again.job_id, again.resume_key, again.token > command.token) == (job.id, "ck2", True)


async def test_a_job_that_keeps_losing_its_worker_fails():
    async with running(Bench(max_attempts=2)) as bench:
        job = bench.submit()
        await bench.started()
        await bench.say(Lost(-9))
        await bench.say(Ready(card=CARD, pid=2), worker=W2)
        await bench.started(W2)
        await bench.say(Lost(-11), worker=W2)
        lost = bench.store.get(job.id)
        assert (lost.state, lost.failure.code) == (State.FAILED, "worker_lost")


async def test_a_worker_lost_while_a_job_is_claimed_for_it_loses_no_job():
    async with running(Bench(), ready=False) as bench:
        claim, claiming, lost = bench.store.claim, threading.Event(), threading.Event()

        def slow(*args):
            claiming.set()
            assert lost.wait(PATIENCE_S)
            return claim(*args)

        bench.store.claim = slow
        job = bench.submit()
        await bench.say(Ready(card=CARD, pid=1))
        assert await asyncio.to_thread(claiming.wait, PATIENCE_S)
        await bench.say(Lost(-9))
        bench.store.claim = claim
        lost.set()
        await bench.say(Ready(card=CARD, pid=2), worker=W2)
        assert (await bench.started(W2)).job_id == job.id
        assert bench.store.get(job.id).claim.attempts == 1


async def test_a_late_report_of_an_old_claim_changes_nothing_and_leaves_no_file():
    async with running(Bench()) as bench:
        job = bench.submit()
        old = await bench.started()
        await bench.say(Lost(-9))
        await bench.say(Ready(card=CARD, pid=2), worker=W2)
        await bench.started(W2)
        bench.files |= {"clip", "ck9"}
        before = bench.store.get(job.id)
        await bench.say(Checkpointed(job_id=job.id, token=old.token, step=3, key="ck9"), finished(old))
        assert bench.store.get(job.id) == before
        assert bench.files == set()


async def test_replaced_and_spent_checkpoints_are_removed():
    async with running(Bench()) as bench:
        job = bench.submit()
        command = await bench.started()
        bench.files |= {"ck1", "ck2", "clip"}
        await bench.say(Checkpointed(job_id=job.id, token=command.token, step=1, key="ck1"))
        await bench.say(Checkpointed(job_id=job.id, token=command.token, step=2, key="ck2"))
        assert bench.files == {"ck2", "clip"}
        await bench.say(finished(command))
        assert bench.files == {"clip"}


def stored(command: Generate, output: int) -> OutputStored:
    clip = replace(CLIP, key=f"clip{output}", output=output)
    return OutputStored(job_id=command.job_id, token=command.token, files=(clip,))


async def test_outputs_that_are_stored_are_not_asked_for_again():
    async with running(Bench()) as bench:
        job = bench.submit(num_outputs=3)
        command = await bench.started()
        bench.files |= {"ck1", "clip0"}
        await bench.say(Checkpointed(job_id=job.id, token=command.token, step=1, key="ck1"))
        await bench.say(stored(command, 0))
        assert bench.files == {"clip0"}
        await bench.say(Lost(-9))
        await bench.say(Ready(card=CARD, pid=2), worker=W2)
        again = await bench.started(W2)
        assert (command.output, again.output, again.resume_key, again.resume_step) == (0, 1, None, 4)
        await bench.say(stored(again, 1), finished(again), worker=W2)
        done = bench.store.get(job.id)
        assert (done.state, [file.key for file in done.files]) == (
            State.SUCCEEDED,
            ["clip0", "clip1", "clip"],
        )
        assert bench.files == {"clip0"}


@pytest.mark.parametrize("ending", [Cancelled, Failed, Lost])
async def test_a_job_that_ends_before_its_last_output_leaves_no_file(ending):
    async with running(Bench(max_attempts=1)) as bench:
        job = bench.submit(num_outputs=2)
        command = await bench.started()
        bench.files |= {"clip0"}
        await bench.say(stored(command, 0))
        about = {"job_id": job.id, "token": command.token}
        if ending is Failed:
            await bench.say(Failed(code="out_of_memory", message="Too large.", **about))
        else:
            await bench.say(Lost(-9) if ending is Lost else Cancelled(**about))
        assert bench.store.get(job.id).state in {State.CANCELLED, State.FAILED}
        assert bench.files == set()


async def test_an_output_of_an_old_claim_is_removed():
    async with running(Bench()) as bench:
        bench.submit(num_outputs=2)
        old = await bench.started()
        await bench.say(Lost(-9))
        bench.files |= {"clip0"}
        await bench.say(stored(old, 0))
        assert bench.files == set()


async def test_a_job_deleted_while_it_ran_leaves_no_file():
    async with running(Bench()) as bench:
        job = bench.submit()
        command = await bench.started()
        bench.files |= {"clip"}
        bench.store.delete(job.id, 1.0)
        await bench.command(Cancel)
        await bench.say(finished(command))  # it overtook the cancel
        with pytest.raises(NotFound):
            bench.store.get(job.id)
        assert bench.files == set()


async def test_a_failed_generation_says_why():
    async with running(Bench()) as bench:
        job = bench.submit()
        command = await bench.started()
        await bench.say(
            Failed(job_id=job.id, token=command.token, code="out_of_memory", message="Too large.")
        )
        failed = bench.store.get(job.id)
        assert (failed.state, failed.failure.code, failed.failure.message) == (
            State.FAILED, "out_of_memory", "Too large.",
        )  # fmt: skip


async def test_a_retryable_failure_is_tried_again_as_often_as_allowed():
    async with running(Bench(max_attempts=2)) as bench:
        job = bench.submit()
        for _ in range(2):
            command = await bench.started()
            await bench.say(Failed(job_id=job.id, token=command.token, code="c", message="m", retryable=True))
        assert bench.store.get(job.id).state is State.FAILED


async def test_the_log_follows_a_job_to_its_end(caplog):
    caplog.set_level(logging.INFO, logger="vitascope.scheduler")
    async with running(Bench(max_attempts=2)) as bench:
        job = bench.submit()
        for _ in range(2):
            command = await bench.started()
            await bench.say(Failed(job_id=job.id, token=command.token, code="c", message="m", retryable=True))
    lines = [r.getMessage() for r in caplog.records if getattr(r, "job_id", None) == job.id]
    assert [line.partition(",")[0] for line in lines[:-1]] == [
        "given to worker-0.1",
        "given back: queued",
        "given to worker-0.1",
    ]
    assert re.fullmatch(r"failed \(c\), [\d.]+ s after it came", lines[-1])


async def test_a_parked_job_waits_at_its_place_with_its_attempt_given_back():
    async with running(Bench()) as bench:
        job = bench.submit()
        command = await bench.started()
        bench.dispatcher.stop_intake()
        await bench.say(Parked(job_id=job.id, token=command.token, step=3, key="ck3"))
        parked = bench.store.get(job.id)
        assert (parked.state, parked.claim.attempts, parked.claim.resume_key) == (State.QUEUED, 0, "ck3")
        await bench.settled()
        assert bench.sent.empty()


async def test_a_restarted_server_takes_up_what_ran_without_blame():
    bench = Bench()
    job = bench.submit()
    bench.store.claim(job.id, "of the dead server", 1.0)
    await bench.dispatcher.recover()
    assert (bench.store.get(job.id).state, bench.store.get(job.id).claim.attempts) == (State.QUEUED, 0)
    bench.dispatcher.close()


async def test_previews_are_asked_for_only_while_somebody_watches():
    async with running(Bench()) as bench:
        job = bench.submit()
        await bench.started()
        seen = []
        with bench.dispatcher.watch_preview(job.id, seen.append):
            assert (await bench.command(WatchPreview)).enabled
            with bench.dispatcher.watch_preview(job.id, seen.append):
                await bench.say(Preview(job_id=job.id, step=1, image=b"webp"))
        assert not (await bench.command(WatchPreview)).enabled
        await bench.say(Preview(job_id=job.id, step=2, image=b"webp"))
        assert [preview.step for preview in seen] == [1, 1]


async def test_who_watches_a_waiting_job_gets_previews_once_it_runs():
    async with running(Bench(), ready=False) as bench:
        job = bench.submit()
        with bench.dispatcher.watch_preview(job.id, print):
            await bench.say(Ready(card=CARD, pid=1))
            await bench.command(Generate)
            assert (await bench.command(WatchPreview)).enabled


async def test_an_eta_is_unknown_at_first_and_counts_those_before(monkeypatch):
    async with running(Bench()) as bench:
        first, second, third = bench.submit(), bench.submit(), bench.submit()
        command = await bench.started()
        assert [bench.dispatcher.eta_s(job) for job in (first, second)] == [None, None]
        await bench.say(finished(command))  # 4 s of steps and 1 s after
        await bench.started()
        await bench.settled()
        now = bench.launcher._roster.held[second.id].seen_at
        monkeypatch.setattr("vitascope.scheduler.roster.time", SimpleNamespace(monotonic=lambda: now))
        assert bench.dispatcher.eta_s(second) == pytest.approx(5.0)
        assert bench.dispatcher.eta_s(third) == pytest.approx(10.0)


async def test_why_no_worker_is_ready_is_told_until_one_is():
    async with running(Bench(), ready=False) as bench:
        assert bench.dispatcher.trouble() is None
        await bench.say(Lost(-9))
        assert "-9" in bench.dispatcher.trouble()
        await bench.say(Ready(card=CARD, pid=2), worker=W2)
        assert bench.dispatcher.trouble() is None


async def test_jobs_of_a_terminated_model_fail_and_leave_no_file():
    async with running(Bench()) as bench:
        held, waiting = bench.submit(), bench.submit()
        command = await bench.started()
        bench.files |= {"ck1"}
        await bench.say(Checkpointed(job_id=held.id, token=command.token, step=1, key="ck1"))
        await bench.launcher.terminate("m")
        await bench.say(Lost(-9, final=True))
        await bench.settled()
        for job in (held, waiting):
            ended = bench.store.get(job.id)
            assert (ended.state, ended.failure.code) == (State.FAILED, "model_not_available")
        assert bench.files == set()
        assert bench.sent.empty()


async def test_a_job_whose_model_was_not_launched_again_fails_at_the_start():
    bench = Bench()
    job = bench.submit(model="gone")
    async with running(bench):
        await bench.settled()
        assert bench.store.get(job.id).failure.code == "model_not_available"


async def test_a_worker_that_is_ready_after_its_model_was_terminated_gets_no_job():
    async with running(Bench(), ready=False) as bench:
        await bench.launcher.terminate("m")
        await bench.say(Ready(card=CARD, pid=1))
        bench.submit()
        await bench.settled()
        assert bench.sent.empty()
        assert not bench.dispatcher.ready()


async def test_a_slow_store_never_blocks_the_event_loop():
    async with running(Bench()) as bench:
        entered, passed, late = threading.Event(), threading.Event(), []
        waiting = bench.store.waiting

        def slow():
            entered.set()
            late.append(not passed.wait(PATIENCE_S))
            return waiting()

        bench.store.waiting = slow  # a disk that takes its time
        bench.wake()
        await asyncio.to_thread(entered.wait, PATIENCE_S)
        await bench.say(Preview(job_id="j", step=1, image=b""))
        passed.set()
        await bench.settled()
        assert not any(late)


async def test_a_job_whose_worker_hangs_goes_on_from_its_checkpoint_and_the_last_time_fails():
    async with running(Bench(max_attempts=2)) as bench:
        job = bench.submit()
        command = await bench.started()
        await bench.say(Checkpointed(job_id=job.id, token=command.token, step=2, key="ck2"))
        await bench.say(Lost(-9, hung_s=1801.0))
        await bench.say(Ready(card=CARD, pid=2), worker=W2)
        again = await bench.command(Generate, W2)
        assert (again.resume_key, again.resume_step) == ("ck2", 2)
        await bench.say(Lost(-9, hung_s=1801.0), worker=W2)
        failed = bench.store.get(job.id)
        assert (failed.state, failed.failure.code) == (State.FAILED, "worker_hung")
        assert "no headway for 1801 s" in failed.failure.message
        assert "the last of 2 attempts" in failed.failure.message


LIFE = ["waiting", "claim", "progress", "checkpoint", "store_output", "succeed"]


@pytest.mark.parametrize("fault", ["undone", "unanswered"])
@pytest.mark.parametrize("call", LIFE)
async def test_a_database_that_goes_down_at_any_call_loses_nothing_and_does_nothing_twice(
    monkeypatch, call, fault
):
    monkeypatch.setattr(offload, "MAX_PAUSE_S", 0.001)
    async with running(Bench(store=FaultyStore)) as bench:
        bench.store.faults = {call: fault}
        bench.files.update({"ck1", "clip", "later"})
        job = bench.submit(num_outputs=2)
        if call in LIFE[:2]:
            await asyncio.wait_for(bench.store.down.wait(), PATIENCE_S)
            bench.store.up.set()
        command = await bench.started()
        held = {"job_id": job.id, "token": command.token}
        later = replace(CLIP, key="later", output=1)
        said = [
            progress(command, 1),
            Checkpointed(step=1, key="ck1", **held),
            OutputStored(files=(CLIP,), **held),
            Finished(files=(later,), stats=STATS, **held),
        ]
        speaking = asyncio.create_task(bench.say(*said))
        await asyncio.wait_for(bench.store.down.wait(), PATIENCE_S)
        bench.store.up.set()
        await speaking
        done = bench.store.get(job.id)
        assert (done.state, done.files, done.claim.token) == (State.SUCCEEDED, (CLIP, later), 1)
        assert {"clip", "later"} <= bench.files
        assert bench.sent.empty()
        follower = bench.submit()
        assert (await bench.started()).job_id == follower.id  # the worker is known to be free


async def test_a_job_that_is_cancelled_and_deleted_while_it_is_claimed_holds_nobody_up():
    class HastyCaller(WatchedStore):
        def claim(self, job_id, worker, now):
            if job_id != doomed:
                return super().claim(job_id, worker, now)
            self.request_cancel(job_id, now)
            try:
                return super().claim(job_id, worker, now)
            finally:
                self.delete(job_id, now)

    async with running(Bench(store=HastyCaller), ready=False) as bench:
        doomed = bench.submit().id
        second = bench.submit()
        await bench.say(Ready(card=CARD, pid=1))
        assert (await bench.started()).job_id == second.id


async def test_a_database_that_stays_down_does_not_keep_the_server_from_stopping(monkeypatch):
    monkeypatch.setattr(offload, "MAX_PAUSE_S", 0.01)
    bench = Bench(store=FaultyStore)
    bench.store.faults = {"waiting": "undone"}
    dispatching = asyncio.create_task(bench.dispatcher.run())
    await asyncio.wait_for(bench.store.down.wait(), PATIENCE_S)
    bench.dispatcher.stop_intake()
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(dispatching, PATIENCE_S)
    bench.dispatcher.close()


async def test_a_file_that_cannot_be_removed_holds_nobody_up(caplog):
    class Stuck(Files):
        def delete(self, key: str) -> None:
            raise OSError(30, "Read-only file system")

    bench = Bench()
    bench.dispatcher._reports._files = Stuck()
    async with running(bench):
        job = bench.submit()
        command = await bench.started()
        held = {"job_id": job.id, "token": command.token}
        await bench.say(Checkpointed(step=1, key="ck1", **held))
        await bench.say(Finished(files=(CLIP,), stats=STATS, **held))
        assert bench.store.get(job.id).state is State.SUCCEEDED
    assert "a file is not removed: Read-only file system" in caplog.text
