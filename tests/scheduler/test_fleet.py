"""The fleet, with real processes that speak the wire and load nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager

import psutil
import pytest

from vitascope.config import Settings
from vitascope.request import GenerationRequest
from vitascope.scheduler import fleet as fleet_module
from vitascope.scheduler.fleet import (
    MAX_BACKOFF_S,
    MAX_EARLY_ENDS,
    NOT_STARTED,
    Fleet,
    Lost,
    backoff_s,
    berth_of,
)
from vitascope.wire import Cancel, Cancelled, Generate, LoadFailed, Loading, Parked, Ready

PATIENCE_S = 600.0  # a net for what hangs
A_DAY_S = 86_400.0  # nobody waits for that
WORKER = """
import json, os, socket, sys
from vitascope import wire
from vitascope.card import Defaults, ModelCard, Rules

settings = json.load(sys.stdin)
connection = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
defaults = Defaults(height=8, width=8, num_frames=1, fps=1.0, num_inference_steps=1, guidance_scale=1.0)
rules = Rules(size_multiple=8, frame_stride=1, max_pixels=64, max_frames=1)
facts = ",".join([*sorted(settings), os.environ["OMP_WAIT_POLICY"], os.environ["OMP_NUM_THREADS"]])
card = ModelCard(name="m", family="f", tasks=("t2v",), defaults=defaults, rules=rules, identity=facts)

def say(event):
    connection.sendall(wire.encode(event))

def obey():
    received = wire.ReceiveBuffer()
    while data := connection.recv(65536):
        for body in received.feed(data):
            match wire.decode_command(body):
                case wire.Shutdown():
                    SHUTDOWN
                case wire.Cancel() as command:
                    say(wire.Cancelled(job_id=command.job_id, token=command.token))

