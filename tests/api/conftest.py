"""The application with its real parts, a store in memory, and a scheduler that does only what a test says."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from vitascope.api.app import create_app
from vitascope.api.fetcher import Fetcher, Policy
from vitascope.api.services import PreviewListener, Services
from vitascope.card import Defaults, ModelCard, PromptGuide, Rules
from vitascope.config import Settings
from vitascope.errors import (
    DoesNotFit,
    InvalidRequest,
    LaunchFailed,
    LaunchForbidden,
    ModelExists,
    ModelNotFound,
)
from vitascope.jobs.changes import Changes
from vitascope.jobs.job import Failure, Job, Tally
from vitascope.jobs.memory import MemoryStore
from vitascope.launch import Instance, InstanceState, LaunchSpec
from vitascope.media.artifacts import FolderArtifacts
from vitascope.media.clip_decoding import Limits
from vitascope.media.clips import Clips
from vitascope.media.inputs import Pictures
from vitascope.wire import Preview, Stats, StoredFile

CARD = ModelCard(
    name="tiny",
    family="wan",
    tasks=("t2v", "i2v", "flf2v", "v2v"),
    defaults=Defaults(
        height=32, width=48, num_frames=9, fps=8.0, num_inference_steps=4, guidance_scale=5.0, flow_shift=3.0
    ),
    rules=Rules(
        size_multiple=16, frame_stride=4, max_pixels=4096, max_frames=33, max_steps=50, solvers=("unipc",)
    ),
    identity="0" * 64,
    prompt_guide=PromptGuide(known_words=("a", "red", "circle"), examples=("a red circle",)),
)
TEXT_ONLY = ModelCard(
    name="words", family="wan", tasks=("t2v",), defaults=CARD.defaults, rules=CARD.rules, identity="1" * 64
)
CLIP = bytes(range(256)) * 4


def of_output(data: bytes, output: int) -> bytes:
    """Return what stands for an output's file; each has its own."""
    return data + b"%d" % output if output else data


