"""What is no number on a command line is told with what was typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer

from vitascope.cli.flags import taking


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["generate", "x", "--seed", "1e3"], "Invalid value for '--seed': '1e3' is not an integer."),
        (["generate", "x", "--seed", "1_0"], "'1_0' is not an integer."),
        (["generate", "x", "--height", "64.0"], "'64.0' is not an integer."),
        (["generate", "x", "--fps", "fast"], "'fast' is not a number."),
        (["serve", "--port", "http"], "Invalid value for '--port': 'http' is not an integer."),
        (["jobs", "list", "--limit", "0"], "Invalid value for '--limit': 0 is below 1."),
    ],
)
def test_what_is_no_such_number_is_repeated(vitascope, line, told):
    ran = vitascope(*line)
    assert (ran.status, ran.out) == (2, "")
    assert told in ran.message


def test_a_number_is_read_as_one_and_what_is_not_given_stays_as_it_is():
    @dataclass(frozen=True)
    class Numbers:
        count: Annotated[int, typer.Option(min=1)] = 2
        rate: Annotated[float | None, typer.Option()] = None

    told = []
    app = typer.Typer()
    app.command()(taking(Numbers)(told.append))
    for line in ([], ["--count", "+3", "--rate", "1e-1"]):
        app(line, standalone_mode=False)
    assert told == [Numbers(count=2, rate=None), Numbers(count=3, rate=0.1)]
