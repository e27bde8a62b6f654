"""News of jobs."""

from __future__ import annotations

import asyncio
import threading

from vitascope.jobs import changes as changes_module
from vitascope.jobs.changes import Changes


async def test_a_change_wakes_who_waits_for_that_job():
    changes = Changes()
    waiter = asyncio.create_task(changes.wait("a", changes.version("a")))
    other = asyncio.create_task(changes.wait("b", changes.version("b")))
    await asyncio.sleep(0)
    threading.Thread(target=changes.notify, args=("a",)).start()
    assert await asyncio.wait_for(waiter, 600) == changes.version("a")
    assert not other.done()
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)
    assert changes._waiters == {}


async def test_a_change_before_the_wait_is_not_missed():
    changes = Changes()
    seen = changes.version("a")
    changes.notify("a")
    assert await asyncio.wait_for(changes.wait("a", seen), 600) > seen


async def test_waiting_for_any_job_hears_of_every_one():
    changes = Changes()
    waiter = asyncio.create_task(changes.wait(None, changes.version()))
    await asyncio.sleep(0)
    changes.notify("whatever")
    assert await asyncio.wait_for(waiter, 600) == changes.version()


async def test_a_forgotten_job_is_told_too_often_rather_than_never(monkeypatch):
    monkeypatch.setattr(changes_module, "MAX_REMEMBERED", 2)
    changes = Changes()
    seen = changes.version("a")
    for job in "abcd":
        changes.notify(job)
    assert len(changes._versions) == 2
    assert await asyncio.wait_for(changes.wait("a", seen), 600) > seen
