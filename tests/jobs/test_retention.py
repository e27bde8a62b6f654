"""The sweeper, against the in-memory store and a dictionary of files."""

from __future__ import annotations

import pytest

from vitascope.errors import NotFound
from vitascope.jobs.job import Job, State, new_id
from vitascope.jobs.memory import MemoryStore
from vitascope.jobs.moves import DELETED_GRACE_S
from vitascope.jobs.retention import ORPHAN_AGE_S, ORPHAN_LOOK_S, Sweep, Sweeper
from vitascope.request import GenerationRequest
from vitascope.wire import Stats, StoredFile


class FakeFiles(set):
    """A set of keys."""

    def delete(self, key: str) -> None:
        self.discard(key)

    def keys(self) -> list[str]:
        return list(self)

    def remove_stale(self, age_s: float = 3600.0) -> None:
        self.discard("half" if age_s else "young half")


def finished(store: MemoryStore, key: str, now: float, *, waited_for: bool = False) -> Job:
    request = GenerationRequest(
        model="m", prompt="p", negative_prompt="", height=8, width=8, num_frames=5, fps=8.0,
        num_inference_steps=2, guidance_scale=1.0, seed=0,
    )  # fmt: skip
    submitted = store.submit(Job(id=new_id(), request=request, created_at=0.0, waited_for=waited_for))
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


def test_only_files_that_no_job_has_known_for_long_are_orphans():
    store, files = MemoryStore(), FakeFiles({"known", "orphan", "claimed"})
    finished(store, "known", 0.0)
    now = 0.0
    sweeper = Sweeper(store, files, clock=lambda: now)
    assert sweeper.sweep() == Sweep(0, 0, 0)
    finished(store, "claimed", 0.0)
    files.add("young")
    now = ORPHAN_AGE_S
    assert sweeper.sweep() == Sweep(0, 0, 1)
    assert files == {"known", "claimed", "young"}


def test_orphans_and_half_files_are_looked_for_now_and_then_whichever_way_the_clock_goes():
    store, files = MemoryStore(), FakeFiles({"half"})
    now = 1_000_000.0
    sweeper = Sweeper(store, files, clock=lambda: now)
    sweeper.sweep()
    assert files == set()
    files.add("half")
    now += ORPHAN_LOOK_S - 1
    sweeper.sweep()
    assert files == {"half"}
    for now in (now + 1, 5.0):  # noqa: B007, B020  # the clock reads it
        files.add("half")
        sweeper.sweep()
        assert files == set()


def test_a_new_server_drops_what_callers_of_the_one_before_waited_for():
    store, files = MemoryStore(), FakeFiles({"kept", "unheard", "young half"})
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
