"""schemathesis, with all of its phases, against a real server with the bundled model; `make fuzz` runs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

MOST_S = 900


@pytest.mark.slow
def test_a_real_server_answers_as_it_documents(server_on, tmp_path):
    settings = tmp_path / "schemathesis.toml"
    settings.write_text("")  # none of the folder that the tests are run in
    # Nobody may launch or terminate models: each launch starts a process, and the model is needed to the end.
    limits = {"max_queue": 4, "max_body_bytes": 2**20, "allow_launch": "off"}
    with server_on(tmp_path / "data", **limits) as server:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "run"),
            f"{server.url}/openapi.json",
            *("--exclude-checks", "positive_data_acceptance"),  # the model's own rules are in its card
            *("--max-time", str(MOST_S), "--request-timeout", "120", "--generation-database", "none"),
            *("--seed", "1", "--no-color"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3 * MOST_S)
        assert done.returncode == 0, done.stdout
        assert "Traceback" not in server.log.read_text()
        server.wait_done(server.submit(num_inference_steps=1, num_frames=5))
