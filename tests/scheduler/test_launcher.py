"""The launcher, with a fleet that starts nothing: the test speaks as the workers."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from vitascope.card import Defaults, ModelCard, Rules
from vitascope.config import Settings
from vitascope.errors import (
    ConfigurationError,
    DoesNotFit,
    InvalidRequest,
    LaunchCancelled,
    LaunchFailed,
    LaunchForbidden,
    ModelExists,
    ModelNotFound,
    StoreUnavailable,
)
from vitascope.jobs.job import Job, new_id
from vitascope.jobs.launches import MemoryLaunches
from vitascope.launch import InstanceState, LaunchSpec
from vitascope.request import GenerationRequest
from vitascope.scheduler.fleet import Lost
from vitascope.scheduler.launcher import Launcher
from vitascope.scheduler.roster import Held, Roster
from vitascope.wire import LoadFailed, Loading, Measure, Measured, Proceed

CARD = ModelCard(
    name="m", family="f", tasks=("t2v",), identity="x",
    defaults=Defaults(height=8, width=8, num_frames=5, fps=8.0, num_inference_steps=4, guidance_scale=1.0),
    rules=Rules(size_multiple=8, frame_stride=4, max_pixels=64, max_frames=5),
)  # fmt: skip
GB = 10**9


class Fleet:
    """Berths without workers; an end takes until `may_end` is set."""

    def __init__(self) -> None:
        self.settings: dict[str, Settings] = {}
        self.ended: list[str] = []
        self.sent: list[tuple[str, object]] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.ending = asyncio.Event()

    def start(self, berth: str, settings: Settings) -> None:
        self.settings[berth] = settings

    async def end(self, berth: str) -> None:
        self.ending.set()
        await self.may_end.wait()
        self.ended.append(berth)

    def send(self, worker: str, command: object) -> None:
        self.sent.append((worker, command))


class Bench:
    """A launcher whose workers are the test: a model's worker is named by the model."""

    def __init__(self, book: MemoryLaunches | None = None, **settings) -> None:
        self.fleet = Fleet()
        self.book = book or MemoryLaunches()
        self.roster = Roster()
        self.launcher = Launcher(
            Settings(**({"model_name": "first"} | settings)), self.book, self.fleet, self.roster
        )

    def worker(self, uid: str) -> str:
        """The worker of the model that was started last under that name."""
        berths = [berth for berth, its in self.fleet.settings.items() if its.model_name == uid]
        return f"{berths[-1]}.1"

    def measure(self, uid: str, weights: float = 1, working: float = 0, free: float = 100) -> None:
        event = Measured(
            device="cpu", weights_bytes=int(weights * GB), working_bytes=int(working * GB),
            free_bytes=int(free * GB),
        )  # fmt: skip
        self.launcher.hear(self.worker(uid), event)

    def ready(self, uid: str, **measured) -> None:
        """Let a model be measured and loaded."""
        self.measure(uid, **measured)
        assert (self.worker(uid), Proceed()) in self.fleet.sent, f"{uid} was not let in"
        card = replace(CARD, name=uid)
        assert self.launcher.loaded(self.worker(uid), card)
        self.roster.add_worker(self.worker(uid), card)

    def break_off(self, uid: str, message: str = "No weights.") -> None:
        worker = self.worker(uid)
        self.launcher.hear(worker, LoadFailed(code="checkpoint_error", message=message))
        self.launcher.hear(worker, Lost(1, final=True))

    async def launch(self, uid: str, **measured) -> None:
        """Launch a model and let it be loaded."""
        await self.launcher.launch(LaunchSpec(model=f"/models/{uid}"))
        self.ready(uid, **measured)

    def states(self) -> dict[str, str]:
        return {instance.uid: instance.state.value for instance in self.launcher.instances()}

    async def settle(self) -> None:
        """Let begun tasks run as far as they can, the row-writing thread included."""
        for _ in range(3):
            await asyncio.gather(*self.launcher._moorings._tasks)
            await asyncio.sleep(0)


@asynccontextmanager
async def opened(book: MemoryLaunches | None = None, *, ready: bool = True, **settings):
    bench = Bench(book, **settings)
    await bench.launcher.start()
    if ready:
        bench.ready("first")
    try:
        yield bench
    finally:
        bench.fleet.may_end.set()
        await bench.launcher.close()


def job(model: str, sequence: int) -> Job:
    request = GenerationRequest(
        model=model, prompt="p", negative_prompt="", height=8, width=8, num_frames=5, fps=8.0,
        num_inference_steps=4, guidance_scale=1.0, seed=0,
    )  # fmt: skip
    return Job(id=new_id(), request=request, created_at=0.0, sequence=sequence)