class FakeScheduling:
    """A scheduler's side that a test steers by hand."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.is_ready = True
        self.why: str | None = None
        self.served: list[ModelCard] = [CARD, TEXT_ONLY]
        self.eta: float | None = 4.0
        self.wakes = 0
        self.listeners: dict[str, PreviewListener] = {}

    def ready(self) -> bool:
        return self.is_ready

    def trouble(self) -> str | None:
        return self.why

    def cards(self) -> list[ModelCard]:
        return self.served

    def eta_s(self, job: Job) -> float | None:
        return self.eta

    def wake(self) -> None:
        self.wakes += 1

    @contextmanager
    def watch_preview(self, job_id: str, listener: PreviewListener) -> Iterator[None]:
        self.listeners[job_id] = listener
        try:
            yield
        finally:
            del self.listeners[job_id]


class FakeLaunching:
    """A launcher that loads nothing: a launch stays LOADING until a test says how it ends."""

    first_state = InstanceState.LOADING

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.models: dict[str, Instance] = {}
        self.forbidden = False
        self.settled = asyncio.Event()

    def add(self, uid: str, state: InstanceState, **more: Any) -> None:
        """Have a model stand in some way."""
        spec = LaunchSpec(model=f"/models/{uid}")
        self.models[uid] = Instance(uid=uid, spec=spec, state=state, created_at=1.0, **more)

    def settle(self, uid: str, **changes: Any) -> None:
        """End a load; wakes those who wait for it."""
        self.models[uid] = replace(self.models[uid], **changes)
        self.settled.set()

    def instances(self) -> list[Instance]:
        return list(self.models.values())

    def instance(self, uid: str) -> Instance:
        if uid not in self.models:
            raise ModelNotFound(f"There is no model {uid!r}.", param="model")
        return self.models[uid]

    async def launch(self, spec: LaunchSpec) -> Instance:
        self._check()
        uid = spec.uid or spec.model.rpartition("/")[2]
        if uid in self.models:
            raise ModelExists(f"The name {uid!r} is taken.", param="model_uid")
        self.models[uid] = Instance(uid=uid, spec=spec, state=self.first_state, created_at=1.0)
        return self.models[uid]

    async def wait(self, uid: str) -> Instance:
        while self.instance(uid).state is InstanceState.LOADING:
            await self.settled.wait()
            self.settled.clear()
        there = self.instance(uid)
        if there.state is InstanceState.ERROR:
            raise (DoesNotFit if there.error_code == DoesNotFit.code else LaunchFailed)(there.error or "")
        return there

    async def cancel(self, uid: str) -> Instance:
        self._check()
        if self.instance(uid).state is not InstanceState.LOADING:
            raise InvalidRequest(f"{uid} is not being launched.", param="model_uid")
        return await self.terminate(uid)

    async def terminate(self, uid: str) -> Instance:
        self._check()
        there = self.instance(uid)
        del self.models[uid]
        return replace(there, state=InstanceState.TERMINATED)

    def _check(self) -> None:
        if self.forbidden:
            raise LaunchForbidden("Clients of this server neither launch nor terminate models.")


class House:
    """A server's parts, and the moves that a worker would make."""

    def __init__(self, root: Path, settings: Settings) -> None:
        changes = Changes()
        self.artifacts = FolderArtifacts(root)
        self.store = MemoryStore(on_change=changes.notify)
        self.scheduling = FakeScheduling()
        self.launching = FakeLaunching()
        self.services = Services(
            settings=settings,
            store=self.store,
            artifacts=self.artifacts,
            inputs=Pictures(self.artifacts, settings.max_input_pixels),
            clips=Clips(self.artifacts, Limits(settings.max_input_pixels, settings.max_input_frames)),
            fetcher=Fetcher(Policy.of(settings)),
            changes=changes,
            scheduling=self.scheduling,
            launching=self.launching,
        )
        self.app = create_app(self.services)

    def clean(self) -> None:
        """Forget every job and file, so that the next test finds nothing."""
        self.scheduling.reset()
        self.launching.reset()
        for job in (*self.store.waiting(), *self.store.running()):
            self.store.fail(job.id, Failure(code="swept", message="The test is over."), 0.0)
        for job in self.store.page(after=None, limit=1000, order="asc")[0]:
            self.store.delete(job.id, 0.0)
        for job in self.store.gone(math.inf):
            self.store.purge(job.id)
        for key in list(self.artifacts.keys()):
            self.artifacts.delete(key)

    def start(self, job_id: str, step: int = 1) -> int:
        token = self.store.claim(job_id, "worker-1", time.time()).claim.token
        tally = Tally(stage="denoise", step=step, num_steps=4, percent=25 * step)
        self.store.progress(job_id, token, tally)
        return token

    def finish(self, job_id: str, data: bytes = CLIP, **more: Any) -> None:
        self.start(job_id)
        self.finish_running(job_id, data, **more)

    def finish_running(
        self, job_id: str, data: bytes = CLIP, stills: dict[str, tuple[str, bytes]] | None = None
    ) -> None:
        job = self.store.get(job_id)
        while job.num_stored < job.request.num_outputs - 1:
            job = self.store_output(job_id)
        token, output = job.claim.token, job.num_stored
        made = {"video": ("video/mp4", of_output(data, output)), **(stills or {})}
        files = [self._store_file(variant, *content, output=output) for variant, content in made.items()]
        cost = Stats(
            stage_s={"encode": 0.25, "denoise": 1.0, "decode": 0.5},
            peak_memory_bytes=2**21,
            num_inference_steps=4,
        )
        self.store.succeed(job_id, token, files, cost, time.time())

    def store_output(self, job_id: str) -> Job:
        """Store the next output of a running job, with a thumbnail."""
        job = self.store.get(job_id)
        output = job.num_stored
        made = {"video": ("video/mp4", CLIP), "thumbnail": ("image/webp", b"RIFF")}
        files = [
            self._store_file(variant, kind, of_output(data, output), output=output)
            for variant, (kind, data) in made.items()
        ]
        self.store.store_output(job_id, job.claim.token, files)
        return self.store.get(job_id)

    def _store_file(self, variant: str, media_type: str, data: bytes, *, output: int) -> StoredFile:
        return StoredFile(
            variant=variant,
            key=self.artifacts.put(data, media_type.partition("/")[2]),
            media_type=media_type,
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            output=output,
        )

    def finish_all(self) -> None:
        """Finish every job that waits, with stills."""
        stills = {"thumbnail": ("image/webp", b"RIFF"), "spritesheet": ("image/jpeg", b"JFIF")}
        for job in self.store.waiting():
            self.start(job.id)
            self.finish_running(job.id, stills=stills)

    def preview(self, job_id: str, image: bytes) -> None:
        self.scheduling.listeners[job_id](Preview(job_id=job_id, step=2, image=image))


OpenHouse = Callable[..., tuple[House, TestClient]]


