"""Which models fit beside which."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitascope.scheduler.room import Footprint, Tenant, missing_bytes, refusal, to_unload

GB = 10**9


def needs(weights: int, working: int = 0, free: int = 0) -> Footprint:
    return Footprint(
        device="cpu", weights_bytes=weights * GB, working_bytes=working * GB, free_bytes=free * GB
    )


def tenant(uid: str, weights: int, working: int = 0, **changes) -> Tenant:
    values = {"loaded": True, "idle": True, "used_at": 0.0} | changes
    return Tenant(uid=uid, footprint=needs(weights, working), **values)


def missing(asking: Footprint, *tenants: Tenant, budget: int | None = None) -> float:
    return missing_bytes(asking, tenants, None if budget is None else budget * GB) / GB


def test_a_loaded_model_has_its_weights_and_still_needs_room_to_work():
    assert missing(needs(5, 2, free=10), tenant("a", 30, 4)) == 1
    assert missing(needs(5, 2, free=10), tenant("a", 30, 3)) == 0


def test_a_model_that_loads_has_taken_nothing_yet():
    assert missing(needs(5, free=10), tenant("a", 6, loaded=False)) == 1
    assert missing(needs(5, free=10), tenant("a", 5, loaded=False)) == 0


def test_the_only_model_is_not_refused_by_an_estimate():
    assert missing(needs(50, free=1)) <= 0


def test_the_operators_budget_holds_for_all_models_together_and_for_one():
    assert missing(needs(5, 1), budget=5) == 1
    assert missing(needs(5, 1, free=100), tenant("a", 4), budget=9) == 1
    assert missing(needs(5, 1, free=100), tenant("a", 4), budget=10) == 0
    assert missing(needs(5, free=3), tenant("a", 4), budget=100) == 2


def test_those_used_longest_ago_go_first_and_no_more_than_needed():
    tenants = [tenant("new", 4, used_at=3.0), tenant("old", 4, used_at=1.0), tenant("mid", 4, used_at=2.0)]
    assert to_unload(4 * GB, tenants) == ["old"]
    assert to_unload(5 * GB, tenants) == ["old", "mid"]


def test_a_small_model_is_spared_where_its_end_would_not_help():
    tenants = [
        tenant("small", 1, used_at=1.0),
        tenant("large", 9, used_at=2.0),
        tenant("other", 9, used_at=3.0),
    ]
    assert to_unload(9 * GB, tenants) == ["large"]
    assert to_unload(10 * GB, tenants) == ["small", "large"]
    assert to_unload(0, tenants) == []


@pytest.mark.parametrize("changes", [{"idle": False}, {"loaded": False}])
def test_a_model_that_works_or_loads_stays(changes):
    assert to_unload(1 * GB, [tenant("a", 9, **changes)]) is None


def test_nothing_is_unloaded_where_it_would_not_be_enough():
    assert to_unload(9 * GB, [tenant("a", 4), tenant("b", 4)]) is None


@given(
    st.integers(-5, 40),
    st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(0, 5)), max_size=6),
)
def test_what_is_unloaded_is_idle_and_enough_or_else_all_idle_ones_are_not_enough(missing_gb, models):
    tenants = [tenant(f"m{i}", w, idle=idle, used_at=at) for i, (w, idle, at) in enumerate(models)]
    idle = {t.uid: t.footprint.needs_bytes for t in tenants if t.idle}
    chosen = to_unload(missing_gb * GB, tenants)
    if chosen is None:
        assert sum(idle.values()) < missing_gb * GB
    else:
        assert set(chosen) <= set(idle)
        assert sum(idle[uid] for uid in chosen) >= missing_gb * GB


def test_a_refusal_says_how_much_is_needed_and_left_and_which_model_would_have_to_go():
    tenants = [tenant("big", 20), tenant("small", 2), tenant("right", 5)]
    said = refusal("new", needs(6, 1, free=3), tenants, 4 * GB, unload_idle=False)
    assert said == (
        "new needs about 7.0 GB on cpu and 3.0 GB are left for it; terminate right, or start the server with "
        "--unload-idle."
    )


def test_a_refusal_names_two_or_all_models_where_one_is_not_enough():
    two = refusal("n", needs(9), [tenant("a", 2), tenant("b", 3)], 5 * GB, unload_idle=False)
    assert "terminate a and b," in two
    three = [tenant(name, 2) for name in "abc"]
    assert "terminate some of a, b, c," in refusal("n", needs(9), three, 5 * GB, unload_idle=False)


def test_a_refusal_says_that_models_are_at_work_or_that_nothing_would_help():
    busy = [tenant("a", 5, idle=False)]
    assert "a would have to go, and not all" in refusal("n", needs(9), busy, 5 * GB, unload_idle=True)
    assert "would not fit without the other models" in refusal("n", needs(9), busy, 6 * GB, unload_idle=True)
    assert "50 MB are left" in refusal("n", needs(9), [], 9 * GB - 50_000_000, unload_idle=False)