async def test_the_models_of_the_settings_are_loaded_first_and_the_default_one_leads():
    async with opened(ready=False, model_path="/m/one", model_name=None, also=("two=/m/2",)) as bench:
        assert bench.states() == {"one": "loading", "two": "loading"}
        assert not bench.launcher.ready()
        bench.measure("two")
        assert bench.launcher.loaded(bench.worker("two"), replace(CARD, name="two"))
        assert bench.launcher.ready()
        assert bench.launcher.loaded("worker-0.1", replace(CARD, name="One"))  # as its checkpoint says
        assert [card.name for card in bench.launcher.cards()] == ["One", "two"]
        assert all(instance.configured for instance in bench.launcher.instances())


async def test_a_launch_is_written_down_before_it_is_answered_and_ends_ready():
    async with opened() as bench:
        spec = LaunchSpec(model="/models/new", dtype="float16")
        there = await bench.launcher.launch(spec)
        assert (there.uid, there.state, there.card) == ("new", InstanceState.LOADING, None)
        assert [(row.uid, row.spec) for row in bench.book.launched()] == [("new", spec)]
        waiting = asyncio.create_task(bench.launcher.wait("new"))
        bench.ready("new")
        there = await asyncio.wait_for(waiting, 600)
        assert (there.state, there.progress, there.card.name) == (InstanceState.READY, 1.0, "new")
        assert [card.name for card in bench.launcher.cards()] == ["first", "new"]


async def test_a_launch_that_cannot_be_written_down_is_none():
    async with opened() as bench:

        def full(_):
            raise OSError("disk full")

        bench.book.remember = full
        with pytest.raises(OSError, match="disk full"):
            await bench.launcher.launch(LaunchSpec(model="/models/new"))
        assert bench.states() == {"first": "ready"}


async def test_loading_shows_progress_that_never_falls():
    async with opened() as bench:
        await bench.launcher.launch(LaunchSpec(model="owner/new"))
        seen = []
        for event in (
            Loading(stage="download", progress=0.0), Loading(stage="download", progress=0.5),
            Loading(stage="download", progress=1.0), None, Loading(stage="load", progress=0.1),
            Loading(stage="load", progress=1.0),
        ):  # fmt: skip
            if event is None:
                bench.measure("new")
            else:
                bench.launcher.hear(bench.worker("new"), event)
            there = bench.launcher.instance("new")
            seen.append((there.stage, there.progress))
        assert [stage for stage, _ in seen] == ["downloading"] * 3 + ["loading weights"] * 3
        progress = [share for _, share in seen]
        assert progress == sorted(progress)
        assert 0 < progress[0] < progress[1] < progress[-1] < 1


async def test_a_name_is_given_once():
    async with opened(model_alias=("sora-2",)) as bench:
        for uid in ("first", "sora-2"):
            with pytest.raises(ModelExists, match=f"'{uid}' is taken"):
                await bench.launcher.launch(LaunchSpec(model="/m", uid=uid))
        assert bench.states() == {"first": "ready"}
        assert list(bench.book.launched()) == []


async def test_a_broken_model_stands_as_an_error_without_the_operators_path_and_may_be_tried_again():
    async with opened(launchable=("new=/secret/place",)) as bench:
        await bench.launcher.launch(LaunchSpec(model="new"))
        waiting = asyncio.create_task(bench.launcher.wait("new"))
        bench.break_off("new", "/secret/place/vae is damaged.")
        with pytest.raises(LaunchFailed, match=r"^new/vae is damaged"):
            await asyncio.wait_for(waiting, 600)
        there = bench.launcher.instance("new")
        assert (there.state, there.error_code) == (InstanceState.ERROR, "checkpoint_error")
        await bench.settle()
        assert list(bench.book.launched()) == []
        assert bench.launcher.ready()
        assert not bench.launcher.hopeless.is_set()
        await bench.launch("new")
        assert bench.states() == {"first": "ready", "new": "ready"}


async def test_a_launch_that_is_tried_again_the_moment_it_failed_is_not_forgotten():
    async with opened() as bench:
        await bench.launcher.launch(LaunchSpec(model="/models/new"))
        settle, may_settle = bench.launcher._rules.settle, threading.Event()
        bench.launcher._rules.settle = lambda spec: may_settle.wait(600) and settle(spec)
        trying = asyncio.create_task(bench.launcher.launch(LaunchSpec(model="/models/new")))
        await asyncio.sleep(0)
        # What was looked up for the second and then the end of the first come to the loop in one turn of it.
        loop, pool = asyncio.get_running_loop(), bench.launcher._off._pool
        may_settle.set()
        pool.submit(loop.call_soon_threadsafe, bench.break_off, "new").result(600)
        await trying
        await bench.settle()
        assert [launch.uid for launch in bench.book.launched()] == ["new"]
        bench.ready("new")