@pytest.fixture
def open_house(tmp_path: Path) -> Iterator[OpenHouse]:
    """Build a house with further settings, and a client of it on its own loopback address."""
    with ExitStack() as stack:

        def build(*, base_url: str = "http://127.0.0.1:8000", **settings: Any) -> tuple[House, TestClient]:
            house = House(tmp_path / "artifacts", Settings(data_dir=tmp_path, **settings))
            return house, stack.enter_context(TestClient(house.app, base_url=base_url))

        yield build


@pytest.fixture(scope="session")
def shared_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, TestClient]]:
    """The house with default settings: an application takes longer to build than most tests to run."""
    root = tmp_path_factory.mktemp("house")
    house = House(root / "artifacts", Settings(data_dir=root))
    with TestClient(house.app, base_url="http://127.0.0.1:8000") as client:
        yield house, client


@pytest.fixture
def opened(shared_house: tuple[House, TestClient]) -> Iterator[tuple[House, TestClient]]:
    yield shared_house
    shared_house[0].clean()


@pytest.fixture
def house(opened: tuple[House, TestClient]) -> House:
    return opened[0]


@pytest.fixture
def client(opened: tuple[House, TestClient]) -> TestClient:
    return opened[1]


@pytest.fixture
def quick_house(
    opened: tuple[House, TestClient], monkeypatch: pytest.MonkeyPatch
) -> tuple[House, TestClient]:
    """The shared house, where every job is done as soon as it is submitted, every launch as soon as begun."""
    house, client = opened
    monkeypatch.setattr(house.scheduling, "wake", house.finish_all)
    monkeypatch.setattr(house.launching, "first_state", InstanceState.READY)
    return house, client


@pytest.fixture(scope="module")
def quick_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A quick house behind a real HTTP server, for clients that hold the protocol against it."""
    root = tmp_path_factory.mktemp("quick")
    house = House(root / "artifacts", Settings(data_dir=root, max_body_bytes=2**20))
    house.scheduling.wake = house.finish_all  # type: ignore[method-assign]
    house.launching.first_state = InstanceState.READY
    http = uvicorn.Server(uvicorn.Config(house.app, log_config=None, lifespan="off", timeout_keep_alive=600))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=http.run, kwargs={"sockets": [listener]}, name="quick-server")
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        http.should_exit = True
        thread.join()
    house.services.close()


@pytest.fixture
def num_fuzz_examples(request: pytest.FixtureRequest) -> int:
    """How many examples of each kind a fuzzing test sends."""
    return int(request.config.getoption("--fuzz-examples"))


@pytest.fixture
def submitted(client: TestClient) -> str:
    """The id of a job that waits."""
    return str(client.post("/v1/videos", json={"prompt": "a red circle"}).json()["id"])


@pytest.fixture
def waiting_call(house: House, client: TestClient) -> Iterator[Callable[..., tuple[Future[Any], list[str]]]]:
    """Post something that waits, from a thread: its answer to come, and the ids of the jobs it waits for."""
    with ThreadPoolExecutor() as pool:

        def call(path: str, *, jobs: int = 1, **content: Any) -> tuple[Future[Any], list[str]]:
            version = house.services.changes.version()
            answer = pool.submit(client.post, path, **content)
            while len(house.store.waited_for()) < jobs:
                version = asyncio.run(asyncio.wait_for(house.services.changes.wait(None, version), 600))
            return answer, [job.id for job in house.store.waited_for()]

        yield call


@pytest.fixture
def leaving_call(house: House) -> Callable[..., None]:
    """Post something that waits as a client that leaves as soon as the server waits for its job."""

    def call(path: str, body: dict[str, Any]) -> None:
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "scheme": "http", "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 9),
            "headers": [(b"host", b"127.0.0.1:8000"), (b"content-type", b"application/json")],
        }  # fmt: skip
        messages = iter([{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}])
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            for message in messages:
                return message
            version = house.services.changes.version()
            if not house.store.waited_for():
                await house.services.changes.wait(None, version)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(asyncio.wait_for(house.app(scope, receive, send), 600))
        assert sent == []

    return call


@pytest.fixture
def clip() -> bytes:
    """The bytes of a finished clip, as far as the api can tell."""
    return CLIP


@pytest.fixture
def png() -> Callable[..., bytes]:
    """Draw a picture of a size, the default clip's unless told otherwise."""

    def draw(width: int = 48, height: int = 32, colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (width, height), colour).save(buffer, "PNG")
        return buffer.getvalue()

    return draw
