"""The rules that need no store."""

from __future__ import annotations

from vitascope.jobs.moves import percent


def test_the_percentage_is_true_to_the_step_and_never_100_while_running():
    assert [percent(step, 20) for step in (0, 1, 10, 19, 20)] == [0, 5, 50, 95, 99]
    assert percent(0, 0) == 0
