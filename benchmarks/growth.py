"""Whether a server and its worker grow: hundreds of tiny jobs of every fate, what both hold after each round.

python benchmarks/growth.py [--rounds 10] [--jobs 30] [--types]

In a round some clips are made and fetched, watched over an event stream that is left, downloaded in part,
cancelled, deleted while they wait, waited for by a caller who hangs up, failed, and refused. What is kept is
deleted before the next one. Both processes tell on SIGUSR1 how many objects, blocks of Python's memory and
tasks they have; with `--types` also of what type those are that became more since the second round.
"""

from __future__ import annotations

import argparse
import base64
import gc
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

PROMPT = "a red circle moving right on a blue background"
CLIP = {"prompt": PROMPT, "size": "32x32", "num_frames": 5, "num_inference_steps": 1}
LONG = {"num_inference_steps": 200}
POLL_S = 0.1
PATIENCE_S = 600.0
MEGA = 2**20
SERVE = """
import sys
from functools import partial
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from growth import WORK, tell_on_signal
from vitascope import server
from vitascope.config import Settings
folder = Path(sys.argv[2])
tell_on_signal(folder / "server")
server.Fleet = partial(server.Fleet, command=(sys.executable, "-c", WORK, *sys.argv[1:]))
settings = Settings(data_dir=folder / "data", port=0, num_threads=1, checkpoint_interval_s=1.0)
server.serve(settings, lambda url: print(url, flush=True))
"""
WORK = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from growth import tell_on_signal
from vitascope.worker.main import main
tell_on_signal(Path(sys.argv[2]) / "worker")
os._exit(main(sys.argv[3:]))
"""


def tell_on_signal(file: Path) -> None:
    """Have this process write on SIGUSR1 what it holds."""

    def tell(*_: object) -> None:
        gc.collect()
        objects = gc.get_objects()
        types = Counter(f"{type(it).__module__}.{type(it).__qualname__}" for it in objects)
        new = file.with_suffix(".new")
        told = {"objects": len(objects), "blocks": sys.getallocatedblocks(), "types": types}
        new.write_text(json.dumps(told))
        new.rename(file)

    signal.signal(signal.SIGUSR1, tell)


@dataclass(frozen=True, slots=True)
class Callers:
    """Those who ask, some at a time; no two requests are alike."""

    http: httpx.Client
    pictures: Path
    numbers: Iterator[int]

    def round(self, count: int) -> None:
        """Make so many requests, and delete what is left of them."""
        asks = (self.made, self.made, self.watched, self.cut_off, self.cancelled, self.deleted, self.left,
                self.failed, self.refused, self.damaged)  # fmt: skip
        with ThreadPoolExecutor(4) as pool:
            for asked in [pool.submit(asks[i % len(asks)], next(self.numbers)) for i in range(count)]:
                asked.result()
        while listed := self.http.get("/v1/videos", params={"limit": 100}).json()["data"]:
            for video in listed:
                self.http.delete(f"/v1/videos/{video['id']}")

    def made(self, number: int) -> None:
        video = self.ended(self.created(number))
        assert video["status"] == "completed", video
        assert self.http.get(f"/v1/videos/{video['id']}/content").content[4:8] == b"ftyp"

    def watched(self, number: int) -> None:
        video_id = self.created(number, num_inference_steps=3)
        with self.http.stream("GET", f"/v1/videos/{video_id}/events?preview=true") as stream:
            next(stream.iter_lines())
        self.ended(video_id)

    def cut_off(self, number: int) -> None:
        video_id = self.created(number)
        self.ended(video_id)
        with self.http.stream("GET", f"/v1/videos/{video_id}/content") as stream:
            assert stream.status_code == 200

    def cancelled(self, number: int) -> None:
        video_id = self.created(number, **LONG)
        self.http.post(f"/v1/videos/{video_id}/cancel")
        self.ended(video_id)

    def deleted(self, number: int) -> None:
        self.http.delete(f"/v1/videos/{self.created(number, **LONG)}")

    def left(self, number: int) -> None:
        form = {"prompt": (None, PROMPT), "seed": (None, str(number)), "num_inference_steps": (None, "200")}
        with suppress(httpx.ReadTimeout):
            self.http.post("/v1/videos/sync", files=form, timeout=httpx.Timeout(PATIENCE_S, read=0.3))

    def failed(self, number: int) -> None:
        video_id = self.created(number, input_reference={"image_url": picture_url(number)})
        for path in self.pictures.glob("*.png"):
            path.unlink(missing_ok=True)
        self.ended(video_id)  # or made, if its worker was quicker

    def refused(self, number: int) -> None:
        assert self.http.post("/v1/videos", json={f"nonsense_{number}": 1}).status_code == 400

    def damaged(self, number: int) -> None:
        upload = {"prompt": (None, f"number {number}"), "input_reference": ("a.png", os.urandom(200_000))}
        assert self.http.post("/v1/videos", files=upload).status_code == 400

    def created(self, number: int, **more: object) -> str:
        answer = self.http.post("/v1/videos", json={**CLIP, "seed": number, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def ended(self, video_id: str) -> dict:
        while True:
            video = self.http.get(f"/v1/videos/{video_id}").json()
            if video["status"] in {"completed", "failed"}:
                return video
            time.sleep(POLL_S)


def picture_url(number: int) -> str:
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), (number % 256, number // 256, 100)).save(picture, "PNG")
    return "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()


def measured(process: psutil.Process, file: Path) -> dict:
    """Look at a process from outside, and have it say what it holds."""
    file.unlink(missing_ok=True)
    process.send_signal(signal.SIGUSR1)
    while not file.exists():
        time.sleep(POLL_S)
    told = json.loads(file.read_text())
    tasks = sum(count for name, count in told["types"].items() if name in {"asyncio.Task", "_asyncio.Task"})
    return {
        "MB": round(process.memory_info().rss / MEGA, 1),
        "fds": process.num_fds(),
        "threads": process.num_threads(),
        "objects": told["objects"],
        "blocks": told["blocks"],
        "tasks": tasks,
        "types": Counter(told["types"]),
    }


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, dict[str, psutil.Process]]]:
    """Run a server; yields its address and both processes once the model is loaded."""
    command = [sys.executable, "-W", "ignore", "-c", SERVE, str(Path(__file__).parent), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = server.stdout.readline().strip()
            while httpx.get(f"{url}/health").status_code != 200:
                time.sleep(POLL_S)
            children = psutil.Process(server.pid).children()
            [worker] = [child for child in children if WORK in child.cmdline()]
            yield url, {"server": psutil.Process(server.pid), "worker": worker}
        finally:
            server.terminate()


def run(rounds: int, jobs: int, folder: Path) -> list[dict[str, dict]]:
    """Ask round after round; return what both processes held after each."""
    seen = []
    with served(folder) as (url, processes), httpx.Client(base_url=url, timeout=PATIENCE_S) as http:
        callers = Callers(http, folder / "data" / "artifacts", itertools.count())
        for number in range(1, rounds + 1):
            callers.round(jobs)
            seen.append({who: measured(process, folder / who) for who, process in processes.items()})
            print(number * jobs, *cells_of(seen[-1]), flush=True)
    return seen


def cells_of(now: dict[str, dict]) -> list[str]:
    return [str(value) for held in now.values() for name, value in held.items() if name != "types"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=30)
    parser.add_argument("--types", action="store_true")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        seen = run(said.rounds, said.jobs, Path(place))
    names = [name for name in seen[0]["server"] if name != "types"]
    table = Table("jobs", *(f"{who} {name}" for who in seen[0] for name in names))
    for number, now in enumerate(seen, 1):
        table.add_row(str(number * said.jobs), *cells_of(now))
    Console(width=140).print(table)
    for who in seen[0] if said.types else ():
        print(who, (seen[-1][who]["types"] - seen[1][who]["types"]).most_common(12))


if __name__ == "__main__":
    main()
