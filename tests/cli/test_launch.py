"""What `vitascope launch`, `list` and `terminate` say to a server and about it; the server is a stand-in."""

from __future__ import annotations

import io
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from rich.console import Console

from vitascope.cli.progress import LaunchBar

INSTANCE = {
    "model_uid": "wan", "model_type": "video", "model_name": "Wan2.1-1.3B", "source": "owner/wan",
    "status": "CREATING", "state": "loading", "progress": 0.25, "stage": "loading", "error": None,
    "error_code": None,
}  # fmt: skip
READY = {**INSTANCE, "status": "READY", "state": "ready", "progress": 1.0}
FAILED = {**INSTANCE, "status": "ERROR", "state": "error", "error": "No room.", "error_code": "does_not_fit"}


class StandIn:
    """Notes what it is asked; `/instances` answers `instances` in turn, the last of them for ever."""

    def __init__(self):
        self.asked: list[tuple[str, str, dict]] = []
        self.instances: list[list[dict]] = [[READY]]
        self.refused: dict[str, tuple[int, str]] = {}  # by method
        self.launched = {"model_uid": "wan"}

    def answer(self, method, target, body):
        path = urlsplit(target).path
        query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        self.asked.append((method, path, body or query))
        if method in self.refused:
            status, said = self.refused[method]
            return status, {"error": {"message": said, "code": "invalid_value", "param": None, "type": "x"}}
        if path.endswith("/instances"):
            return 200, self.instances.pop(0) if len(self.instances) > 1 else self.instances[0]
        return 200, self.launched if (method, path) == ("POST", "/v1/models") else None


@pytest.fixture
def server(monkeypatch):
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, content = stand_in.answer(self.command, self.path, json.loads(body) if body else {})
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self):
            self.do_GET()

        def do_DELETE(self):
            self.do_GET()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("VITASCOPE_URL", f"http://127.0.0.1:{listening.server_port}")
        yield stand_in
        listening.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr("vitascope.cli.launch.POLL_S", 0)


def test_a_launch_is_followed_until_the_model_is_ready(vitascope, server):
    server.instances = [[INSTANCE], [INSTANCE], [READY]]
    server.launched = {
        "model_uid": "wan",
        "warnings": ["trust_remote_code has no effect here: no code is run."],
    }
    ran = vitascope(
        "launch", "-n", "Wan2.1-1.3B", "-t", "video", "-u", "wan", "--n-gpu", "none", "--replica", "1",
        "--trust-remote-code", "True", "-lm", "ink", "/l/ink.safetensors",
    )  # fmt: skip
    assert (ran.status, ran.out) == (0, "wan is ready\n")
    assert "note: trust_remote_code has no effect here" in ran.err
    posted, *followed = server.asked
    assert posted == (
        "POST",
        "/v1/models",
        {
            "model_name": "Wan2.1-1.3B", "model_type": "video", "model_uid": "wan", "n_gpu": None,
            "replica": 1, "trust_remote_code": True, "lora": ["ink=/l/ink.safetensors"],
        },
    )  # fmt: skip
    assert followed == [("GET", "/v1/models/instances", {"model_uid": "wan"})] * 3


def test_the_bar_shows_the_stage_and_how_far_it_is():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with LaunchBar(console) as bar:
        bar.update(INSTANCE)
    drawn = console.file.getvalue()
    assert "loading" in drawn
    assert " 25 %" in drawn


def test_a_launch_that_fails_ends_with_its_reason(vitascope, server):
    server.instances = [[FAILED]]
    ran = vitascope("launch", "wan")
    assert (ran.status, ran.out, ran.err) == (1, "", "error: wan: No room.\n")


def test_a_launch_that_somebody_ends_is_told(vitascope, server):
    server.instances = [[]]
    ran = vitascope("launch", "wan")
    assert ran.err == "error: wan is not there any more: somebody cancelled or terminated it.\n"


def test_ctrl_c_asks_the_server_to_cancel(vitascope, server, monkeypatch):
    server.instances = [[INSTANCE]]

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupted)
    ran = vitascope("launch", "wan")
    assert (ran.status, ran.out, ran.err) == (130, "", "wan: the launch was cancelled\n")
    assert server.asked[-1][:2] == ("POST", "/v1/models/wan/cancel")


def test_without_waiting_nothing_is_followed(vitascope, server):
    assert vitascope("launch", "wan", "--no-wait").out == "wan is being loaded\n"
    assert [method for method, _, _ in server.asked] == ["POST"]
    assert json.loads(vitascope("launch", "wan", "--no-wait", "--json").out) == READY


def test_a_folder_of_this_machine_is_sent_with_its_whole_path(vitascope, server, tmp_path):
    (tmp_path / "wan").mkdir()
    vitascope("launch", "--model-path", "./wan")
    vitascope("launch", "wan")
    vitascope("launch", "owner/wan")
    bodies = [body for method, _, body in server.asked if method == "POST"]
    assert bodies[0]["model_path"] == str(tmp_path.resolve() / "wan")
    assert [body["model_name"] for body in bodies[1:]] == ["wan", "owner/wan"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["wan", "--model-name", "other"], "MODEL is 'wan' and --model-name 'other'; give one."),
        (["wan", "--replica", "1", "-r", "2"], "replica is given twice."),
        (["wan", "--set", "replica"], "--set 'replica' is not KEY=VALUE."),
    ],
)
def test_a_line_that_contradicts_itself_is_refused(vitascope, server, line, said):
    ran = vitascope("launch", *line)
    assert (ran.status, ran.err) == (1, f"error: {said}\n")
    assert server.asked == []


def test_a_refusal_of_the_server_is_one_line(vitascope, server):
    server.refused["POST"] = (400, "cpu_offload is 'True': weights cannot be offloaded yet; leave it out.")
    ran = vitascope("launch", "wan", "--cpu_offload", "True")
    assert (ran.status, ran.err) == (1, f"error: {server.refused['POST'][1]}\n")
    assert server.asked[0][2]["cpu_offload"] is True


def test_models_are_listed_with_their_states(vitascope, server):
    server.instances = [[READY, {**INSTANCE, "model_uid": "second"}, {**FAILED, "model_uid": "third"}]]
    ran = vitascope("list")
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[0] == ["uid", "type", "name", "source", "state"]
    assert lines[1] == ["wan", "video", "Wan2.1-1.3B", "owner/wan", "ready"]
    assert lines[2][-2:] == ["25%,", "loading"]
    assert lines[3][-3:] == ["error:", "No", "room."]
    assert json.loads(vitascope("list", "--json").out) == server.instances[0]
    server.instances = [[]]
    assert vitascope("list").out == "there are no models\n"


def test_models_are_terminated_by_uid(vitascope, server):
    ran = vitascope("terminate", "a", "b/c", "--model-uid", "d")
    assert ran.out == "a: terminated\nb/c: terminated\nd: terminated\n"
    assert [path for _, path, _ in server.asked] == ["/v1/models/a", "/v1/models/b%2Fc", "/v1/models/d"]
    ran = vitascope("terminate", "a", "--json")
    assert json.loads(ran.out) == {"model_uid": "a", "state": "terminated"}
    assert "Name a model" in vitascope("terminate").message


@pytest.mark.parametrize("command", [["launch", "x"], ["list"], ["terminate", "x"]])
def test_a_server_that_is_not_there_is_one_line(vitascope, command):
    with socket.socket() as bound:  # nobody listens there, and nobody else can meanwhile
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        ran = vitascope(*command, "-e", f"http://127.0.0.1:{port}")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith(f"error: No server answers at http://127.0.0.1:{port};")
