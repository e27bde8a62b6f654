"""The sweeper, against the in-memory store and a dictionary of files, or a folder where both act at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vitascope.errors import NotFound, StoreUnavailable
from vitascope.jobs.job import Job, State, new_id
from vitascope.jobs.memory import MemoryStore
from vitascope.jobs.moves import DELETED_GRACE_S
from vitascope.jobs.retention import ORPHAN_LOOK_S, ORPHAN_LOOKS, Sweep, Sweeper
from vitascope.media.artifacts import FolderArtifacts
from vitascope.request import GenerationRequest
from vitascope.wire import Stats, StoredFile


class FakeFiles(set):
    """A set of keys."""

    def delete(self, key: str) -> None:
        self.discard(key)

    def keys(self) -> list[str]:
        return list(self)

    def remove_stray(self, key: str) -> bool:
        self.discard(key)
        return True

    def remove_abandoned(self) -> None:
        self.discard("half")


class Ticks:
    """A monotonic clock that is pushed on by hand."""

    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


def look(sweeper: Sweeper, ticks: Ticks, times: int = 1) -> int:
    """Let the sweeper look for orphans so many times; return how many it removed."""
    removed = 0
    for _ in range(times):
        removed += sweeper.sweep().orphans
        ticks.now += ORPHAN_LOOK_S
    return removed


def request_of(**changes: object) -> GenerationRequest:
    known = {
        "model": "m", "prompt": "p", "negative_prompt": "", "height": 8, "width": 8, "num_frames": 5,
        "fps": 8.0, "num_inference_steps": 2, "guidance_scale": 1.0, "seed": 0,
    }  # fmt: skip
    return GenerationRequest(**{**known, **changes})


def finished(store: MemoryStore, key: str, now: float, *, waited_for: bool = False) -> Job:
    submitted = store.submit(Job(id=new_id(), request=request_of(), created_at=0.0, waited_for=waited_for))
    job = store.claim(submitted.id, "w", now)
    file = StoredFile(variant="video", key=key, media_type="video/mp4", size_bytes=1, sha256="")
    stats = Stats(stage_s={}, peak_memory_bytes=0, num_inference_steps=2)
    return store.succeed(job.id, job.claim.token, [file], stats, now)


def test_an_expired_clip_loses_its_file_and_keeps_its_row():
    store, files = MemoryStore(retention_s=10.0), FakeFiles({"old", "new"})
    old, new = finished(store, "old", 100.0), finished(store, "new", 105.0)
    assert Sweeper(store, files, clock=lambda: 112.0).sweep() == Sweep(1, 0, 0)
    assert files == {"new"}
    assert [store.get(job.id).state for job in (old, new)] == [State.EXPIRED, State.SUCCEEDED]


def test_a_deleted_job_goes_with_any_file_that_was_left():
    store, files = MemoryStore(), FakeFiles({"k"})
    job = finished(store, "k", 100.0)
    store.delete(job.id, 100.0)
    assert Sweeper(store, files, clock=lambda: 101.0).sweep() == Sweep(0, 0, 0)
    assert Sweeper(store, files, clock=lambda: 100.0 + DELETED_GRACE_S).sweep() == Sweep(0, 1, 0)
    assert files == set()


def test_only_files_that_no_job_has_known_for_many_looks_are_orphans():
    store, files, ticks = MemoryStore(), FakeFiles({"known", "orphan", "claimed"}), Ticks()
    finished(store, "known", 0.0)
    sweeper = Sweeper(store, files, ticks=ticks)
    assert look(sweeper, ticks, ORPHAN_LOOKS - 1) == 0
    finished(store, "claimed", 0.0)
    files.add("young")
    assert look(sweeper, ticks) == 1
    assert files == {"known", "claimed", "young"}


def test_a_file_that_was_known_in_between_is_young_again():
    store, files, ticks = MemoryStore(), FakeFiles({"k"}), Ticks()
    sweeper = Sweeper(store, files, clock=lambda: 0.0, ticks=ticks)
    look(sweeper, ticks, ORPHAN_LOOKS - 1)
    job = finished(store, "k", 0.0)
    assert look(sweeper, ticks) == 0
    store.delete(job.id, 0.0)
    assert look(sweeper, ticks, ORPHAN_LOOKS - 1) == 0
    assert look(sweeper, ticks) == 1


def test_orphans_and_half_files_are_looked_for_now_and_then_whatever_the_time_of_day():
    store, files, ticks = MemoryStore(), FakeFiles({"half", "finished but not written down yet"}), Ticks()
    now = 1_000_000.0
    sweeper = Sweeper(store, files, clock=lambda: now, ticks=ticks)
    sweeper.sweep()
    assert "half" not in files
    for now in (5.0, 9_000_000.0):  # noqa: B007  # the clock reads it
        files.add("half")
        ticks.now += ORPHAN_LOOK_S - 1
        assert sweeper.sweep().orphans == 0
        assert "half" in files
        ticks.now += 1
        assert sweeper.sweep().orphans == 0
        assert files == {"finished but not written down yet"}


def test_no_look_counts_while_the_database_is_away():
    """A worker's report waits for it, too: its files are strays for as long, and none once it is back."""

    class Away(MemoryStore):
        away = False

        def keys_in_use(self) -> set[str]:
            if self.away:
                raise StoreUnavailable("it is down")
            return super().keys_in_use()

    store, files, ticks = Away(), FakeFiles({"finished"}), Ticks()
    sweeper = Sweeper(store, files, ticks=ticks)
    look(sweeper, ticks)
    store.away = True
    for _ in range(2 * ORPHAN_LOOKS):
        with pytest.raises(StoreUnavailable):
            look(sweeper, ticks)
        ticks.now += ORPHAN_LOOK_S
    store.away = False
    assert look(sweeper, ticks) == 0
    assert files == {"finished"}


