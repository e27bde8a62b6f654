"""The loop, with the real engine and a toy family; the test is the server."""

from __future__ import annotations

import hashlib
import math
import queue
import threading
import time
import wave
from dataclasses import replace
from io import BytesIO

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vitascope import wire
from vitascope.engine.engine import Engine
from vitascope.errors import OutOfMemory
from vitascope.media.artifacts import FolderArtifacts
from vitascope.media.inputs import keep_picture
from vitascope.media.lossless import SUFFIX, LosslessWriter
from vitascope.media.video import VideoWriter, read_video
from vitascope.request import Continuation
from vitascope.worker.loop import Loop

NEVER_S = 1e9
PATIENCE_S = 600.0  # a net for what hangs
NUM_FILES = 3  # of a finished clip: video, thumbnail, spritesheet


class Server:
    """The other end of a loop that runs in a thread of its own."""

    def __init__(self, family, artifacts, checkpoint_interval_s: float = NEVER_S) -> None:
        self._commands: queue.SimpleQueue = queue.SimpleQueue()
        self.events: queue.SimpleQueue = queue.SimpleQueue()
        self._saved: list[int] = []
        self.loop = Loop(Engine(family), self, artifacts, checkpoint_interval_s=checkpoint_interval_s)
        self.status: int | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.status = self.loop.run()

    def take(self, *, wait: bool) -> list:
        commands = [self._commands.get()] if wait else []
        while not self._commands.empty():
            commands.append(self._commands.get())
        return commands

    def send(self, event) -> None:
        self.events.put(event)
        if isinstance(event, wire.Checkpointed):
            self._saved.append(event.step)

    def wait_saved(self, beyond: int = 0) -> None:
        """Return once a state after more steps than that is saved; for the loop's own thread."""
        while not any(step > beyond for step in self._saved):
            time.sleep(0.001)

    def command(self, *commands) -> None:
        for command in commands:
            self._commands.put(command)

    def until(self, kind, job_id: str | None = None) -> tuple:
        """Return the next event of a kind, and all that came before it."""
        before = []
        while True:
            event = self.events.get(timeout=PATIENCE_S)
            if isinstance(event, kind) and job_id in {None, event.job_id}:
                return event, before
            before.append(event)

    def stop(self) -> list:
        """Shut the loop down, return what it said until its end."""
        self.command(wire.Shutdown())
        return self.end()

    def end(self) -> list:
        """Wait for the loop's end, return what it said until then."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        said = []
        while not self.events.empty():
            said.append(self.events.get())
        return said


@pytest.fixture
def artifacts(tmp_path):
    return FolderArtifacts(tmp_path / "artifacts")


@pytest.fixture
def serve(family, artifacts):
    servers = []

    def start(**options) -> Server:
        servers.append(Server(family, artifacts, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def generate(make_request):
    def make(
        job_id: str = "a", token: int = 1, output: int = 0, resume_key=None, resume_step: int = 0, **changes
    ):
        return wire.Generate(
            job_id=job_id, token=token, request=make_request(**changes), output=output,
            resume_key=resume_key, resume_step=resume_step,
        )  # fmt: skip

    return make


def progress_of(events) -> list[tuple[str, int]]:
    return [(e.stage, e.step) for e in events if isinstance(e, wire.Progress)]


def clip_of(artifacts, finished: wire.Finished) -> bytes:
    return artifacts.path(finished.files[0].key).read_bytes()


def test_a_job_tells_every_step_and_its_file_is_there_when_it_says_so(serve, generate, artifacts):
    server = serve()
    server.command(generate(token=7))
    finished, before = server.until(wire.Finished)
    assert before[0] == wire.Started(job_id="a", token=7, step=0)
    steps = progress_of(before)
    assert [p for p in steps if p[0] in {"encode", "denoise", "finish"}] == [
        ("encode", 0), ("denoise", 0), ("denoise", 1), ("denoise", 2), ("denoise", 3), ("finish", 4),
    ]  # fmt: skip
    file = finished.files[0]
    assert (finished.token, file.variant, file.size_bytes) == (7, "video", len(clip_of(artifacts, finished)))
    assert read_video(artifacts.path(file.key)).frames.shape == (5, 16, 16, 3)
    assert set(finished.stats.stage_s) == {"encode", "denoise", "decode", "finish"}


def test_a_warning_is_told_before_any_step(serve, generate):
    server = serve()
    server.command(generate(token=7, prompt="x" * 100))
    _, before = server.until(wire.Finished)
    kinds = [type(event) for event in before]
    (warned,) = [event for event in before if isinstance(event, wire.Warned)]
    assert (warned.job_id, warned.token, len(warned.warnings)) == ("a", 7, 1)
    assert progress_of(before[: kinds.index(wire.Warned)]) == [("encode", 0)]


def test_a_clip_comes_with_its_stills(serve, generate, artifacts):
    server = serve()
    server.command(generate())
    files = server.until(wire.Finished)[0].files
    assert [file.variant for file in files] == ["video", "thumbnail", "spritesheet"]
    assert {file.key for file in files} == set(artifacts.keys())
    for file, kind, size in zip(
        files[1:], ("WEBP", "JPEG"), ((16, 16), (4 * 18 - 2, 2 * 18 - 2)), strict=True
    ):
        data = artifacts.path(file.key).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size_bytes, file.sha256)
        with Image.open(BytesIO(data)) as image:
            assert (image.format, image.size) == (kind, size)
            assert Image.MIME[kind] == file.media_type


def test_a_still_that_cannot_be_kept_fails_the_job_and_leaves_nothing(serve, generate, artifacts):
    def full(data: bytes, suffix: str) -> str:
        raise OSError("No space left on device")

    artifacts.put = full
    server = serve()
    server.command(generate())
    server.until(wire.Failed)
    assert list(artifacts.keys()) == []


def test_a_cancel_is_obeyed_at_the_next_step_and_leaves_nothing(serve, generate, family, gate, artifacts):
    family.before_step = gate
    server = serve()
    server.command(generate(num_inference_steps=1000))
    gate.wait_reached()
    server.command(wire.Cancel(job_id="a", token=1))
    gate.opened.set()
    cancelled, before = server.until(wire.Cancelled)
    assert cancelled == wire.Cancelled(job_id="a", token=1)
    assert progress_of(before)[-1] == ("denoise", 1)
    server.command(generate("b"))
    server.until(wire.Finished, "b")
    assert len(list(artifacts.keys())) == NUM_FILES


def test_a_cancel_of_an_old_claim_is_ignored(serve, generate, family, gate):
    family.before_step = gate
    server = serve()
    server.command(generate(token=2), wire.Cancel(job_id="a", token=1))
    gate.opened.set()
    server.until(wire.Finished)


def test_a_cancel_while_it_decodes_leaves_no_file(serve, generate, family, gate, artifacts):
    family.before_decode = gate
    server = serve()
    server.command(generate())
    gate.wait_reached()
    server.command(wire.Cancel(job_id="a", token=1))
    gate.opened.set()
    server.until(wire.Cancelled)
    server.stop()
    assert list(artifacts.keys()) == []
    assert list((artifacts.root / "pending").iterdir()) == []


def test_no_more_frames_are_made_than_may_wait_and_other_jobs_go_on(
    serve, generate, family, gate, monkeypatch
):
    monkeypatch.setattr("vitascope.worker.outputs.MAX_WAITING_BYTES", 1000)  # a frame of 16x16 has 768
    made = {1: 0, 2: 0}
    third_of_the_second = threading.Event()
    write = VideoWriter.write

    def held(writer, frames) -> None:
        gate()
        write(writer, frames)

    def count(sample) -> None:
        made[sample.request.seed] += 1
        if made[2] == 3:
            third_of_the_second.set()

    monkeypatch.setattr(VideoWriter, "write", held)
    family.before_decode = count
    server = serve()
    server.command(generate("a", seed=1))
    gate.wait_reached()  # one frame is being encoded
    server.command(generate("b", seed=2))
    assert third_of_the_second.wait(PATIENCE_S)
    assert made[1] <= 3  # the one, one that may wait, and one that fills the room
    gate.opened.set()
    for _ in range(2):
        server.until(wire.Finished)
    assert made == {1: 5, 2: 5}


def test_the_next_job_denoises_while_the_last_is_encoded(serve, generate, gate, monkeypatch, artifacts):
    new_file = artifacts.new_file
    first = threading.Event()

    def slow(suffix):
        if not first.is_set():
            first.set()
            gate()
        return new_file(suffix)

    monkeypatch.setattr(artifacts, "new_file", slow)  # a disk that takes its time
    server = serve()
    server.command(generate("a"))
    _, before = server.until(wire.Progress, "a")
    while ("finish", 4) not in progress_of(before):
        event, more = server.until(wire.Progress, "a")
        before += [*more, event]
    server.command(generate("b"))
    server.until(wire.Finished, "b")
    gate.opened.set()
    server.until(wire.Finished, "a")


@pytest.mark.parametrize("error", [RuntimeError("/secret/path exploded"), ValueError("boom")])
def test_a_bug_ends_its_job_alone_and_gives_nothing_away(serve, generate, family, error):
    def explode(sample):
        if sample.request.seed == 13:
            raise error

    family.before_step = explode
    server = serve()
    server.command(generate("bad", seed=13))
    failed, _ = server.until(wire.Failed)
    assert (failed.job_id, failed.code, failed.retryable) == ("bad", "generation_failed", False)
    assert str(error) not in failed.message
    server.command(generate("good"))
    server.until(wire.Finished, "good")


def test_a_bug_in_a_preview_or_a_save_ends_its_job_alone(serve, generate, family, gate, monkeypatch):
    server = serve(checkpoint_interval_s=0)
    monkeypatch.setattr(family, "preview", lambda sample: 1 / 0)
    family.before_step = gate
    server.command(generate("bad"))
    gate.wait_reached()
    server.command(wire.WatchPreview(job_id="bad", enabled=True))
    gate.opened.set()
    assert server.until(wire.Failed)[0].job_id == "bad"
    server.command(generate("good"))
    server.until(wire.Finished, "good")


def test_a_preview_that_memory_lacks_for_is_left_out_and_the_clip_is_made(
    serve, generate, family, gate, monkeypatch
):
    tries = []

    def exhaust(sample):
        tries.append(sample)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(family, "preview", exhaust)
    monkeypatch.setattr("vitascope.worker.loop.PREVIEW_INTERVAL_S", math.inf)  # one is due, none after it
    family.before_step = gate
    server = serve()
    server.command(generate("a", num_inference_steps=20))
    gate.wait_reached()
    server.command(wire.WatchPreview(job_id="a", enabled=True))
    gate.opened.set()
    _, before = server.until(wire.Finished)
    assert not any(isinstance(event, wire.Preview) for event in before)
    assert len(tries) == 1


def kept_clip(artifacts, frames) -> str:
    with artifacts.new_file(SUFFIX) as pending:
        with LosslessWriter(pending.path, width=16, height=16) as writer:
            writer.write(frames)
        return pending.commit_as(writer.sha256)


@pytest.mark.parametrize("num_outputs", [1, 2])
def test_a_continued_clip_is_stored_whole_and_goes_on_from_a_checkpoint_to_the_same_bytes(
    serve, generate, artifacts, num_outputs
):
    source = np.stack([np.full((16, 16, 3), level, np.uint8) for level in range(40, 240, 10)])
    picture = keep_picture(artifacts, source[-1])
    wish = {
        "first_frame": picture,
        "continues": Continuation(clip=kept_clip(artifacts, source), num_frames=20),
        "num_outputs": num_outputs,
    }
    server = serve(checkpoint_interval_s=0)
    server.command(generate(**wish))
    finished, before = server.until(wire.Finished)
    saved = [event for event in before if isinstance(event, wire.Checkpointed)][-1]
    frames = read_video(artifacts.path(finished.files[0].key)).frames
    assert frames.shape == (24, 16, 16, 3)
    assert np.abs(frames[:20].astype(int) - source).max() <= 4
    levels = [float(frame.mean()) for frame in frames[20:]]  # the toy's rise by one a frame
    assert np.abs(np.diff(levels) - 1).max() <= 1
    output = num_outputs - 1
    server.command(generate("b", output=output, resume_key=saved.key, resume_step=saved.step, **wish))
    again, _ = server.until(wire.Finished, "b")
    assert clip_of(artifacts, again) == clip_of(artifacts, finished)


def test_a_clip_made_anew_reaches_the_family_and_counts_its_own_steps(serve, generate, family, artifacts):
    source = np.arange(5 * 16 * 16 * 3, dtype=np.uint8).reshape(5, 16, 16, 3)
    seen = []
    family.encode = lambda request, media: float(len(seen.append(media.video) or "p"))
    server = serve()
    server.command(generate(video=kept_clip(artifacts, source), strength=0.5))
    finished, before = server.until(wire.Finished)
    assert (seen[0] == source).all()
    assert progress_of(before)[-1] == ("finish", 2)
    assert {e.num_steps for e in before if isinstance(e, wire.Progress)} == {2}
    assert finished.stats.num_inference_steps == 2


def test_a_missing_clip_fails_its_job_by_name(serve, generate):
    server = serve()
    server.command(generate(video="0" * 64 + ".lossless", strength=0.5))
    assert server.until(wire.Failed)[0].code == "not_found"


def test_out_of_memory_says_so_and_the_worker_lives_on(serve, generate, family):
    def exhaust(sample):
        if sample.request.seed == 13:
            raise MemoryError

    family.before_step = exhaust
    server = serve()
    server.command(generate("big", seed=13))
    failed, _ = server.until(wire.Failed)
    assert failed.code == OutOfMemory.code
    server.command(generate("small"))
    server.until(wire.Finished, "small")


def test_out_of_memory_beside_the_engine_says_so_too(serve, generate, artifacts, monkeypatch):
    def exhaust(suffix):
        raise MemoryError

    monkeypatch.setattr(artifacts, "new_file", exhaust)
    server = serve()
    server.command(generate("big"))
    assert server.until(wire.Failed)[0].code == OutOfMemory.code
    monkeypatch.undo()
    server.command(generate("small"))
    server.until(wire.Finished, "small")


def test_a_device_that_breaks_ends_the_worker_once_what_is_done_is_stored(
    serve, generate, family, artifacts, gate, monkeypatch
):
    """Nothing works on it any more in this process; the server gives the job to another worker."""
    record = artifacts.new_file

    def wait_and_record(suffix):
        gate()
        return record(suffix)

    monkeypatch.setattr(artifacts, "new_file", wait_and_record)

    def break_it(sample):
        if sample.request.seed == 13:
            gate.opened.set()
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    family.before_step = break_it
    server = serve()
    server.command(generate("done"))
    while progress_of([server.until(wire.Progress, "done")[0]]) != [("finish", 4)]:
        continue
    server.command(generate("bad", seed=13), generate("other"))
    said = server.end()
    finished = next(event for event in said if isinstance(event, wire.Finished))
    assert finished.job_id == "done"
    assert artifacts.path(finished.files[0].key).exists()
    assert server.status == 1
    assert not any(isinstance(event, wire.Failed) for event in said)


def test_a_worker_that_was_told_to_stop_ends_well(serve):
    server = serve()
    server.stop()
    assert server.status == 0


def test_a_missing_picture_fails_its_job_by_name(serve, generate):
    server = serve()
    server.command(generate(first_frame="0" * 64 + ".png"))
    failed, _ = server.until(wire.Failed)
    assert failed.code == "not_found"


def test_a_disk_that_cannot_be_written_fails_the_job_and_says_so(serve, generate, artifacts):
    pending = artifacts.root / "pending"
    pending.rmdir()
    server = serve()
    server.command(generate("a"))
    failed, _ = server.until(wire.Failed)
    assert (failed.code, failed.retryable) == ("storage_failed", False)
    assert str(artifacts.root) not in failed.message
    pending.mkdir()
    server.command(generate("b"))
    server.until(wire.Finished, "b")


def test_a_job_goes_on_from_a_checkpoint_to_the_same_bytes(serve, generate, family, artifacts):
    server = serve(checkpoint_interval_s=0)

    def wait_for_a_state(sample):
        if sample.trajectory.step == 20:
            server.wait_saved()

    family.before_step = wait_for_a_state
    server.command(generate(num_inference_steps=30))
    finished, before = server.until(wire.Finished)
    checkpoints = [e for e in before if isinstance(e, wire.Checkpointed)]
    middle = checkpoints[len(checkpoints) // 2]
    again = generate(token=2, num_inference_steps=30, resume_key=middle.key, resume_step=middle.step)
    server.command(again)
    resumed, events = server.until(wire.Finished)
    started = next(e for e in events if isinstance(e, wire.Started))
    assert (started.step, started.token) == (middle.step, 2)
    assert min(step for _, step in progress_of(events)) == middle.step
    assert clip_of(artifacts, resumed) == clip_of(artifacts, finished)


@pytest.mark.parametrize("state", ["missing", "damaged", "of another request"])
def test_a_useless_checkpoint_means_starting_anew(serve, generate, artifacts, state):
    server = serve(checkpoint_interval_s=0)
    server.command(generate("other", seed=5, num_inference_steps=9))
    _, before = server.until(wire.Finished)
    key = {
        "missing": "0" * 32 + ".safetensors",
        "damaged": artifacts.put(b"no state", "safetensors"),
        "of another request": next(e.key for e in before if isinstance(e, wire.Checkpointed)),
    }[state]
    server.command(generate("a", resume_key=key, resume_step=3))
    resumed, events = server.until(wire.Finished, "a")
    assert [e.step for e in events if isinstance(e, wire.Started)][-1] == 0
    server.command(generate("b"))
    fresh, _ = server.until(wire.Finished, "b")
    assert clip_of(artifacts, resumed) == clip_of(artifacts, fresh)


def test_a_shutdown_parks_what_runs_and_it_goes_on_to_the_same_bytes(
    serve, generate, family, gate, artifacts
):
    server = serve()
    server.command(generate("whole", num_inference_steps=20))
    whole, _ = server.until(wire.Finished)

    def pause(sample):
        if sample.trajectory.step == 7:
            gate()

    family.before_step = pause
    server.command(generate("a", num_inference_steps=20))
    gate.wait_reached()
    server.command(wire.Shutdown())
    gate.opened.set()
    parked, _ = server.until(wire.Parked)
    assert (parked.job_id, parked.token, parked.step) == ("a", 1, 8)
    family.before_step = None
    next_server = serve()
    command = generate("a", token=2, num_inference_steps=20, resume_key=parked.key, resume_step=8)
    next_server.command(command)
    finished, _ = next_server.until(wire.Finished)
    assert clip_of(artifacts, finished) == clip_of(artifacts, whole)


def three_clips(serve, generate, artifacts) -> list[bytes]:
    """Return the clips of three following seeds, each made by a job of its own."""
    server, clips = serve(), []
    for seed in range(3):
        server.command(generate(seed=seed))
        clips.append(clip_of(artifacts, server.until(wire.Finished)[0]))
    return clips


def stored_in(events) -> list[wire.OutputStored]:
    return [event for event in events if isinstance(event, wire.OutputStored)]


def test_several_outputs_are_stored_as_they_come_each_the_clip_of_its_seed(serve, generate, artifacts):
    alone = three_clips(serve, generate, artifacts)
    server = serve()
    server.command(generate(num_outputs=3, token=5))
    finished, before = server.until(wire.Finished)
    told = [*stored_in(before), finished]
    assert [clip_of(artifacts, event) for event in told] == alone
    assert [{file.output for file in event.files} for event in told] == [{0}, {1}, {2}]
    assert {(event.job_id, event.token, len(event.files)) for event in told} == {("a", 5, NUM_FILES)}
    steps = [(e.step, e.num_steps) for e in before if isinstance(e, wire.Progress)]
    assert steps == sorted(steps)
    assert steps[-1] == (12, 12)
    assert finished.stats.stage_s.keys() == {"encode", "denoise", "decode", "finish"}


def test_a_job_goes_on_in_the_middle_of_an_output_and_makes_none_again(
    serve, generate, family, gate, artifacts
):
    def pause(sample):
        if (sample.request.seed, sample.trajectory.step) == (1, 5):
            gate()
        if (sample.request.seed, sample.trajectory.step) == (1, 15):
            server.wait_saved(beyond=20)

    family.before_step = pause
    server = serve(checkpoint_interval_s=0)
    server.command(generate(num_outputs=3, num_inference_steps=20))
    first, before = server.until(wire.OutputStored)
    gate.opened.set()
    finished, after = server.until(wire.Finished)
    before += [first, *after]
    whole = [clip_of(artifacts, event) for event in (*stored_in(before), finished)]
    middle = [e for e in before if isinstance(e, wire.Checkpointed) and 20 < e.step < 40]
    server.command(
        generate(
            token=2, num_outputs=3, num_inference_steps=20, output=1,
            resume_key=middle[0].key, resume_step=middle[0].step,
        )
    )  # fmt: skip
    resumed, events = server.until(wire.Finished)
    assert [clip_of(artifacts, event) for event in (*stored_in(events), resumed)] == whole[1:]
    assert next(e for e in events if isinstance(e, wire.Started)).step == middle[0].step


def test_an_output_whose_state_is_lost_is_made_anew_and_those_before_it_not(serve, generate, artifacts):
    alone = three_clips(serve, generate, artifacts)
    server = serve()
    server.command(generate(num_outputs=3, output=2, resume_key="0" * 32 + ".safetensors", resume_step=9))
    finished, before = server.until(wire.Finished)
    assert (clip_of(artifacts, finished), stored_in(before)) == (alone[2], [])
    assert next(e for e in before if isinstance(e, wire.Started)).step == 8


def test_no_state_of_an_output_is_saved_before_the_files_of_those_before_it(
    serve, generate, artifacts, gate, monkeypatch
):
    new_file = artifacts.new_file
    first = threading.Event()

    def slow(suffix):
        if not first.is_set():
            first.set()
            gate()
        return new_file(suffix)

    monkeypatch.setattr(artifacts, "new_file", slow)
    server = serve(checkpoint_interval_s=0)
    server.command(generate(num_outputs=2, num_inference_steps=20))
    progress, before = server.until(wire.Progress)
    while progress.step < 40:
        progress, more = server.until(wire.Progress)
        before += more
    gate.opened.set()
    _, after = server.until(wire.Finished)
    events = [*before, *after, *server.stop()]  # a state may take longer to be saved than the job
    saved = [event.step for event in events if isinstance(event, wire.Checkpointed)]
    assert saved
    assert max(saved) <= 20


def test_a_cancel_in_the_middle_leaves_nothing_but_what_was_told_of(serve, generate, family, gate, artifacts):
    def pause(sample):
        if sample.request.seed == 1:
            gate()

    family.before_step = pause
    server = serve()
    server.command(generate(num_outputs=3))
    stored, _ = server.until(wire.OutputStored)
    gate.wait_reached()
    server.command(wire.Cancel(job_id="a", token=1))
    gate.opened.set()
    server.until(wire.Cancelled)
    server.stop()
    assert set(artifacts.keys()) == {file.key for file in stored.files}


def test_files_of_an_output_that_cannot_be_written_fail_the_job_at_its_next_step(
    serve, generate, family, artifacts, monkeypatch
):
    def full(suffix):
        raise OSError(28, "No space left on device", "/secret/path")

    new_file = artifacts.new_file
    monkeypatch.setattr(artifacts, "new_file", full)
    server = serve()

    def wait_for_the_failure(sample):
        while sample.request.seed == 1 and server.loop._jobs["a"].outputs.failure is None:
            time.sleep(0.001)

    family.before_step = wait_for_the_failure
    server.command(generate(num_outputs=3))
    failed, before = server.until(wire.Failed)
    assert (failed.code, "secret" in failed.message) == ("generation_failed", False)
    assert (stored_in(before), progress_of(before)[-1][1]) == ([], 4)
    family.before_step = None
    monkeypatch.setattr(artifacts, "new_file", new_file)
    server.command(generate("b"))
    _, between = server.until(wire.Finished, "b")
    assert not any(isinstance(event, wire.Failed) for event in between)
    assert len(list(artifacts.keys())) == NUM_FILES


def test_files_that_fail_while_a_later_output_is_stored_leave_nothing(
    serve, generate, artifacts, gate, monkeypatch
):
    new_file = artifacts.new_file
    first = threading.Event()

    def broken_once(suffix):
        if not first.is_set():
            first.set()
            gate()
            raise OSError("No space left on device")
        return new_file(suffix)

    monkeypatch.setattr(artifacts, "new_file", broken_once)
    server = serve()
    server.command(generate(num_outputs=2))
    progress, before = server.until(wire.Progress)
    while progress.stage != "finish":
        progress, more = server.until(wire.Progress)
        before += more
    gate.opened.set()
    _, after = server.until(wire.Failed)
    assert stored_in([*before, *after]) == []
    server.stop()
    assert list(artifacts.keys()) == []


def test_a_shutdown_waits_for_the_files_of_an_output_before_it_parks_the_next(
    serve, generate, family, gate, artifacts
):
    alone = three_clips(serve, generate, artifacts)

    def pause(sample):
        if sample.request.seed == 1 and sample.trajectory.step == 2:
            gate()

    family.before_step = pause
    server = serve()
    server.command(generate(num_outputs=2))
    gate.wait_reached()
    server.command(wire.Shutdown())
    gate.opened.set()
    parked, before = server.until(wire.Parked)
    (stored,) = stored_in(before)
    assert (parked.step, clip_of(artifacts, stored)) == (7, alone[0])
    family.before_step = None
    next_server = serve()
    next_server.command(
        generate(token=2, num_outputs=2, output=1, resume_key=parked.key, resume_step=parked.step)
    )
    assert clip_of(artifacts, next_server.until(wire.Finished)[0]) == alone[1]


def test_a_shutdown_before_the_first_step_parks_without_a_state(serve, generate, family, gate):
    server = serve()
    family.before_decode = gate  # of the job before: it holds the device until both commands are there
    server.command(generate("a", num_frames=1))
    gate.wait_reached()
    server.command(generate("b"), wire.Shutdown())
    gate.opened.set()
    parked, _ = server.until(wire.Parked, "b")
    assert (parked.step, parked.key) == (0, None)


def test_a_shutdown_waits_for_the_file_of_a_clip_that_is_done(serve, generate, artifacts, gate, monkeypatch):
    new_file = artifacts.new_file

    def slow(suffix):
        gate()
        return new_file(suffix)

    monkeypatch.setattr(artifacts, "new_file", slow)
    server = serve()
    server.command(generate())
    events = []
    while ("finish", 4) not in progress_of(events):
        events.append(server.until(wire.Progress)[0])
    server.command(wire.Shutdown())
    gate.opened.set()
    assert artifacts.path(server.until(wire.Finished)[0].files[0].key).exists()


def test_previews_come_only_while_somebody_watches(serve, generate, family, gate):
    server = serve()
    server.command(generate("unwatched", num_inference_steps=20))
    _, before = server.until(wire.Finished)
    assert not any(isinstance(e, wire.Preview) for e in before)
    assert family.previews == []
    family.before_step = gate
    server.command(generate("a", num_inference_steps=20))
    gate.wait_reached()
    server.command(wire.WatchPreview(job_id="a", enabled=True))
    gate.opened.set()
    preview, _ = server.until(wire.Preview)
    assert (preview.job_id, preview.image[:4]) == ("a", b"RIFF")
    server.until(wire.Finished)


def test_a_watch_of_a_job_that_has_left_the_device_leaves_nothing_behind(serve, generate):
    """It may have left while the word was on its way; nobody would ever take it back."""
    server = serve()
    for _ in range(2):  # the same job, taken up again later, is watched only if that is asked for anew
        server.command(generate("a", num_inference_steps=20))
        _, before = server.until(wire.Finished)
        assert not any(isinstance(event, wire.Preview) for event in before)
        server.command(wire.WatchPreview(job_id="a", enabled=True))


def test_the_encoded_request_is_the_one_that_was_asked(serve, generate, artifacts):
    server = serve()
    command = generate(fps=23.976)
    server.command(command)
    finished, _ = server.until(wire.Finished)
    video = read_video(artifacts.path(finished.files[0].key))
    assert video.fps == pytest.approx(23.976, abs=1e-3)
    assert replace(command.request).prompt in video.metadata["comment"]


def test_a_model_that_makes_sound_stores_clips_with_its_sound(serve, generate, family, artifacts):
    silent = family.decode

    def with_sound(sample):
        *chunks, last = silent(sample)
        yield from chunks
        yield replace(last, audio=np.zeros((2, 8000), np.float32), sample_rate=16_000)

    family.card, family.decode = replace(family.card, makes_sound=True), with_sound
    server = serve()
    server.command(generate())
    finished, _ = server.until(wire.Finished)
    with av.open(str(artifacts.path(finished.files[0].key))) as container:
        assert [(s.type, s.rate) for s in container.streams.audio] == [("audio", 16_000)]
        assert len(list(container.decode(video=0))) == 5
    audio = finished.files[-1]
    assert (audio.variant, audio.media_type) == ("audio", "audio/wav")
    with wave.open(str(artifacts.path(audio.key))) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (2, 16_000, 8000)
