"""Five dialects at once on one server: every answer is its asker's own, and nothing is left behind.

Each request differs from all others in its prompt and seed, most in size; some are cancelled, deleted while
they wait, or refused. `make soak` sends more of them.
"""

from __future__ import annotations

import base64
import io
import itertools
import math
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import openai
import psutil
import pytest
from PIL import Image
from xinference_client import RESTfulClient

from vitascope.jobs.moves import DELETED_GRACE_S
from vitascope.jobs.retention import ORPHAN_LOOK_S, ORPHAN_LOOKS, Sweeper
from vitascope.jobs.sql import SqlStore
from vitascope.media.artifacts import FolderArtifacts
from vitascope.media.provenance import read_provenance
from vitascope.worker.loop import THREADS

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

FATES = ["done"] * 5 + ["cancelled", "deleted", "refused"]
SIZES = [(32, 32), (48, 32), (32, 48), (48, 48)]
ASKERS = 16  # at once
MANY_STEPS = 100
NEVER_DONE = 25  # steps that only requests without an end before their cancel come to; there they are held
PATIENCE_S = 600.0
POLL_S = 0.1
POOLS = {"threads": 4 + (os.cpu_count() or 1), "worker's threads": THREADS - 1}  # which may still grow
LIMITS = httpx.Limits(max_connections=64, keepalive_expiry=1.0)


@dataclass(frozen=True)
class Order:
    """One request: unlike every other, and what is to become of it."""

    number: int
    dialect: str
    fate: str

    @property
    def prompt(self) -> str:
        return f"a red circle moving right on a blue background, number {self.number}"

    @property
    def seed(self) -> int:
        return 1000 + 10 * self.number

    @property
    def size(self) -> tuple[int, int]:
        return SIZES[self.number % len(SIZES)] if self.dialect != "Multi-GPU FastAPI" else SIZES[0]

    @property
    def num_frames(self) -> int:
        return 25 if self.dialect == "Multi-GPU FastAPI" else 5 + 4 * (self.number % 2)

    @property
    def steps(self) -> int:
        return 20 if self.dialect == "Multi-GPU FastAPI" else 1 + self.number % 3

    @property
    def nonsense(self) -> str:
        """The name of a field that nobody knows."""
        return f"nonsense_{self.number}"

    def fields(self, steps: int | None = None) -> dict[str, Any]:
        width, height = self.size
        return {
            "width": width,
            "height": height,
            "num_frames": self.num_frames,
            "num_inference_steps": steps or self.steps,
            "seed": self.seed,
        }


class Asker(Protocol):
    """A client of one dialect. What stays on the server is returned by its id."""

    def done(self, order: Order) -> tuple[list[bytes], str | None]: ...
    def cancelled(self, order: Order) -> str | None: ...
    def deleted(self, order: Order) -> None: ...
    def refused(self, order: Order) -> None: ...


class Jobs:
    """What the dialects of `/v1/videos` have in common."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=PATIENCE_S, limits=LIMITS)

    def create(self, order: Order, fields: dict[str, Any]) -> httpx.Response:
        """SGLang's way, with JSON."""
        more = {"generator_device": "cuda", "enable_teacache": False}
        return self.http.post("/v1/videos", json={"prompt": order.prompt, **fields, **more})

    def made(self, order: Order, steps: int | None = None) -> str:
        answer = self.create(order, order.fields(steps)).raise_for_status().json()
        assert (answer["prompt"], answer["seed"]) == (order.prompt, order.seed)
        return str(answer["id"])

    def ended(self, video_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            video = self.http.get(f"/v1/videos/{video_id}").raise_for_status().json()
            assert video["id"] == video_id
            if video["status"] in {"completed", "failed"}:
                return dict(video)
            time.sleep(POLL_S)
        raise AssertionError(f"{video_id} does not end")

    def done(self, order: Order) -> tuple[list[bytes], str | None]:
        video = self.ended(self.made(order))
        assert (video["status"], video["prompt"], video["seed"]) == ("completed", order.prompt, order.seed)
        return [self.http.get(f"/v1/videos/{video['id']}/content").raise_for_status().content], video["id"]

    def cancelled(self, order: Order) -> str | None:
        video_id = self.made(order, MANY_STEPS)
        assert self.http.post(f"/v1/videos/{video_id}/cancel").raise_for_status().json()["id"] == video_id
        assert self.ended(video_id)["error"]["code"] == "cancelled"
        return video_id

    def deleted(self, order: Order) -> None:
        self.delete(self.made(order, MANY_STEPS))

    def delete(self, video_id: str) -> None:
        assert self.http.delete(f"/v1/videos/{video_id}").raise_for_status().json()["id"] == video_id
        assert self.http.get(f"/v1/videos/{video_id}").status_code == 404

    def refused(self, order: Order) -> None:
        answer = self.create(order, {order.nonsense: 1})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, order.nonsense)


