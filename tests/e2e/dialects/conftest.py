"""For the tests of dialects: pictures, and the examples of `docs/dialects.md` as a reader would run them."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from documents import DIALECTS, WRITTEN_URL, blocks


@pytest.fixture
def examples(shared_server) -> Callable[[str, str], list[str]]:
    """The examples of one section in one language, with this server's address."""

    def read(section: str, language: str) -> list[str]:
        found = blocks(DIALECTS, language, section=section)
        assert found
        return [example.replace(WRITTEN_URL, shared_server.url) for example in found]

    return read


@pytest.fixture
def bash(tmp_path: Path) -> Callable[[str], str]:
    """Run a script in a folder of the test's own, strictly; return what it prints."""

    def run(script: str) -> str:
        command = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    return run


@pytest.fixture
def draw() -> Callable[..., bytes]:
    """A picture of one colour, as PNG."""

    def make(width: int, height: int, colour: tuple[int, int, int] = (30, 60, 200)) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (width, height), colour).save(buffer, "PNG")
        return buffer.getvalue()

    return make
