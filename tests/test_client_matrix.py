"""The page of clients says what `make sdk-matrix` holds them to."""

from __future__ import annotations

import json
import re

import pytest

import client_matrix

DRIVERS = client_matrix.NODE_SOURCE.parent


def test_the_page_is_not_stale():
    assert client_matrix.DOCUMENT.read_text(encoding="utf-8") == client_matrix.document(), "run `make docs`"


@pytest.mark.parametrize(
    ("client", "driver"),
    [
        (client_matrix.OPENAI[-1], "openai_driver.py"),
        (client_matrix.NODE, "node/driver.mjs"),
        (client_matrix.LITELLM, "litellm_driver.py"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_driver_takes_every_step_that_the_page_shows(client, driver):
    text = (DRIVERS / driver).read_text(encoding="utf-8")
    taken = re.findall(r'^@steps\.step\("([a-z ]*)".*\)|^  async "?([a-z ]+)"?\(\)', text, re.MULTILINE)
    assert sorted(first or second for first, second in taken) == sorted(
        client_matrix.STEPS.keys() - client.lacks
    )


def test_the_node_sdk_is_pinned_to_the_version_that_the_page_shows():
    package = json.loads((client_matrix.NODE_SOURCE / "package.json").read_text(encoding="utf-8"))
    assert package["dependencies"] == {"openai": client_matrix.NODE.version}
