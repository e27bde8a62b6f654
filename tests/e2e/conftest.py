"""Real servers with real workers and the bundled model, as processes of their own."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from faults import Faults
from holds import Holds
from vitascope.config import Settings
from vitascope.scheduler.process import WORKER

PATIENCE_S = 600.0  # a net for what hangs; no test passes or fails by how long anything takes
POLL_S, MAX_POLL_S = 0.02, 0.25  # who asks all the time takes the processor from what is waited for
TESTS = Path(__file__).parents[1]

RUN = """
import sys
from functools import partial
from pathlib import Path
from vitascope import server
from vitascope.config import Settings
from vitascope.observability.logs import set_up_logging
set_up_logging()
sys.path.insert(0, sys.argv.pop(1))
from faults import Faults
Faults(Path(sys.argv.pop(1))).install_in_server()
server.Fleet = partial(server.Fleet, command=tuple(sys.argv[1:]))
server.serve(Settings.model_validate_json(sys.stdin.buffer.read()), lambda url: print(url, flush=True))
"""


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Poll until `condition` returns something true, and return that."""
    deadline, pause_s = time.monotonic() + PATIENCE_S, POLL_S
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S:g} s"
        time.sleep(pause_s)
        pause_s = min(1.2 * pause_s, MAX_POLL_S)
    return result


class LiveServer:
    """A server process on a data folder; may be killed and started again. `client` speaks to it.

    It heeds `faults`, and its workers `holds` too, unless they are to be started by the very command of the
    product.
    """

    def __init__(self, data_dir: Path, *, own_worker: bool = False, **settings: Any) -> None:
        self.data_dir = data_dir
        self.log = data_dir.parent / f"{data_dir.name}.log"
        self.holds = Holds(data_dir.parent / f"{data_dir.name}.holds")
        self.faults = Faults(self.holds.folder / "faults")
        self._worker = WORKER if own_worker else self.holds.command
        self.settings = {
            "data_dir": str(data_dir),
            "port": 0,
            "num_threads": 1,
            "checkpoint_interval_s": 0,
            **settings,
        }
        self.client: httpx.Client
        self.process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return str(self.client.base_url).rstrip("/")

    def start(self) -> None:
        """Start it and return once it listens; `wait_ready` waits for the model."""
        Settings.model_validate(self.settings)  # wrong ones are told here
        arguments = (RUN, str(TESTS), str(self.faults.folder), *self._worker)
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", *arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        self.process.stdin.write(json.dumps(self.settings, default=str))
        self.process.stdin.close()
        url = self.process.stdout.readline().strip()
        if not url:
            self.process.wait(PATIENCE_S)
            self.process.stdout.close()
            raise AssertionError(self.log.read_text())
        key = self.settings.get("api_key")
        headers = {"authorization": f"Bearer {key}"} if key else None
        # The server hangs up after five idle seconds; a client that does so first is never surprised by it.
        limits = httpx.Limits(keepalive_expiry=1.0)
        self.client = httpx.Client(base_url=url, timeout=PATIENCE_S, headers=headers, limits=limits)

    def wait_ready(self) -> None:
        """Return once a worker has its model loaded."""
        wait_until(lambda: self.client.get("/health").status_code == 200, "ready")

    def model_states(self) -> dict[str, str]:
        """How the models stand, by name."""
        listed = self.client.get("/v1/models/instances").json()
        return {entry["model_uid"]: entry["state"] for entry in listed}

    def wait_loaded(self, uid: str) -> None:
        """Return once a launched model is loaded."""
        wait_until(lambda: self.model_states()[uid] == "ready", f"{uid} is ready")

    def worker_pid(self) -> int:
        """The process id of the one worker."""
        return wait_until(self.worker_pids, "a worker process")[0]

    def kill_worker(self) -> None:
        """`kill -9` of the worker; returns once it is gone."""
        worker = psutil.Process(self.worker_pid())
        worker.kill()
        worker.wait(PATIENCE_S)

    def worker_pids(self) -> list[int]:
        """The process ids of all workers."""
        started = list(self._worker[1:])
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # gone, or nobody took its status yet
                if child.cmdline()[1 : len(self._worker)] == started:
                    found.append(child.pid)
        return found

    def submit(self, **fields: Any) -> str:
        """Ask for a clip, return its id."""
        body = {"prompt": "a red circle moving right on a blue background", "seed": 1, **fields}
        answer = self.client.post("/v1/videos", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def video(self, video_id: str) -> dict[str, Any]:
        """Return the Video object."""
        answer = self.client.get(f"/v1/videos/{video_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait_for(self, video_id: str, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the Video object as soon as it satisfies `reached`."""

        def look() -> dict[str, Any] | None:
            video = self.video(video_id)
            return video if reached(video) else None

        return wait_until(look, video_id)

    def wait_done(self, video_id: str) -> dict[str, Any]:
        """Return the Video object once it is completed; fails if the job does."""
        video = self.wait_for(video_id, lambda v: v["status"] in {"completed", "failed"})
        assert video["status"] == "completed", f"{video}\n{self.log.read_text()}"
        return video

    def content(self, video_id: str) -> bytes:
        """Return the MP4."""
        answer = self.client.get(f"/v1/videos/{video_id}/content")
        assert answer.status_code == 200, answer.text
        return answer.content

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self._reap()

    def terminate(self) -> int:
        """Ask it to stop, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE_S)
        self._reap()
        return status

    def wait_for_end(self) -> int:
        """Return the exit status of a server that ends by itself."""
        self.process.wait(PATIENCE_S)
        self._reap()
        return self.process.returncode

    def stop(self) -> None:
        """Make sure that it is gone."""
        self.holds.release()
        if self.process.poll() is None:
            try:
                self.terminate()
            except subprocess.TimeoutExpired:
                self.kill()

    def _reap(self) -> None:
        self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        self.client.close()


@contextlib.contextmanager
def running_server(data_dir: Path, **settings: Any) -> Iterator[LiveServer]:
    """A server that is ready; stopped in the end, with all of its processes."""
    server = LiveServer(data_dir, **settings)
    server.start()
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def server_on() -> Callable[..., contextlib.AbstractContextManager[LiveServer]]:
    """`running_server`, for tests that need settings or a scope of their own."""
    return running_server


@pytest.fixture(scope="session")
def make_server() -> type[LiveServer]:
    """A server that is not started, for tests of starting."""
    return LiveServer


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One server for all tests that leave it as they found it."""
    with running_server(tmp_path_factory.mktemp("shared") / "data") as server:
        yield server


@pytest.fixture
def holds(shared_server: LiveServer) -> Iterator[Holds]:
    """Where the workers of the shared server are held; they are let go in the end."""
    yield shared_server.holds
    shared_server.holds.release()