class Meeting(MemoryStore):
    """A store in which something happens right after the sweeper asked which files are in use."""

    def __init__(self) -> None:
        super().__init__()
        self.then: Callable[[], None] = lambda: None

    def keys_in_use(self) -> set[str]:
        known = super().keys_in_use()
        self.then()
        return known


def test_a_picture_uploaded_again_while_its_stray_is_swept_stays_for_its_job(tmp_path):
    store, ticks = Meeting(), Ticks()
    files = FolderArtifacts(tmp_path, ticks)
    key = files.put_content(b"picture", "png")
    sweeper = Sweeper(store, files, ticks=ticks)
    assert look(sweeper, ticks, ORPHAN_LOOKS - 1) == 0

    def upload() -> None:
        assert files.put_content(b"picture", "png") == key

    store.then = upload
    assert look(sweeper, ticks) == 0
    store.submit(Job(id=new_id(), request=request_of(first_frame=key), created_at=0.0))
    assert files.size(key) == len(b"picture")


def test_a_picture_and_its_job_that_come_after_the_sweeper_asked_stay(tmp_path):
    store, ticks = Meeting(), Ticks()
    files = FolderArtifacts(tmp_path, ticks)
    files.put_content(b"picture", "png")
    sweeper = Sweeper(store, files, ticks=ticks)
    look(sweeper, ticks, ORPHAN_LOOKS - 1)
    jobs = []

    def submit() -> None:
        request = request_of(first_frame=files.put_content(b"picture", "png"))
        jobs.append(store.submit(Job(id=new_id(), request=request, created_at=0.0)))

    store.then = submit
    assert look(sweeper, ticks) == 0
    store.then = lambda: None
    look(sweeper, ticks, 2 * ORPHAN_LOOKS)
    assert files.size(jobs[0].request.first_frame) == len(b"picture")


def test_a_clip_stored_again_while_its_stray_is_swept_stays_for_its_job(tmp_path):
    store, ticks = Meeting(), Ticks()
    files = FolderArtifacts(tmp_path, ticks)

    def keep() -> str:
        with files.new_file("frames") as pending:
            pending.path.write_bytes(b"clip")
            return pending.commit_as("a" * 64)

    key = keep()
    sweeper = Sweeper(store, files, ticks=ticks)
    look(sweeper, ticks, ORPHAN_LOOKS - 1)
    store.then = keep
    assert look(sweeper, ticks) == 0
    assert files.size(key) == len(b"clip")


def test_a_picture_that_no_job_came_for_goes_in_the_end(tmp_path):
    store, ticks = MemoryStore(), Ticks()
    files = FolderArtifacts(tmp_path, ticks)
    sweeper = Sweeper(store, files, ticks=ticks)
    for _ in range(2):  # what was once swept is no stray from its first look on
        files.put_content(b"picture", "png")
        assert look(sweeper, ticks, ORPHAN_LOOKS - 1) == 0
        assert look(sweeper, ticks) == 1
        assert list(files.keys()) == []


def test_a_new_server_drops_what_callers_of_the_one_before_waited_for():
    store, files = MemoryStore(), FakeFiles({"kept", "unheard", "half"})
    kept, unheard = finished(store, "kept", 1.0), finished(store, "unheard", 1.0, waited_for=True)
    queued = store.submit(Job(id=new_id(), request=kept.request, created_at=0.0, waited_for=True))
    running = store.submit(Job(id=new_id(), request=kept.request, created_at=0.0, waited_for=True))
    token = store.claim(running.id, "w", 1.0).claim.token
    assert Sweeper(store, files, clock=lambda: 2.0).drop_unheard() == 3
    assert files == {"kept"}
    store.requeue(running.id, token, 3.0)  # as a recovering dispatcher does
    for job in (unheard, queued, running):
        with pytest.raises(NotFound):
            store.get(job.id)
    assert store.get(kept.id) == kept
