"""What `vitascope jobs` says when there is no server, or another one, or wrong flags."""

from __future__ import annotations

import io
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from rich.console import Console

from vitascope.cli.jobs import _fate, _moment
from vitascope.cli.progress import JobBar


@pytest.fixture
def dead_port():
    """A port that nobody listens on, and that nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.parametrize(
    "command", [["list"], ["show", "x"], ["watch", "x"], ["cancel", "x"], ["delete", "x"], ["download", "x"]]
)
def test_a_server_that_is_not_there_is_one_line(vitascope, tmp_path, dead_port, command):
    url = f"http://127.0.0.1:{dead_port}"
    ran = vitascope("jobs", *command, "--url", url)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == (
        f"error: No server answers at {url}; start one with `vitascope serve`, or name it with --url.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_server_and_the_key_may_come_from_the_environment(vitascope, monkeypatch, dead_port):
    monkeypatch.setenv("VITASCOPE_URL", f"http://127.0.0.1:{dead_port}/v1")
    assert f"No server answers at http://127.0.0.1:{dead_port};" in vitascope("jobs", "list").err


def test_a_url_that_is_none_is_refused(vitascope):
    ran = vitascope("jobs", "list", "--url", "localhost:8000")
    assert ran.err == "error: url is 'localhost:8000'; write it as http://host:port.\n"


def test_another_program_at_the_address_is_told_apart(vitascope):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        ran = vitascope("jobs", "list", "--url", url)
        thread.join()
    assert (ran.status, ran.err) == (1, f"error: What answers at {url} is no Vitascope server.\n")


@pytest.mark.parametrize(
    ("event", "status", "error", "fate"),
    [
        ("done", "completed", None, (0, "video_1 completed in 2.50 s")),
        ("done", "failed", {"code": "x", "message": "Too large."}, (1, "video_1 failed: Too large.")),
        ("done", "failed", {"code": "cancelled", "message": "x"}, (3, "video_1 was cancelled")),
        ("deleted", None, None, (3, "video_1 was deleted")),
    ],
)
def test_a_jobs_fate_is_the_exit_status(event, status, error, fate):
    video = {"id": "video_1", "status": status, "error": error, "inference_time_s": 2.5}
    assert _fate(event, video) == fate


def test_a_time_is_that_of_this_machines_clock_with_its_zone(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "HERE-9")
        time.tzset()
        shown = _moment(1758941485)
    time.tzset()
    assert shown == "2025-09-27T11:51:25+09:00"


def test_the_bar_shows_place_stage_step_and_seconds_left():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    status = {"status": "queued", "stage": None, "step": 0, "num_steps": 0, "eta_s": 9.0, "queue_position": 2}
    with JobBar(console) as bar:
        bar.update(status)
        bar._progress.refresh()
        running = {"status": "in_progress", "stage": "denoise", "step": 7, "num_steps": 20, "eta_s": 4}
        bar.update(status | running)
        bar._progress.refresh()
    shown = console.file.getvalue()
    assert "2 before, 9 s left" in shown
    assert "denoise" in shown
    assert "7/20" in shown
    assert "4 s left" in shown