BEGIN
obey()
"""
READY = "say(wire.Ready(card=card, pid=os.getpid()))"
PARK = "say(wire.Parked(job_id='a', token=1, step=3, key=None)); sys.exit(0)"
REQUEST = GenerationRequest(
    model="m", prompt="p", negative_prompt="", height=8, width=8, num_frames=1, fps=1.0,
    num_inference_steps=4, guidance_scale=1.0, seed=0,
)  # fmt: skip
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


def command(begin: str = READY, shutdown: str = PARK) -> tuple[str, ...]:
    return (sys.executable, "-c", WORKER.replace("BEGIN", begin).replace("SHUTDOWN", shutdown))


class Clock:
    """A clock that goes on when the test says so."""

    def __init__(self) -> None:
        self._seconds: asyncio.Queue = asyncio.Queue()

    async def sleep(self, seconds: float) -> None:
        assert seconds == 1.0
        await self._seconds.get()

    def go_on(self, seconds: int) -> None:
        for _ in range(seconds):
            self._seconds.put_nowait(None)


@asynccontextmanager
async def running(*how: str, watched: dict | None = None, **settings):
    fleet = Fleet(command=command(*how), **watched or {})
    fleet.start("b", Settings(**settings))
    try:
        yield fleet
    finally:
        await fleet.stop(grace_s=PATIENCE_S)


async def news(fleet, kind):
    name, event = await asyncio.wait_for(fleet.news.get(), PATIENCE_S)
    assert isinstance(event, kind), event
    return name, event


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_worker_gets_settings_without_secrets_and_quiet_threads():
    secrets = {"api_key": "sk-secret", "database_url": "postgresql://u:p@h/d"}
    async with running(**secrets, num_threads=3) as fleet:
        _, ready = await news(fleet, Ready)
        facts = ready.card.identity.split(",")
        assert "data_dir" in facts
        assert not secrets.keys() & set(facts)
        assert facts[-2:] == ["PASSIVE", "3"]


async def test_commands_go_down_and_events_come_up():
    async with running() as fleet:
        name, _ = await news(fleet, Ready)
        fleet.send(name, Cancel(job_id="j", token=4))
        assert await news(fleet, Cancelled) == (name, Cancelled(job_id="j", token=4))


async def test_a_killed_worker_is_told_and_started_again_under_a_new_name():
    async with running() as fleet:
        name, ready = await news(fleet, Ready)
        os.kill(ready.pid, signal.SIGKILL)
        assert await news(fleet, Lost) == (name, Lost(-signal.SIGKILL))
        fleet.send(name, Cancel(job_id="j", token=1))  # it is gone: nobody is told, nothing breaks
        again, ready = await news(fleet, Ready)
        assert again != name
        assert exists(ready.pid)


async def test_a_worker_that_speaks_nonsense_is_ended_and_started_again():
    begin = f"{READY}; connection.sendall(bytes([0, 0, 0, 3]) + b'abc')"
    async with running(begin) as fleet:
        _, ready = await news(fleet, Ready)
        await news(fleet, Lost)
        assert not exists(ready.pid)


async def test_a_stop_lets_workers_park_and_leaves_none():
    async with running() as fleet:
        name, ready = await news(fleet, Ready)
        await fleet.stop(grace_s=PATIENCE_S)
        assert await news(fleet, Parked) == (name, Parked(job_id="a", token=1, step=3, key=None))
        assert await news(fleet, Lost) == (name, Lost(0, final=True))
        assert not exists(ready.pid)
        assert fleet.news.empty()


async def test_a_stop_ends_a_worker_that_does_not_listen(monkeypatch):
    monkeypatch.setattr(fleet_module, "END_GRACE_S", 0.1)
    async with running(STUBBORN + READY, "import time; time.sleep(1e6)") as fleet:
        _, ready = await news(fleet, Ready)
        await fleet.stop(grace_s=0.1)
        assert not exists(ready.pid)


async def test_a_stop_does_not_wait_for_a_model_to_load():
    async with running("import time; say(wire.Cancelled(job_id='', token=0)); time.sleep(1e6)") as fleet:
        await news(fleet, Cancelled)
        await fleet.stop(grace_s=A_DAY_S)
        await news(fleet, Lost)


async def test_a_stop_while_a_worker_starts_leaves_none():
    fleet = Fleet(command=command("import time; time.sleep(1e6)"))
    fleet.start("b", Settings())
    await asyncio.sleep(0)  # the start is under way
    await fleet.stop(grace_s=A_DAY_S)
    assert fleet._workers == {}


async def test_a_model_that_cannot_be_loaded_says_so_and_is_not_tried_again():
    async with running("say(wire.LoadFailed(code='c', message='No weights.')); sys.exit(1)") as fleet:
        name, _ = await news(fleet, LoadFailed)
        assert await news(fleet, Lost) == (name, Lost(1, final=True))


async def test_a_worker_that_dies_while_it_loads_is_given_up_after_a_few_times(monkeypatch):
    monkeypatch.setattr(fleet_module, "backoff_s", lambda _: 0.0)
    async with running("sys.exit(3)") as fleet:
        ends = [(await news(fleet, Lost))[1] for _ in range(MAX_EARLY_ENDS)]
        assert ends == [Lost(3), Lost(3), Lost(3, final=True)]


async def test_workers_that_come_and_go_leave_neither_handles_nor_tasks(monkeypatch):
    monkeypatch.setattr(fleet_module, "FIRST_BACKOFF_S", 0.0)
    fleet, own = Fleet(command=(sys.executable, "-S", "-c", "")), psutil.Process()

    async def come_and_go(berth: str) -> tuple[int, int]:
        """Return the numbers of handles and tasks after all workers of a berth."""
        fleet.start(berth, Settings())
        while not (await news(fleet, Lost))[1].final:
            continue
        await fleet.end(berth)
        return own.num_fds(), len(asyncio.all_tasks())

    before = await come_and_go("first")
    assert [await come_and_go(berth) for berth in ("second", "third")] == [before, before]


async def test_a_model_that_was_loaded_once_is_tried_again_whatever_comes(monkeypatch, tmp_path):
    monkeypatch.setattr(fleet_module, "backoff_s", lambda _: 0.0)
    mark = tmp_path / "loaded"
    begin = (
        f"import pathlib; mark = pathlib.Path({str(mark)!r})\n"
        "if mark.exists(): say(wire.LoadFailed(code='c', message='m')); sys.exit(1)\n"
        f"mark.touch(); {READY}; sys.exit(2)"
    )
    async with running(begin) as fleet:
        await news(fleet, Ready)
        assert (await news(fleet, Lost))[1] == Lost(2)
        for _ in range(MAX_EARLY_ENDS + 1):
            await news(fleet, LoadFailed)
            assert (await news(fleet, Lost))[1] == Lost(1)


async def test_one_berth_is_ended_and_the_other_works_on():
    async with running() as fleet:
        await news(fleet, Ready)
        fleet.start("c", Settings())
        name, ready = await news(fleet, Ready)
        assert berth_of(name) == "c"
        await fleet.end("c")
        assert not exists(ready.pid)
        gone, lost = await news(fleet, Lost)
        assert (gone, lost.final) == (name, True)
        fleet.send("b.1", Cancel(job_id="j", token=4))
        assert (await news(fleet, Cancelled))[0] == "b.1"
        await fleet.end("c")  # it is gone: no error


async def test_a_program_that_cannot_be_started_is_tried_again(monkeypatch, caplog):
    tries = asyncio.Queue()
    monkeypatch.setattr(fleet_module, "backoff_s", lambda failures: tries.put_nowait(failures) or 0.0)
    fleet = Fleet(command=("/no/such/program",))
    fleet.start("b", Settings())
    assert [await asyncio.wait_for(tries.get(), PATIENCE_S) for _ in range(2)] == [1, 2]
    assert [await news(fleet, Lost) for _ in range(MAX_EARLY_ENDS)] == [
        ("b.1", Lost(NOT_STARTED)), ("b.2", Lost(NOT_STARTED)), ("b.3", Lost(NOT_STARTED, final=True)),
    ]  # fmt: skip
    await fleet.stop(grace_s=PATIENCE_S)
    assert "cannot be started" in caplog.text


@pytest.mark.parametrize(("failures", "seconds"), [(0, 0.25), (1, 0.5), (4, 4.0), (50, MAX_BACKOFF_S)])
def test_failing_workers_are_started_ever_more_rarely(failures, seconds):
    assert backoff_s(failures) == seconds


HUNG = Lost(-signal.SIGKILL, hung_s=6.0)


async def test_a_worker_that_hangs_in_a_job_is_killed_and_started_again():
    clock = Clock()
    async with running(watched={"hang_after_s": 5, "sleep": clock.sleep}) as fleet:
        name, ready = await news(fleet, Ready)
        fleet.send(name, Generate(job_id="j", token=1, request=REQUEST))
        clock.go_on(6)
        assert await news(fleet, Lost) == (name, HUNG)
        assert not exists(ready.pid)
        again, _ = await news(fleet, Ready)
        assert again != name


async def test_a_worker_that_hangs_while_it_loads_is_killed_even_if_it_does_not_listen():
    begin = STUBBORN + "say(wire.Loading(stage='load', progress=0.5))\nimport time; time.sleep(600)"
    clock = Clock()
    async with running(begin, watched={"hang_after_s": 5, "sleep": clock.sleep}) as fleet:
        name, _ = await news(fleet, Loading)
        clock.go_on(6)
        assert await news(fleet, Lost) == (name, HUNG)


async def test_an_idle_worker_is_left_alone_and_slow_work_has_its_time():
    clock = Clock()
    watched = {"hang_after_s": 5, "slowest_s": lambda _: 2.0, "sleep": clock.sleep}
    async with running(watched=watched) as fleet:
        name, _ = await news(fleet, Ready)
        clock.go_on(100)
        fleet.send(name, Cancel(job_id="j", token=4))
        await news(fleet, Cancelled)
        assert clock._seconds.empty()
        fleet.send(name, Generate(job_id="j", token=1, request=REQUEST))
        clock.go_on(20)  # ten times as long as it is known to take
        fleet.send(name, Cancel(job_id="other", token=4))
        await news(fleet, Cancelled)
        assert clock._seconds.empty()
        clock.go_on(1)
        assert await news(fleet, Lost) == (name, Lost(-signal.SIGKILL, hung_s=21.0))


async def test_with_a_limit_of_0_nobody_is_killed():
    clock = Clock()
    async with running(watched={"hang_after_s": 0, "sleep": clock.sleep}) as fleet:
        name, _ = await news(fleet, Ready)
        fleet.send(name, Generate(job_id="j", token=1, request=REQUEST))
        clock.go_on(100)
        fleet.send(name, Cancel(job_id="j", token=4))
        await news(fleet, Cancelled)