class OpenAI(Jobs):
    """The SDK; what it has no method for goes beside it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sdk = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S)

    def made(self, order: Order, steps: int | None = None) -> str:
        video = self.sdk.videos.create(prompt=order.prompt, extra_body=order.fields(steps))
        assert (video.prompt, video.model_extra["seed"]) == (order.prompt, order.seed)
        return video.id

    def done(self, order: Order) -> tuple[list[bytes], str | None]:
        video = self.sdk.videos.poll(self.made(order), poll_interval_ms=50)
        assert (video.status, video.prompt) == ("completed", order.prompt)
        return [self.sdk.videos.download_content(video.id).read()], video.id

    def delete(self, video_id: str) -> None:
        assert self.sdk.videos.delete(video_id).id == video_id
        with pytest.raises(openai.NotFoundError):
            self.sdk.videos.retrieve(video_id)

    def refused(self, order: Order) -> None:
        with pytest.raises(openai.BadRequestError) as refusal:
            self.sdk.videos.create(prompt=order.prompt, extra_body={order.nonsense: 1})
        assert refusal.value.param == order.nonsense


class VllmOmni(Jobs):
    """Forms, and the call that waits: to cancel it is to hang up."""

    def create(self, order: Order, fields: dict[str, Any]) -> httpx.Response:
        return self.http.post("/v1/videos", files=self.form(order, fields))

    def form(self, order: Order, fields: dict[str, Any]) -> dict[str, Any]:
        return {name: (None, str(value)) for name, value in {"prompt": order.prompt, **fields}.items()}

    def done(self, order: Order) -> tuple[list[bytes], str | None]:
        answer = self.http.post("/v1/videos/sync", files=self.form(order, order.fields())).raise_for_status()
        assert float(answer.headers["x-inference-time-s"]) > 0
        return [answer.content], None

    def cancelled(self, order: Order) -> str | None:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{self.url}/v1/videos/sync",
                files=self.form(order, order.fields(MANY_STEPS)),
                timeout=httpx.Timeout(PATIENCE_S, read=0.3),
            )
        return None


class Xinference(Jobs):
    """Its own client, which waits; every second clip comes as a URL and stays."""

    def call(self, order: Order, **more: Any) -> dict[str, Any]:
        client = RESTfulClient(self.url)
        try:
            [name] = client.list_models()
            return dict(client.get_model(name).text_to_video(order.prompt, **{**order.fields(), **more}))
        finally:
            client.close()

    def done(self, order: Order) -> tuple[list[bytes], str | None]:
        if order.number % 2:
            answer = self.call(order, n=2)
            return [base64.b64decode(clip["b64_json"]) for clip in answer["data"]], None
        [clip] = self.call(order, response_format="url")["data"]
        return [self.http.get(clip["url"]).raise_for_status().content], clip["url"].split("/")[-2]

    def cancelled(self, order: Order) -> str | None:
        request_id, said = f"call-{order.number}", []

        def call() -> None:
            with pytest.raises(RuntimeError) as refusal:
                self.call(order, request_id=request_id, num_inference_steps=MANY_STEPS)
            said.append(str(refusal.value))

        caller = threading.Thread(target=call)
        caller.start()
        while self.abort(request_id) != "DONE":
            assert caller.is_alive()
            time.sleep(POLL_S)
        caller.join(PATIENCE_S)
        assert "cancelled" in said[0]
        return None

    def abort(self, request_id: str) -> str:
        [name] = [model["id"] for model in self.http.get("/v1/models").json()["data"]]
        return str(self.http.post(f"/v1/models/{name}/requests/{request_id}/abort", json={}).json()["msg"])

    def refused(self, order: Order) -> None:
        with pytest.raises(RuntimeError, match=order.nonsense):
            self.call(order, **{order.nonsense: 1})


class MultiGpu(Jobs):
    """Submit, ask, download; each with a picture of its own."""

    def task(self, order: Order, **more: Any) -> httpx.Response:
        width, height = order.size
        image = io.BytesIO()
        Image.new("RGB", (40, 40), (order.number % 256, 60, 200)).save(image, "PNG")
        url = "data:image/png;base64," + base64.b64encode(image.getvalue()).decode()
        body = {
            "prompt": order.prompt,
            "image_url": url,
            "image_size": f"{width}*{height}",
            "seed": order.seed,
        }
        body |= {"num_frames": order.num_frames, "infer_steps": order.steps, **more}
        return self.http.post("/video/submit", json=body)

    def made(self, order: Order, steps: int | None = None) -> str:
        answer = self.task(order, infer_steps=steps or order.steps).raise_for_status()
        return str(answer.json()["requestId"])

    def done(self, order: Order) -> tuple[list[bytes], str | None]:
        task = self.made(order)
        told = self.until(task, {"Succeed", "Failed", "Cancelled"})
        assert told["results"]["video_url"].endswith(f"{task}.mp4"), told
        return [self.http.get(f"/videos/{task}.mp4").raise_for_status().content], f"video_{task}"

    def until(self, task: str, statuses: set[str]) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            told = self.http.post("/video/status", json={"requestId": task}).raise_for_status().json()
            if told["status"] in statuses:
                return dict(told)
            time.sleep(POLL_S)
        raise AssertionError(f"{task} does not end")

    def cancelled(self, order: Order) -> str | None:
        task = self.made(order, MANY_STEPS)
        assert self.http.post("/video/cancel", json={"requestId": task}).json() == {"status": "Cancelled"}
        self.until(task, {"Cancelled"})
        return f"video_{task}"

    def deleted(self, order: Order) -> None:
        self.delete(f"video_{self.made(order, MANY_STEPS)}")

    def refused(self, order: Order) -> None:
        answer = self.task(order, **{order.nonsense: 1})
        assert answer.status_code == 422
        assert order.nonsense in answer.json()["detail"]


DIALECTS: dict[str, Callable[[str], Asker]] = {
    "OpenAI": OpenAI,
    "vLLM-Omni": VllmOmni,
    "SGLang": Jobs,
    "Xinference": Xinference,
    "Multi-GPU FastAPI": MultiGpu,
}


def orders(count: int, start: int = 0) -> list[Order]:
    """As many of each dialect and of each fate as may be, in an order that is always the same."""
    names = list(DIALECTS)
    made = [
        Order(start + i, names[i % len(names)], FATES[i // len(names) % len(FATES)]) for i in range(count)
    ]
    random.Random(count).shuffle(made)
    return made


def check_clips(clips: list[bytes], order: Order, folder: Path) -> None:
    """Each says of itself that it is this order's, with the seeds one after the other."""
    for i, clip in enumerate(clips):
        path = folder / f"{order.number}-{i}.mp4"
        path.write_bytes(clip)
        request = read_provenance(path).request
        said = (request.prompt, request.seed, (request.width, request.height), request.num_frames)
        assert said == (order.prompt, order.seed + i, order.size, order.num_frames)
        assert request.num_inference_steps == order.steps


