"""What every book of launches promises; run on each implementation."""

from __future__ import annotations

import pytest

from vitascope.jobs.launches import MemoryLaunches
from vitascope.jobs.sql import SqlStore
from vitascope.launch import Launched, LaunchSpec

FULL = LaunchSpec(
    model="/models/Wan é", uid="wan", revision="main", device="cuda:1", dtype="float16", lora=("a=/l:0.5",),
    transformer_path=("/t.gguf",), name="Wan é",
)  # fmt: skip


@pytest.fixture
def open_book(place):
    """A function that opens the book; in SQL the same one again."""
    stores, memory = [], MemoryLaunches()

    def open_one():
        if place is None:
            return memory
        while stores:  # it is another server's turn
            stores.pop().close()
        stores.append(SqlStore(place))
        return stores[-1].launches

    yield open_one
    for store in stores:
        store.close()


def launch(uid: str, created_at: float, spec: LaunchSpec = FULL) -> Launched:
    return Launched(uid=uid, spec=spec, created_at=created_at)


def test_launches_read_back_exactly_and_oldest_first(open_book):
    book = open_book()
    later, earlier = launch("a", 20.125), launch("b", 10.0, LaunchSpec(model="b"))
    book.remember(later)
    book.remember(earlier)
    assert list(open_book().launched()) == [earlier, later]


def test_a_launch_takes_the_place_of_one_with_its_name(open_book):
    book = open_book()
    book.remember(launch("a", 1.0))
    book.remember(launch("a", 2.0, LaunchSpec(model="other")))
    assert list(open_book().launched()) == [launch("a", 2.0, LaunchSpec(model="other"))]


def test_what_is_struck_out_is_gone_and_may_be_struck_out_again(open_book):
    book = open_book()
    book.remember(launch("a", 1.0))
    book.remember(launch("b", 2.0))
    book.forget("a")
    book.forget("a")
    assert [launch.uid for launch in open_book().launched()] == ["b"]
