from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from vitascope.request import AttentionCache
from vitascope.sampling.attention_cache import Action, KeptAttention, plan

C, S, R = Action.COMPUTE, Action.STORE, Action.REUSE


def planned(start: int, interval: int, end: int, num_steps: int) -> tuple[Action, ...]:
    return plan(AttentionCache(start_step=start, interval=interval, end_step=end), num_steps)


def reused(start: int, interval: int, end: int, num_steps: int) -> int:
    return planned(start, interval, end, num_steps).count(R)


def test_the_reference_vector_is_met() -> None:
    assert planned(1, 3, 5, 7) == (C, S, R, R, S, R, C)


@pytest.mark.parametrize(
    ("start", "interval", "end", "num_steps", "spared"),
    [(12, 4, 37, 40, 19), (12, 4, 37, 30, 13), (20, 2, 47, 50, 14)],
)
def test_the_published_presets_spare_what_they_say(
    start: int, interval: int, end: int, num_steps: int, spared: int
) -> None:
    assert reused(start, interval, end, num_steps) == spared


@pytest.mark.parametrize(
    ("start", "interval", "end", "num_steps"), [(30, 4, 37, 30), (12, 4, 12, 30), (0, 1, 20, 30)]
)
def test_a_late_start_an_end_at_the_start_or_an_interval_of_one_keep_nothing(
    start: int, interval: int, end: int, num_steps: int
) -> None:
    assert planned(start, interval, end, num_steps) == (C,) * num_steps
    cache = AttentionCache(start_step=start, interval=interval, end_step=end)
    assert not cache.acts_within(num_steps)


def test_what_acts_and_what_is_planned_agree() -> None:
    for start in range(6):
        for interval in range(1, 5):
            for end in range(start, 8):
                for num_steps in range(1, 8):
                    cache = AttentionCache(start_step=start, interval=interval, end_step=end)
                    assert (R in plan(cache, num_steps)) == cache.acts_within(num_steps)


def test_every_reused_step_follows_a_stored_one() -> None:
    for interval in range(2, 6):
        actions = planned(1, interval, 9, 12)
        for now, then in pairwise(actions):
            assert now is not C or then is not R


def test_without_a_cache_every_step_computes() -> None:
    assert plan(None, 3) == (C, C, C)


def numbered(calls: list[int]) -> torch.Tensor:
    calls.append(1)
    return torch.full((4,), float(len(calls)))


def test_passes_and_modules_have_outputs_of_their_own() -> None:
    kept, calls = KeptAttention(planned(0, 4, 3, 4)), []
    made = {
        (name, module): kept.branch(name, 0, "net").get(module, lambda: numbered(calls))
        for name in ("cond", "uncond")
        for module in ("block 0", "block 1")
    }
    for (name, module), output in made.items():
        assert kept.branch(name, 1, "net").get(module, lambda: numbered(calls)) is output
    assert len(calls) == 4


def test_outputs_are_freed_once_no_step_takes_them() -> None:
    kept = KeptAttention(planned(0, 2, 3, 6))  # S R S R C C
    sizes = []
    for step in range(6):
        kept.branch("cond", step, "net").get("block", lambda: torch.ones(4))
        kept.end(step)
        sizes.append(kept.num_bytes)
    assert sizes == [16, 0, 16, 0, 0, 0]


def test_a_network_that_takes_over_computes_and_frees_the_others_outputs() -> None:
    kept, calls = KeptAttention(planned(0, 5, 4, 5)), []
    kept.branch("cond", 0, "high").get("high block", lambda: numbered(calls))
    kept.end(0)
    kept.branch("cond", 1, "low").get("low block", lambda: numbered(calls))
    kept.end(1)
    kept.branch("cond", 2, "low").get("low block", lambda: numbered(calls))
    assert len(calls) == 2
    assert kept.num_bytes == 16