class Crowd:
    """All askers of one server, what they were given and what stays there."""

    def __init__(self, url: str, folder: Path) -> None:
        self.askers = {name: make(url) for name, make in DIALECTS.items()}
        self.folder = folder
        self.clips: dict[Order, list[bytes]] = {}
        self.stays: dict[str, Order] = {}

    def ask(self, order: Order) -> None:
        asker = self.askers[order.dialect]
        stays = None
        if order.fate == "done":
            clips, stays = asker.done(order)
            check_clips(clips, order, self.folder)
            self.clips[order] = clips
        elif order.fate == "cancelled":
            stays = asker.cancelled(order)
        elif order.fate == "deleted":
            asker.deleted(order)
        else:
            asker.refused(order)
        if stays is not None:
            assert self.stays.setdefault(stays, order) is order

    def ask_all(self, wanted: list[Order]) -> None:
        with ThreadPoolExecutor(ASKERS) as pool:
            asked = [(order, pool.submit(self.ask, order)) for order in wanted]
        wrong = {order: task.exception() for order, task in asked if task.exception() is not None}
        assert not wrong

    def leave(self) -> None:
        for asker in self.askers.values():
            asker.http.close()
        self.askers["OpenAI"].sdk.close()


def pages(server: Any, order: str) -> list[dict[str, Any]]:
    """Everything that the server lists, page by page."""
    found: list[dict[str, Any]] = []
    more: dict[str, Any] = {}
    while True:
        page = server.client.get("/v1/videos", params={"limit": 7, "order": order, **more}).json()
        found += page["data"]
        if not page["has_more"]:
            return found
        more = {"after": page["last_id"]}