async def test_a_model_of_the_settings_that_cannot_be_loaded_is_hopeless():
    async with opened(ready=False, model_path="/m/one") as bench:
        bench.break_off("first", "There is no folder '/m/one'.")
        assert bench.launcher.hopeless.is_set()
        assert bench.launcher.failure.message == "There is no folder '/m/one'."  # for its operator
        assert bench.launcher.trouble() == "There is no folder 'first'."  # for clients
        assert bench.launcher.fate("first") is None  # its jobs go on once the operator mended it


async def test_a_worker_that_dies_early_is_trouble_and_given_up_when_the_fleet_does():
    async with opened() as bench:
        await bench.launcher.launch(LaunchSpec(model="/models/new"))
        bench.launcher.hear(bench.worker("new"), Lost(-9))
        there = bench.launcher.instance("new")
        assert there.state is InstanceState.LOADING
        assert "ended with status -9" in there.error
        bench.launcher.hear(bench.worker("new"), Lost(-9, final=True))
        assert bench.launcher.instance("new").state is InstanceState.ERROR


async def test_a_loaded_model_whose_worker_is_lost_keeps_its_card_and_place():
    async with opened(memory_budget_bytes=3 * GB) as bench:
        await bench.launch("new")
        bench.launcher.hear(bench.worker("new"), Lost(-9))
        assert bench.states() == {"first": "ready", "new": "loading"}
        assert [card.name for card in bench.launcher.cards()] == ["first", "new"]
        with pytest.raises(InvalidRequest, match="terminate it instead"):
            await bench.launcher.cancel("new")
        await bench.launcher.launch(LaunchSpec(model="/models/third"))
        bench.measure("third", 2)
        assert bench.states()["third"] == "error"
        bench.fleet.sent.clear()
        bench.ready("new")
        assert bench.states()["new"] == "ready"


async def test_a_cancelled_launch_ends_its_process_and_is_forgotten():
    async with opened() as bench:
        await bench.launcher.launch(LaunchSpec(model="/models/new"))
        waiting = asyncio.create_task(bench.launcher.wait("new"))
        await asyncio.sleep(0)
        assert (await bench.launcher.cancel("new")).state is InstanceState.TERMINATED
        with pytest.raises(LaunchCancelled):
            await asyncio.wait_for(waiting, 600)
        assert bench.fleet.ended == ["worker-1"]
        assert list(bench.book.launched()) == []
        with pytest.raises(ModelNotFound, match="there are: first"):
            bench.launcher.instance("new")
        with pytest.raises(InvalidRequest, match="terminate it instead"):
            await bench.launcher.cancel("first")


async def test_a_terminated_model_is_gone_at_once_and_answered_when_its_memory_is_free():
    async with opened() as bench:
        await bench.launch("new")
        bench.fleet.may_end.clear()
        ending = asyncio.create_task(bench.launcher.terminate("new"))
        await asyncio.wait_for(bench.fleet.ending.wait(), 600)
        assert bench.states() == {"first": "ready"}
        assert [view.model for view in bench.roster.views()] == ["first"]
        assert not ending.done()
        bench.fleet.may_end.set()
        assert (await asyncio.wait_for(ending, 600)).state is InstanceState.TERMINATED
        assert bench.launcher.trouble() is None
        await bench.launcher.terminate("first")
        assert "No model is served" in bench.launcher.trouble()
        bench.launcher.hear(bench.worker("new"), Lost(-9, final=True))  # comes late, means nothing
        assert bench.states() == {}


async def test_a_termination_that_cannot_be_written_down_changes_nothing(monkeypatch):
    async with opened() as bench:
        await bench.launch("new")

        def away(_):
            raise StoreUnavailable("it is down")

        with monkeypatch.context() as patch:
            patch.setattr(bench.book, "forget", away)
            with pytest.raises(StoreUnavailable):
                await bench.launcher.terminate("new")
        assert bench.states() == {"first": "ready", "new": "ready"}
        assert bench.fleet.ended == []
        assert (await bench.launcher.terminate("new")).state is InstanceState.TERMINATED
        assert list(bench.book.launched()) == []


async def test_clients_neither_launch_nor_end_models_where_the_operator_forbids_it():
    async with opened(allow_launch="off") as bench:
        for call in (
            bench.launcher.launch(LaunchSpec(model="/m")),
            bench.launcher.cancel("first"),
            bench.launcher.terminate("first"),
        ):
            with pytest.raises(LaunchForbidden):
                await call
        assert bench.states() == {"first": "ready"}


