"""The generated page of families says what the code says."""

from __future__ import annotations

import pytest

import families_table
from tiny_models import CASES, tiny
from vitascope.models.registry import RECOGNISED
from vitascope.weights.checkpoint import Checkpoint

TASKS = {kind.pipeline: set(kind.tasks) for kind in RECOGNISED}


def test_the_page_is_not_stale() -> None:
    assert families_table.DOCUMENT.read_text(encoding="utf-8") == families_table.document(), "run `make docs`"


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_card_offers_tasks_that_its_pipeline_is_listed_with(name: str) -> None:
    model = tiny(name)
    assert set(model.family.card.tasks) <= TASKS[Checkpoint.open(model.folder).pipeline]


def test_every_task_that_is_listed_is_held_to_its_reference() -> None:
    tested = {(tiny(name).family.card.family, tiny(name).request().task) for name in CASES}
    assert tested == {(kind.family, task) for kind in RECOGNISED for task in kind.tasks}
