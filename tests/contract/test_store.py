"""What every store promises; run on each implementation."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from vitascope.errors import IllegalTransition, NotFound, StaleClaim
from vitascope.jobs.job import TRANSITIONS, Failure, Idempotency, Job, Move, State, Tally, new_id
from vitascope.jobs.memory import MemoryStore
from vitascope.jobs.moves import DELETED_GRACE_S
from vitascope.jobs.sql import SqlStore
from vitascope.request import Continuation, GenerationRequest
from vitascope.wire import Stats, StoredFile

STATS = Stats(stage_s={"encode": 0.25, "denoise": 2.5}, peak_memory_bytes=2**33, num_inference_steps=20)
CLIP = StoredFile(variant="video", key="k1.mp4", media_type="video/mp4", size_bytes=2**32, sha256="ab" * 32)
FAILURE = Failure(code="generation_failed", message="It did not work.")


@pytest.fixture
def open_store(place):
    """A function that opens a store; all are closed in the end."""
    opened = []

    def open_one(**options):
        store = MemoryStore(**options) if place is None else SqlStore(place, **options)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store):
    return open_store(retention_s=100.0)


def make_job(**changes) -> Job:
    values = {
        "model": "tiny", "prompt": "a red circle \x00 'é\u2028", "negative_prompt": "", "height": 64,
        "width": 96, "num_frames": 17, "fps": 23.976, "num_inference_steps": 20, "guidance_scale": 2.0,
        "seed": 2**63 - 1,
    }  # fmt: skip
    request = GenerationRequest(**(values | changes))
    return Job(id=new_id(), request=request, created_at=1_700_000_000.125, warnings=("mind the gap",))


def in_state(store, state: State, **changes) -> Job:
    """Submit a job and bring it to `state` through the store's own calls."""
    job = store.submit(make_job(**changes))
    if state is State.QUEUED:
        return job
    job = store.claim(job.id, "w1", 10.0)
    if state is State.RUNNING:
        return job
    if state is State.FAILED:
        return store.fail(job.id, FAILURE, 20.0, token=job.claim.token)
    if state is State.CANCELLED:
        return store.cancelled(job.id, job.claim.token, 20.0)
    job = store.succeed(job.id, job.claim.token, [CLIP], STATS, 20.0)
    if state is State.EXPIRED:
        return store.expire(job.id)
    if state is State.DELETED:
        store.delete(job.id, 30.0)
    return job


def make_move(store, job: Job, move: Move) -> None:
    token = job.claim.token
    {
        Move.START: lambda: store.claim(job.id, "w2", 50.0),
        Move.REQUEUE: lambda: store.requeue(job.id, token, 50.0),
        Move.SUCCEED: lambda: store.succeed(job.id, token, [CLIP], STATS, 50.0),
        Move.FAIL: lambda: store.fail(job.id, FAILURE, 50.0, token=token),
        Move.CANCEL: lambda: store.cancelled(job.id, token, 50.0),
        Move.EXPIRE: lambda: store.expire(job.id),
        Move.DELETE: lambda: store.delete(job.id, 50.0),
    }[move]()


def test_a_submitted_job_reads_back_exactly(store):
    job = replace(make_job(first_frame="a.png", flow_shift=8.0), remixed_from=new_id())
    submitted = store.submit(job)
    assert submitted == replace(job, sequence=submitted.sequence)
    assert store.get(job.id) == submitted


def marked(key: str, **changes) -> Job:
    return replace(make_job(**changes), idempotency=Idempotency(key=key, body="b" * 64))


def test_a_key_stands_for_the_job_that_was_first_submitted_under_it(store):
    first = store.submit(marked("k"))
    assert store.submit(marked("k", seed=1)) == first == store.repeated("k")
    other = store.submit(marked("l"))
    assert (other.id != first.id, store.repeated("m")) == (True, None)
    assert [job.id for job in store.waiting()] == [first.id, other.id]


def test_submits_of_one_key_that_race_make_one_job(store):
    start, ids = threading.Barrier(8), set()

    def submit() -> None:
        start.wait(600)
        ids.add(store.submit(marked("k")).id)

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids == {job.id for job in store.waiting()}
    assert len(ids) == 1


@pytest.mark.parametrize("end", ["delete", "delete while it runs", "expire"])
def test_a_key_is_free_once_its_job_is_deleted_or_expired(store, end):
    job = store.submit(marked("k"))
    if end != "delete":
        token = store.claim(job.id, "w", 1.0).claim.token
    if end == "expire":
        store.succeed(job.id, token, [CLIP], STATS, 2.0)
        assert store.repeated("k").id == job.id
        store.expire(job.id)
    else:
        store.delete(job.id, 3.0)
    assert store.repeated("k") is None
    assert store.submit(marked("k")).id != job.id