async def test_what_was_launched_is_launched_again_and_kept_even_if_it_fails_then():
    book = MemoryLaunches()
    async with opened(book) as bench:
        await bench.launch("a")
        await bench.launch("b")
        await bench.launch("c")
        await bench.launcher.terminate("b")
    async with opened(book, ready=False) as bench:
        assert bench.states() == {"first": "loading", "a": "loading", "c": "loading"}
        await asyncio.sleep(0)
        assert len(bench.fleet.settings) == 1  # those of the settings come first, so that they have room
        bench.ready("first")
        await bench.settle()
        bench.ready("a")
        bench.break_off("c")
        await bench.settle()
        assert bench.states() == {"first": "ready", "a": "ready", "c": "error"}
        assert [row.uid for row in book.launched()] == ["a", "c"]


async def test_what_the_operator_allows_no_more_is_not_launched_again(caplog):
    book = MemoryLaunches()
    async with opened(book) as bench:
        await bench.launch("a")
    async with opened(book, api_key="k") as bench:
        assert bench.states() == {"first": "ready"}
        assert bench.launcher.fate("a").code == "model_not_available"
    assert "a is not launched again" in caplog.text
    assert [row.uid for row in book.launched()] == ["a"]


async def test_a_stop_tells_who_waits_and_keeps_what_was_launching():
    book = MemoryLaunches()
    async with opened(book) as bench:
        await bench.launcher.launch(LaunchSpec(model="/models/new"))
        waiting = asyncio.create_task(bench.launcher.wait("new"))
        await asyncio.sleep(0)
        await bench.launcher.close()
        with pytest.raises(LaunchCancelled):
            await asyncio.wait_for(waiting, 600)
        bench.launcher.hear(bench.worker("new"), Lost(-15, final=True))
    assert [row.uid for row in book.launched()] == ["new"]


async def test_jobs_learn_when_their_model_is_gone_and_only_then():
    async with opened() as bench:
        assert bench.launcher.fate("first") is None
        assert "not served any more" in bench.launcher.fate("gone").message
        await bench.launcher.launch(LaunchSpec(model="/models/new"))
        assert bench.launcher.fate("new") is None
        bench.break_off("new", "No weights.")
        assert bench.launcher.fate("new").message == "The model new could not be loaded. No weights."
    async with opened(ready=False, model_name=None, model_path="/m/folder") as bench:
        assert bench.launcher.fate("anything") is None  # it may be the name that the checkpoint gives


async def test_models_of_the_settings_need_names_of_their_own_and_may_share_one_with_an_alias():
    bench = Bench(model_path="/m/wan", model_name=None, also=("wan=/m/2",))
    with pytest.raises(ConfigurationError, match="Two models are called wan"):
        await bench.launcher.start()
    assert bench.fleet.settings == {}
    async with opened(model_alias=("first",)) as bench:
        assert bench.states() == {"first": "ready"}


async def test_two_models_of_one_name_are_not_mixed():
    async with opened(ready=False, model_name=None, model_path="/m/folder", also=("same=/m/2",)) as bench:
        assert bench.launcher.loaded("worker-1.1", replace(CARD, name="same"))
        assert not bench.launcher.loaded("worker-0.1", replace(CARD, name="same"))
        assert "--model-name" in bench.launcher.failure.message


# ---- room


async def test_a_model_that_does_not_fit_is_refused_and_its_process_ended():
    async with opened(memory_budget_bytes=3 * GB) as bench:
        await bench.launcher.launch(LaunchSpec(model="/models/new"))
        waiting = asyncio.create_task(bench.launcher.wait("new"))
        bench.measure("new", 2, 0.5)
        with pytest.raises(
            DoesNotFit, match=r"needs about 2.5 GB on cpu and 2.0 GB are left .* terminate first"
        ):
            await asyncio.wait_for(waiting, 600)
        await bench.settle()
        assert bench.fleet.ended == ["worker-1"]
        assert list(bench.book.launched()) == []
        assert bench.states() == {"first": "ready", "new": "error"}


async def test_two_models_that_load_at_once_do_not_both_count_on_the_same_room():
    async with opened(ready=False, also=("second=/m/2",)) as bench:
        bench.measure("first", 6, free=10)
        bench.measure("second", 6, free=10)
        assert [worker for worker, command in bench.fleet.sent if command == Proceed()] == ["worker-0.1"]
        assert "4.0 GB are left" in bench.launcher.failure.message


