"""Clients of other projects, as their registries have them, on a real server: what docs/clients.md says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import client_matrix
import client_packages
from client_matrix import Client

HERE = Path(__file__).parent
KEY = "a key that every client must send"
RUN_S = 240

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(server_on, tmp_path_factory) -> Iterator[Any]:
    """A server with a key, and an alias that gateways insist on."""
    data_dir = tmp_path_factory.mktemp("clients") / "data"
    with server_on(data_dir, api_key=KEY, model_alias=["sora-2"]) as server:
        yield server


@pytest.fixture
def drive(server, tmp_path, report):
    """Run a driver to its end; return what came of each of its steps."""

    def run(client: Client, mode: str, command: list[str], **environment: str) -> dict[str, str | None]:
        arguments = [mode, server.url, KEY, client.version, str(tmp_path)]
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=RUN_S, check=False,
            env={**os.environ, **environment}, cwd=tmp_path,
        )  # fmt: skip
        told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"step"')]
        outcomes = {each["step"]: each["broke"] for each in told}
        report(client, mode, outcomes)
        broken = "\n".join(f"{step}: {why}" for step, why in outcomes.items() if why)
        assert done.returncode == 0 and not broken, broken + done.stderr + done.stdout[-2000:]  # noqa: PT018
        return outcomes

    return run


def videos_of(server) -> list[str]:
    return [video["id"] for video in server.client.get("/v1/videos?limit=100").json()["data"]]


@pytest.fixture
def nothing_stays(server):
    yield
    assert videos_of(server) == []


def runs(*clients: Client) -> list[Any]:
    return [pytest.param(c, mode, id=f"{c.title} {mode}") for c in clients for mode in c.modes]


@pytest.mark.parametrize(("client", "mode"), runs(*client_matrix.OPENAI))
def test_every_python_sdk_does_all_that_it_can(client, mode, drive, nothing_stays):
    packages = client_packages.python_packages(client)
    paths = os.pathsep.join([str(packages), str(HERE)])
    # Later ones warn that OpenAI's own service ends; the client stays the field's common one.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(HERE / "openai_driver.py")]
    outcomes = drive(client, mode, command, PYTHONPATH=paths)
    assert outcomes.keys() == client_matrix.STEPS.keys() - client.lacks


def test_the_node_sdk_does_all_that_it_can(drive, nothing_stays):
    assert shutil.which("node"), "node and npm are needed to drive the Node SDK"
    client = client_matrix.NODE
    packages = client_packages.node_packages()
    driver = shutil.copy(HERE / "node" / "driver.mjs", packages)
    outcomes = drive(client, "node", ["node", driver])
    assert outcomes.keys() == client_matrix.STEPS.keys() - client.lacks


@pytest.fixture
def emptied(server):
    """Delete what a client without a call for that leaves."""
    yield
    for video_id in videos_of(server):
        assert server.client.delete(f"/v1/videos/{video_id}").status_code == 200


@pytest.mark.parametrize(("client", "mode"), runs(client_matrix.LITELLM))
def test_litellm_does_all_that_it_can(client, mode, drive, emptied):
    packages = client_packages.python_packages(client)
    paths = os.pathsep.join([str(packages), str(HERE)])
    outcomes = drive(client, mode, [sys.executable, str(HERE / "litellm_driver.py")], PYTHONPATH=paths)
    assert outcomes.keys() == client_matrix.STEPS.keys() - client.lacks
