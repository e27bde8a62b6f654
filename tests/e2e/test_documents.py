"""The examples of the README and the quickstart, as a reader would run them."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from documents import QUICKSTART, README, WRITTEN_URL, blocks, commands

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


def shell(command: str, folder, **variables: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=folder, env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("page", "clip"), [(README, "square.mp4"), (QUICKSTART, "circle.mp4")], ids=lambda value: str(value)[-12:]
)
def test_the_sdks_example_runs_as_it_stands(shared_server, page, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [example] = [block for block in blocks(page, "python") if "OpenAI(" in block]
    names: dict = {}
    exec(example.replace(WRITTEN_URL, shared_server.url), names)
    assert (tmp_path / clip).read_bytes()[4:8] == b"ftyp"
    names["client"].videos.delete(names["video"].id)
    names["client"].close()


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_the_quickstarts_curl_lines_run_as_they_stand(shared_server, tmp_path):
    console = "".join(block for block in blocks(QUICKSTART, "console") if "curl" in block)
    create, show, follow, download, cancel, delete = commands(console.replace(WRITTEN_URL, shared_server.url))
    video_id = json.loads(shell(create, tmp_path))["id"]
    assert json.loads(shell(show, tmp_path, ID=video_id))["id"] == video_id
    assert "event: done" in shell(follow, tmp_path, ID=video_id)
    shell(download, tmp_path, ID=video_id)
    assert (tmp_path / f"{video_id}.mp4").read_bytes()[4:8] == b"ftyp"
    assert json.loads(shell(cancel, tmp_path, ID=video_id))["status"] == "completed"
    assert json.loads(shell(delete, tmp_path, ID=video_id))["deleted"] is True