def check_listed(server: Any, stays: dict[str, Order]) -> None:
    oldest_first = pages(server, "asc")
    assert pages(server, "desc") == oldest_first[::-1]
    assert sorted(video["id"] for video in oldest_first) == sorted(stays)
    for video in oldest_first:
        order = stays[video["id"]]
        assert (video["prompt"], video["seed"]) == (order.prompt, order.seed)
        assert video["status"] == ("completed" if order.fate == "done" else "failed")


def sizes_of(server: Any) -> dict[str, int]:
    """How much of the machine the server and its worker hold; the store's connections are a pool's."""
    own, worker = psutil.Process(server.process.pid), psutil.Process(server.worker_pid())
    return {
        "connections": len(own.net_connections("tcp")),
        "files": len([file for file in own.open_files() if "jobs.sqlite3" not in file.path]),
        "threads": own.num_threads(),
        "worker's descriptors": worker.num_fds(),
        "worker's threads": worker.num_threads(),
    }


def settles_to(server: Any, before: dict[str, int]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while any(now > before[what] + POOLS.get(what, 0) for what, now in sizes_of(server).items()):
        assert time.monotonic() < deadline, (before, sizes_of(server))
        time.sleep(POLL_S)


def check_nothing_is_left(data_dir: Path) -> None:
    """Of a stopped server: the next sweeps leave an empty folder and empty tables."""
    artifacts = FolderArtifacts(data_dir / "artifacts")
    left = list(artifacts.keys())
    assert all(len(key.partition(".")[0]) == 64 for key in left), "only pictures wait for the sweeper"
    store = SqlStore(f"sqlite:///{data_dir / 'jobs.sqlite3'}")
    assert store.page(after=None, limit=100, order="asc")[0] == []
    ticks = itertools.count(step=ORPHAN_LOOK_S)
    sweeper = Sweeper(
        store, artifacts, clock=lambda: time.time() + DELETED_GRACE_S, ticks=lambda: next(ticks)
    )
    for _ in range(ORPHAN_LOOKS):
        sweeper.sweep()
    assert list(artifacts.keys()) == []
    assert [path for path in (data_dir / "artifacts").rglob("*") if path.is_file()] == []
    assert list(store.gone(math.inf)) == []
    store.close()


@pytest.mark.timeout(3600)  # many times what it takes on a quiet machine
@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_mixed_requests_of_all_dialects_at_once(server_on, tmp_path, count):
    (tmp_path / "clips").mkdir()
    with server_on(tmp_path / "data", checkpoint_interval_s=0.5) as server:
        crowd = Crowd(server.url, tmp_path / "clips")
        crowd.ask_all(orders(len(DIALECTS), start=10_000))  # so that pools and caches are filled
        before = sizes_of(server)
        with server.holds.held(NEVER_DONE):
            crowd.ask_all(orders(count))
        check_listed(server, crowd.stays)
        settles_to(server, before)
        for dialect in DIALECTS:  # the same alone
            order = next(order for order in crowd.clips if order.dialect == dialect)
            clips, stays = crowd.askers[dialect].done(order)
            assert clips == crowd.clips[order], order
            crowd.stays |= {} if stays is None else {stays: order}
        check_listed(server, crowd.stays)

        for video_id in crowd.stays:
            crowd.askers["SGLang"].delete(video_id)
        assert pages(server, "asc") == []
        crowd.leave()
        settles_to(server, before)
        assert server.terminate() == 0
    assert "Traceback" not in server.log.read_text()
    check_nothing_is_left(tmp_path / "data")