async def test_models_of_the_settings_take_turns_where_idle_ones_may_be_unloaded():
    settings = {"also": ("second=/m/2",), "memory_budget_bytes": 15 * GB, "unload_idle": True}
    async with opened(ready=False, **settings) as bench:
        bench.measure("first", 10)
        bench.measure("second", 10)
        assert bench.states() == {"first": "loading", "second": "loading"}
        assert bench.launcher.loaded(bench.worker("first"), replace(CARD, name="first"))
        bench.launcher.look([])
        assert bench.fleet.sent[-1] == (bench.worker("second"), Measure())
        bench.measure("second", 10)
        await bench.settle()
        assert bench.fleet.sent[-1] == (bench.worker("second"), Proceed())
        assert bench.states() == {"first": "unloaded", "second": "loading"}


@asynccontextmanager
async def crowded():
    """Room for two of three models, `a` and `b` loaded; the first model is small."""
    async with opened(ready=False, memory_budget_bytes=21 * GB, unload_idle=True) as bench:
        bench.ready("first", weights=1)
        await bench.launch("a", weights=10)
        await bench.launch("b", weights=10)
        yield bench


async def test_the_model_used_longest_ago_makes_room_and_the_new_one_waits_for_its_end():
    async with crowded() as bench:
        held = Held(job("a", 1), bench.worker("a"))
        bench.roster.hold(held)
        bench.roster.release(held)  # a worked after b was loaded
        bench.fleet.may_end.clear()
        await bench.launcher.launch(LaunchSpec(model="/models/c"))
        bench.measure("c", 10)
        await asyncio.sleep(0)
        assert bench.states() == {"first": "ready", "a": "ready", "b": "unloaded", "c": "loading"}
        assert (bench.worker("c"), Proceed()) not in bench.fleet.sent
        bench.fleet.may_end.set()
        await bench.settle()
        assert bench.fleet.ended == ["worker-2"]
        assert (bench.worker("c"), Proceed()) in bench.fleet.sent
        assert "b" in [card.name for card in bench.launcher.cards()]
        assert [row.uid for row in bench.book.launched()] == ["a", "b", "c"]


async def test_models_at_work_are_not_unloaded_for_a_launch():
    async with crowded() as bench:
        for uid in ("a", "b"):
            bench.roster.hold(Held(job(uid, 1), bench.worker(uid)))
        await bench.launcher.launch(LaunchSpec(model="/models/c"))
        bench.measure("c", 10)
        with pytest.raises(DoesNotFit, match="Try again later"):
            await bench.launcher.wait("c")
        assert bench.states() == {"first": "ready", "a": "ready", "b": "ready", "c": "error"}


async def unload_a(bench: Bench) -> None:
    await bench.launcher.launch(LaunchSpec(model="/models/c"))
    bench.measure("c", 10)
    await bench.settle()
    assert bench.launcher.loaded(bench.worker("c"), replace(CARD, name="c"))
    assert bench.states()["a"] == "unloaded"


async def test_a_job_loads_an_unloaded_model_again():
    async with crowded() as bench:
        await unload_a(bench)
        assert list(bench.launcher.look([])) == []
        assert bench.states()["a"] == "unloaded"
        waiting = [job("a", 1)]
        bench.roster.line_up(waiting)
        bench.launcher.look(waiting)
        assert bench.states()["a"] == "loading"
        assert bench.launcher.fate("a") is None
        bench.measure("a", 10)
        await bench.settle()
        assert bench.states()["b"] == "unloaded"
        assert (bench.worker("a"), Proceed()) in bench.fleet.sent


async def test_a_model_that_is_loaded_again_waits_for_those_at_work_and_holds_later_jobs_back():
    async with crowded() as bench:
        await unload_a(bench)
        working = [Held(job(uid, 1), bench.worker(uid)) for uid in ("b", "c")]
        for held in working:
            bench.roster.hold(held)
        before, mine, after, small = job("b", 2), job("a", 3), job("b", 4), job("elsewhere", 5)
        waiting = [before, mine, after, small]
        bench.roster.line_up(waiting)
        assert bench.launcher.look(waiting) == waiting  # its worker only starts
        bench.measure("a", 10)
        assert bench.states() == {"first": "ready", "a": "loading", "b": "ready", "c": "ready"}
        assert bench.launcher.look(waiting) == [before, mine, small]
        assert bench.fleet.sent[-1] == (bench.worker("a"), Measure())
        bench.roster.release(working[1])  # c is idle now
        bench.measure("a", 10)
        await bench.settle()
        assert bench.states()["c"] == "unloaded"
        assert bench.fleet.sent[-1] == (bench.worker("a"), Proceed())