def test_a_finished_job_reads_back_exactly(store):
    job = in_state(store, State.SUCCEEDED)
    assert store.get(job.id) == job
    assert (job.files, job.stats, job.finished_at, job.expires_at) == ((CLIP,), STATS, 20.0, 120.0)
    assert (job.tally.percent, job.started_at, job.claim.worker) == (100, 10.0, None)


def test_without_retention_nothing_expires(open_store):
    store = open_store()
    assert in_state(store, State.SUCCEEDED).expires_at is None
    assert store.expired(1e12) == []


@pytest.mark.parametrize("state", [s for s in State if s is not State.DELETED])
@pytest.mark.parametrize("move", Move)
def test_each_move_does_what_the_table_says(store, state, move):
    job = in_state(store, state)
    special = (move is Move.CANCEL and state is State.QUEUED) or (
        move is Move.DELETE and state in {State.QUEUED, State.RUNNING}
    )
    if special:  # these have tests of their own
        return
    if (state, move) in TRANSITIONS:
        make_move(store, job, move)
        if move is Move.DELETE:
            with pytest.raises(NotFound):
                store.get(job.id)
        else:
            assert store.get(job.id).state is TRANSITIONS[state, move]
    else:
        with pytest.raises((IllegalTransition, StaleClaim)):
            make_move(store, job, move)
        assert store.get(job.id) == job


@pytest.mark.parametrize("move", Move)
def test_nothing_moves_a_deleted_or_unknown_job(store, move):
    deleted = in_state(store, State.DELETED)
    for job in (deleted, make_job()):
        with pytest.raises(NotFound):
            make_move(store, job, move)
    with pytest.raises(NotFound):
        store.queue_position(deleted.id)


def test_a_stale_token_is_refused_and_changes_nothing(store):
    job = in_state(store, State.RUNNING)
    store.requeue(job.id, job.claim.token, 15.0)
    again = store.claim(job.id, "w2", 16.0)
    old = job.claim.token
    reports = [
        lambda: store.progress(job.id, old, Tally(step=9, num_steps=10, percent=90)),
        lambda: store.warn(job.id, old, ["stale"]),
        lambda: store.checkpoint(job.id, old, "stale", 9),
        lambda: store.succeed(job.id, old, [CLIP], STATS, 17.0),
        lambda: store.fail(job.id, FAILURE, 17.0, token=old),
        lambda: store.cancelled(job.id, old, 17.0),
        lambda: store.requeue(job.id, old, 17.0),
    ]
    for report in reports:
        with pytest.raises(StaleClaim):
            report()
        assert store.get(job.id) == again


def test_the_old_worker_of_a_requeued_job_is_refused_at_once(store):
    job = in_state(store, State.RUNNING)
    queued = store.requeue(job.id, job.claim.token, 15.0)
    with pytest.raises(StaleClaim):
        store.progress(job.id, job.claim.token, Tally(step=9, num_steps=10))
    assert store.get(job.id) == queued


def test_progress_is_refused_unless_the_job_runs(store):
    job = in_state(store, State.SUCCEEDED)
    with pytest.raises(IllegalTransition):
        store.progress(job.id, job.claim.token, Tally(step=1, num_steps=2))
    with pytest.raises(IllegalTransition):
        store.checkpoint(job.id, job.claim.token, "late", 1)
    with pytest.raises(IllegalTransition):
        store.warn(job.id, job.claim.token, ["late"])
    assert store.get(job.id) == job


