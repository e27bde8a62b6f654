"""For all tests: no hub, one thread for every numeric library, so that results repeat to the bit."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

os.environ.update(
    HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", TOKENIZERS_PARALLELISM="false"
)
# The same examples each time, and none fails because the machine was slow just then.
settings.register_profile(
    "vitascope", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("vitascope")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fuzz-examples", type=int, default=3, help="examples of each kind that a fuzzing test sends"
    )


@pytest.fixture(scope="session")
def postgresql():
    """A PostgreSQL server of this run's own, where its programs are installed."""
    from postgresql_here import cluster, why_not

    if why_not() is not None:
        pytest.skip(f"{why_not()}; see docs/how-to/testing.md")
    with cluster() as here:
        yield here
