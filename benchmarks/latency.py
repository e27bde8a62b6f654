"""How fast `GET /v1/videos/{id}` answers while clips are made: 1,000 requests, idle and busy.

python benchmarks/latency.py [requests]

Busy means that jobs follow each other without a gap, so that one denoises while another's frames are encoded;
the table says in how much of the time that was so. The goal is a 99th percentile under 50 ms.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

REQUESTS = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
PAUSE_S = 0.01  # between two requests, so that they spread over several jobs
GOAL_S = 0.050
QUEUED = 4  # jobs that are kept in line
CLIP = {
    "prompt": "a red circle moving right on a blue background",
    "size": "128x128",
    "num_frames": 33,
    "num_inference_steps": 4,
}
START_LIMIT_S = 120
SERVE = """
import sys
from vitascope.config import load_settings
from vitascope.server import serve
serve(load_settings({"port": 0, "data_dir": sys.argv[1]}), lambda url: print(url, flush=True))
"""


class Api:
    """One keep-alive connection, with as little of its own as possible."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)

    def call(self, method: str, path: str, body: dict | None = None) -> tuple[int, dict]:
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, {"content-type": "application/json"})
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())

    def timed_get(self, path: str) -> float:
        begun = time.perf_counter()
        status, _ = self.call("GET", path)
        assert status == 200, status
        return time.perf_counter() - begun


@dataclass
class Load:
    """Jobs without end, from a thread; counts how many were in progress at each look."""

    url: str
    looks: list[int]
    stop: threading.Event

    def run(self) -> None:
        api = Api(self.url)
        while not self.stop.wait(0.05):
            jobs = api.call("GET", "/v1/videos?limit=20")[1]["data"]
            self.looks.append(sum(job["status"] == "in_progress" for job in jobs))
            if sum(job["status"] == "queued" for job in jobs) < QUEUED:
                api.call("POST", "/v1/videos", CLIP)


def measure(url: str, clients: int) -> list[float]:
    """Time the requests, spread over `clients` connections."""
    api = Api(url)
    video_id = api.call("POST", "/v1/videos", {**CLIP, "num_inference_steps": 1})[1]["id"]
    times: list[float] = []

    def poll() -> None:
        own = Api(url)
        for _ in range(REQUESTS // clients):
            times.append(own.timed_get(f"/v1/videos/{video_id}"))
            time.sleep(PAUSE_S)

    threads = [threading.Thread(target=poll) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(times)


def wait_until(url: str, path: str, reached) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not reached(*Api(url).call("GET", path)):
        assert time.monotonic() < deadline, f"{path}: not within {START_LIMIT_S} s"
        time.sleep(0.1)


def nothing_runs(_: int, page: dict) -> bool:
    return all(job["status"] in {"completed", "failed"} for job in page["data"])


def row(name: str, times: list[float], overlap: str) -> list[str]:
    at = [times[int(len(times) * share)] for share in (0.5, 0.9, 0.99)]
    shown = [f"{value * 1000:.1f}" for value in (*at, times[-1])]
    return [name, str(len(times)), *shown, overlap]


def main() -> None:
    console = Console()
    table = Table("server", "GETs", "p50 ms", "p90 ms", "p99 ms", "max ms", "1 / 2 jobs run")
    with tempfile.TemporaryDirectory() as data_dir:
        command = [sys.executable, "-W", "ignore", "-c", SERVE, str(Path(data_dir) / "data")]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            url = server.stdout.readline().strip()
            wait_until(url, "/health", lambda status, _: status == 200)
            Api(url).call("POST", "/v1/videos", {**CLIP, "num_inference_steps": 1})
            wait_until(url, "/v1/videos", nothing_runs)
            table.add_row(*row("idle, 1 polling", measure(url, 1), "-"))
            p99 = []
            for clients in (1, 8):
                load = Load(url, [], threading.Event())
                thread = threading.Thread(target=load.run)
                thread.start()
                wait_until(url, "/v1/videos", lambda _, page: not nothing_runs(_, page))
                load.looks.clear()
                times = measure(url, clients)
                load.stop.set()
                thread.join()
                shares = [load.looks.count(n) / max(len(load.looks), 1) for n in (1, 2)]
                table.add_row(*row(f"busy, {clients} polling", times, " / ".join(f"{s:.0%}" for s in shares)))
                p99.append(times[int(len(times) * 0.99)])
        finally:
            server.terminate()
            server.wait(timeout=30)
    console.print(table)
    verdict = "reached" if p99[0] < GOAL_S else "missed"
    console.print(f"goal, one client on a busy server: p99 under {GOAL_S * 1000:.0f} ms: {verdict}")


if __name__ == "__main__":
    main()