def test_of_many_racing_claims_exactly_one_wins(store):
    for _ in range(5):
        job = in_state(store, State.QUEUED)
        barrier = threading.Barrier(4)
        won: list[str] = []
        lost: list[Exception] = []

        def race(name, job=job, barrier=barrier, won=won, lost=lost):
            barrier.wait()
            try:
                won.append(store.claim(job.id, name, 1.0).claim.worker)
            except IllegalTransition as error:
                lost.append(error)

        threads = [threading.Thread(target=race, args=(f"w{i}",)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert len(lost) == 3
        claim = store.get(job.id).claim
        assert (claim.worker, claim.token, claim.attempts) == (won[0], 1, 1)


def test_changes_made_at_the_same_time_are_all_kept(store):
    job = in_state(store, State.RUNNING)
    token = job.claim.token
    calls = [
        lambda i=i: store.progress(job.id, token, Tally(step=i, num_steps=99, percent=i)) for i in range(8)
    ]
    calls += [lambda: store.checkpoint(job.id, token, "k", 3), lambda: store.request_cancel(job.id, 11.0)]
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = store.get(job.id)
    assert (after.claim.resume_key, after.cancel_requested, after.tally.percent) == ("k", True, 7)


def test_progress_never_falls_and_stays_below_100_until_success(store):
    job = in_state(store, State.RUNNING)
    seen = []
    for percent in (10, 40, 20, 100):
        store.progress(
            job.id, job.claim.token, Tally(stage="denoise", step=percent, num_steps=100, percent=percent)
        )
        seen.append(store.get(job.id).tally.percent)
    assert seen == [10, 40, 40, 99]
    assert store.succeed(job.id, job.claim.token, [], STATS, 9.0).tally.percent == 100


def test_a_warning_is_added_once_however_often_it_is_made(open_store):
    changed = []
    store = open_store(on_change=changed.append)
    job = in_state(store, State.RUNNING)
    changed.clear()
    store.warn(job.id, 1, ["too long", "mind the gap"])
    assert store.get(job.id).warnings == ("mind the gap", "too long")
    store.requeue(job.id, 1, 15.0)
    again = store.claim(job.id, "w2", 16.0)
    store.warn(job.id, again.claim.token, ["too long"])
    done = store.succeed(job.id, again.claim.token, [CLIP], STATS, 17.0)
    assert done.warnings == ("mind the gap", "too long")
    assert changed == [job.id] * 4  # warned, requeued, claimed, done


def test_a_requeue_keeps_place_checkpoint_and_percentage(store):
    first, second = in_state(store, State.RUNNING), in_state(store, State.QUEUED)
    store.progress(first.id, 1, Tally(stage="denoise", step=12, num_steps=20, percent=60))
    store.checkpoint(first.id, 1, "k7", 7)
    back = store.requeue(first.id, 1, 15.0)
    assert [job.id for job in store.waiting()] == [first.id, second.id]
    assert (back.claim.resume_key, back.claim.resume_step, back.claim.worker) == ("k7", 7, None)
    assert (back.tally.step, back.tally.percent, back.tally.stage) == (7, 60, "queued")
    assert store.claim(first.id, "w2", 16.0).claim.attempts == 2


def test_a_forgiven_requeue_gives_the_attempt_back(store):
    job = in_state(store, State.RUNNING)
    assert store.requeue(job.id, job.claim.token, 15.0, forgive=True).claim.attempts == 0


def test_a_checkpoint_names_the_one_it_replaces(store):
    job = in_state(store, State.RUNNING)
    replaced = [
        store.checkpoint(job.id, job.claim.token, key, step) for step, key in enumerate(["a", "b", "b"])
    ]
    assert replaced == [None, "a", None]


def of_output(output: int) -> StoredFile:
    return replace(CLIP, key=f"k{output}.mp4", output=output)


def test_outputs_are_kept_as_they_come_and_their_checkpoints_may_go(store):
    job = in_state(store, State.RUNNING, num_outputs=3)
    store.checkpoint(job.id, 1, "c5", 5)
    assert store.store_output(job.id, 1, [of_output(0)]) == "c5"
    stored = store.get(job.id)
    assert (stored.claim.resume_key, stored.claim.resume_step, stored.num_stored) == (None, 20, 1)
    assert store.checkpoint(job.id, 1, "late", 20) == "late"
    assert store.checkpoint(job.id, 1, "c21", 21) is None
    back = store.requeue(job.id, 1, 15.0)
    assert (back.files, back.claim.resume_key, back.claim.resume_step) == ((of_output(0),), "c21", 21)
    assert store.keys_in_use() == {"k0.mp4", "c21"}
    token = store.claim(job.id, "w2", 16.0).claim.token
    assert store.store_output(job.id, token, [of_output(1)]) == "c21"
    done = store.succeed(job.id, token, [of_output(2)], STATS, 20.0)
    assert done == store.get(job.id)
    assert [done.file("video", output) for output in range(4)] == [*map(of_output, range(3)), None]
    assert store.keys_in_use() == {"k0.mp4", "k1.mp4", "k2.mp4"}


@pytest.mark.parametrize("ending", ["cancelled", "failed", "deleted"])
def test_outputs_of_a_job_that_does_not_make_all_are_needed_no_more(store, ending):
    job = in_state(store, State.RUNNING, num_outputs=2)
    store.store_output(job.id, 1, [of_output(0)])
    if ending == "deleted":
        store.delete(job.id, 5.0)
    ended = store.fail(job.id, FAILURE, 6.0, token=1) if ending == "failed" else store.cancelled(job.id, 1, 6)
    assert ended.state == ending
    assert ended.files == (of_output(0),)  # so that whoever ended it can remove them
    assert store.keys_in_use() == set()


def test_an_output_of_an_old_claim_is_refused(store):
    job = in_state(store, State.RUNNING, num_outputs=2)
    store.requeue(job.id, 1, 15.0)
    with pytest.raises(StaleClaim):
        store.store_output(job.id, 1, [of_output(0)])
    assert store.get(job.id).files == ()


def test_a_queued_job_fails_without_a_token(store):
    job = in_state(store, State.QUEUED)
    failed = store.fail(job.id, FAILURE, 5.0)
    assert (failed.state, failed.failure, failed.finished_at) == (State.FAILED, FAILURE, 5.0)


def test_a_cancel_ends_a_queued_job_at_once(store):
    job = in_state(store, State.QUEUED)
    assert store.request_cancel(job.id, 5.0).state is State.CANCELLED
    with pytest.raises(IllegalTransition):
        store.claim(job.id, "w1", 6.0)


def test_a_cancel_marks_a_running_job_until_its_device_is_free(store):
    job = in_state(store, State.RUNNING)
    marked = store.request_cancel(job.id, 12.0)
    assert (marked.state, marked.cancel_requested) == (State.RUNNING, True)
    done = store.cancelled(job.id, job.claim.token, 13.0)
    assert (done.state, done.finished_at) == (State.CANCELLED, 13.0)


def test_a_cancel_leaves_a_finished_job_alone(store):
    job = in_state(store, State.SUCCEEDED)
    assert store.request_cancel(job.id, 99.0) == job


def test_a_job_to_be_cancelled_is_not_requeued(store):
    job = in_state(store, State.RUNNING)
    store.request_cancel(job.id, 12.0)
    after = store.requeue(job.id, job.claim.token, 13.0)
    assert (after.state, after.finished_at) == (State.CANCELLED, 13.0)


def test_a_finished_job_is_deleted_at_once_and_its_files_are_named(store):
    job = in_state(store, State.SUCCEEDED)
    assert store.delete(job.id, 30.0).files == (CLIP,)
    with pytest.raises(NotFound):
        store.get(job.id)
    with pytest.raises(NotFound):
        store.delete(job.id, 31.0)


def test_a_queued_job_is_cancelled_and_deleted(store):
    job = in_state(store, State.QUEUED)
    assert store.delete(job.id, 30.0) == job
    assert store.waiting() == []
    with pytest.raises(NotFound):
        store.get(job.id)


@pytest.mark.parametrize("ending", ["cancelled", "succeed", "fail", "requeue"])
def test_a_running_job_is_deleted_however_it_ends(store, ending):
    job = in_state(store, State.RUNNING)
    token = job.claim.token
    assert store.delete(job.id, 30.0) == job
    assert store.get(job.id).cancel_requested
    end = {
        "cancelled": lambda: store.cancelled(job.id, token, 31.0),
        "succeed": lambda: store.succeed(job.id, token, [CLIP], STATS, 31.0),
        "fail": lambda: store.fail(job.id, FAILURE, 31.0, token=token),
        "requeue": lambda: store.requeue(job.id, token, 31.0),
    }[ending]()
    assert end.state is State.DELETED
    with pytest.raises(NotFound):
        store.get(job.id)


def test_pages_cover_every_job_once_in_either_order(store):
    ids = [in_state(store, State.QUEUED).id for _ in range(7)]  # all of one created_at
    for order, expected in (("asc", ids), ("desc", ids[::-1])):
        seen: list[str] = []
        more, after = True, None
        while more:
            jobs, more = store.page(after=after, limit=3, order=order)
            seen += [job.id for job in jobs]
            after = seen[-1]
        assert seen == expected


def test_a_page_that_ends_exactly_at_the_last_job_has_no_more(store):
    ids = [in_state(store, State.QUEUED).id for _ in range(3)]
    jobs, more = store.page(after=None, limit=3, order="asc")
    assert ([job.id for job in jobs], more) == (ids, False)
    assert store.page(after=ids[-1], limit=3, order="asc") == ([], False)


def test_an_unknown_after_gives_an_empty_page(store):
    in_state(store, State.QUEUED)
    for order in ("asc", "desc"):
        assert store.page(after="video_none", limit=3, order=order) == ([], False)


def test_a_listing_goes_on_after_a_job_that_was_just_deleted(store):
    ids = [in_state(store, State.SUCCEEDED).id for _ in range(3)]
    store.delete(ids[1], 30.0)
    assert [job.id for job in store.page(after=None, limit=9, order="asc")[0]] == [ids[0], ids[2]]
    assert [job.id for job in store.page(after=ids[1], limit=9, order="asc")[0]] == [ids[2]]


def test_queue_positions_count_the_jobs_before(store):
    first, second = in_state(store, State.QUEUED), in_state(store, State.QUEUED)
    running = in_state(store, State.RUNNING)
    assert [store.queue_position(job.id) for job in (first, second, running)] == [0, 1, None]
    store.request_cancel(first.id, 5.0)
    assert store.queue_position(second.id) == 0


def test_waiting_and_running_are_oldest_first(store):
    jobs = [in_state(store, state) for state in (State.RUNNING, State.QUEUED) * 2]
    in_state(store, State.SUCCEEDED)
    assert [job.id for job in store.running()] == [jobs[0].id, jobs[2].id]
    assert [job.id for job in store.waiting()] == [jobs[1].id, jobs[3].id]
    assert store.num_waiting() == 2


def test_a_clip_expires_when_its_time_has_come(store):
    job = in_state(store, State.SUCCEEDED)  # finished at 20, kept for 100 s
    assert store.expired(119.9) == []
    assert [j.id for j in store.expired(120.0)] == [job.id]
    expired = store.expire(job.id)
    assert (expired.state, expired.files, expired.finished_at) == (State.EXPIRED, (), 20.0)
    assert store.expired(120.0) == []


def test_a_deleted_row_goes_after_a_grace(store):
    job, kept = in_state(store, State.DELETED), in_state(store, State.SUCCEEDED)
    assert store.gone(30.0 + DELETED_GRACE_S - 1) == []
    assert [j.id for j in store.gone(30.0 + DELETED_GRACE_S)] == [job.id]
    store.purge(job.id)
    store.purge(kept.id)
    assert store.gone(1e12) == []
    assert store.get(kept.id) == kept


def test_the_keys_in_use_are_those_that_jobs_still_need(store):
    picture = in_state(store, State.SUCCEEDED, first_frame="p.png", last_frame="q.png")
    waiting = in_state(store, State.QUEUED, first_frame="r.png")
    running = in_state(store, State.RUNNING)
    store.checkpoint(running.id, 1, "ck", 3)
    assert store.keys_in_use() == {"p.png", "q.png", CLIP.key, "r.png", "ck"}
    store.request_cancel(waiting.id, 30.0)
    store.cancelled(running.id, 1, 30.0)
    in_state(store, State.FAILED, first_frame="s.png")
    assert store.keys_in_use() == {"p.png", "q.png", CLIP.key}
    store.delete(picture.id, 30.0)
    assert store.keys_in_use() == set()


def test_a_jobs_clips_are_kept_until_it_has_expired(store):
    source = Continuation(clip="c.lossless", num_frames=9)
    job = in_state(store, State.SUCCEEDED, video="v.lossless", strength=0.5, continues=source)
    assert store.get(job.id).request.continues == source
    assert store.keys_in_use() == {"v.lossless", "c.lossless", CLIP.key}
    store.expire(job.id)
    assert store.keys_in_use() == set()


def test_every_change_is_told_once_it_is_made(open_store):
    told: list[str] = []
    store = open_store(on_change=told.append)
    job = in_state(store, State.SUCCEEDED)
    assert told == [job.id] * 3
    store.request_cancel(job.id, 99.0)  # changes nothing
    with pytest.raises(IllegalTransition):
        store.claim(job.id, "w", 1.0)
    assert told == [job.id] * 3


def test_jobs_that_callers_wait_for_are_known_until_they_are_kept_or_deleted(store):
    in_state(store, State.QUEUED)
    waited = [store.submit(replace(make_job(), waited_for=True)) for _ in range(3)]
    assert store.waited_for() == waited
    assert not store.keep(waited[0].id, 20.0).waited_for
    store.delete(waited[1].id, 30.0)
    assert store.waited_for() == [waited[2]]


def test_retention_of_a_job_that_was_waited_for_counts_from_when_it_is_kept(store):
    job = store.submit(replace(make_job(), waited_for=True))
    token = store.claim(job.id, "w", 1.0).claim.token
    assert store.succeed(job.id, token, [CLIP], STATS, 20.0).expires_at is None
    kept = store.keep(job.id, 50.0)
    assert kept.expires_at == 150.0
    assert store.keep(job.id, 60.0) == kept
