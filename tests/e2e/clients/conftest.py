"""A table of what came of each client's steps, printed at the end of the run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from client_matrix import STEPS, Client

OUTCOMES = pytest.StashKey[dict[str, dict[str, str | None]]]()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[Client, str, dict[str, str | None]], None]:
    """Keep what came of one run."""
    outcomes = request.config.stash.setdefault(OUTCOMES, {})

    def keep(client: Client, mode: str, steps: dict[str, str | None]) -> None:
        outcomes[f"{client.title} {mode}"] = steps

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, a line a client."""
    outcomes = config.stash.get(OUTCOMES, {})
    if not outcomes:
        return
    terminalreporter.section("clients")
    for title, steps in sorted(outcomes.items()):
        told = [f"{step}: {_word(steps, step)}" for step in STEPS]
        terminalreporter.write_line(f"{title}\n    {', '.join(told)}")


def _word(steps: dict[str, str | None], step: str) -> str:
    if step not in steps:
        return "-"
    return "works" if steps[step] is None else "BROKEN"
