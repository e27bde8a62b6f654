"""schemathesis against every operation: what the document allows, and what not, is answered as it says.

The server is real but for its workers: every job is done at once. `make fuzz` sends more.
"""

from __future__ import annotations

from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import positive_data_acceptance
from schemathesis.config import SchemathesisConfig

UNCHECKED = [positive_data_acceptance]  # a model's own rules are in its card, not in the document


@pytest.fixture(scope="module")
def operations(quick_url: str) -> list[Any]:
    document = requests.get(f"{quick_url}/openapi.json", timeout=600).json()
    schema = schemathesis.openapi.from_dict(document, config=SchemathesisConfig())
    schema.config.update(base_url=quick_url)
    return [found.ok() for found in schema.get_all_operations()]


@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value
)
def test_every_answer_is_a_documented_one(operations, quick_url, mode, num_fuzz_examples):
    quick = settings(
        max_examples=num_fuzz_examples,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    with requests.Session() as session:
        for operation in operations:
            if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
                continue  # nothing of it can be wrong

            @quick
            @given(operation.as_strategy(generation_mode=mode))
            def send(case: Case) -> None:
                case.call_and_validate(session=session, excluded_checks=UNCHECKED, timeout=600)

            send()
