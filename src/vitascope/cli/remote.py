"""A running server, seen by the command line: its jobs and models, every failure an error of the tree."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from vitascope.config.connection import Connection
from vitascope.errors import LaunchCancelled, Unavailable, VitascopeError, of_code

JOBS, MODELS = "/v1/videos", "/v1/models"
PAGE = 100
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
STREAM_TIMEOUT = httpx.Timeout(60.0, connect=5.0)  # a quiet stream says every 15 s that it is alive

Video = dict[str, Any]
Instance = dict[str, Any]


class Remote:
    """Used as a context. Every method raises a `VitascopeError` when the server refuses or is not there."""

    def __init__(self, connection: Connection) -> None:
        key = connection.api_key
        self._url = connection.url
        self._client = httpx.Client(
            base_url=connection.url,
            headers={"authorization": f"Bearer {key.get_secret_value()}"} if key else {},
            timeout=TIMEOUT,
            trust_env=False,  # a proxy of the environment must not stand before a server on this machine
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def jobs(self, limit: int) -> Iterator[Video]:
        """Yield the newest jobs, at most so many."""
        after: dict[str, str] = {}
        while limit > 0:
            page = self._json("GET", JOBS, params={"limit": str(min(limit, PAGE)), **after})
            yield from page["data"]
            limit -= len(page["data"])
            if not page["has_more"]:
                return
            after = {"after": page["last_id"]}

    def job(self, job_id: str) -> Video:
        """Return one job."""
        video: Video = self._json("GET", _path(job_id))
        return video

    def cancel(self, job_id: str) -> Video:
        """Ask for a cancel and return the job."""
        video: Video = self._json("POST", f"{_path(job_id)}/cancel")
        return video

    def delete(self, job_id: str) -> Video:
        """Delete a job and its files."""
        gone: Video = self._json("DELETE", _path(job_id))
        return gone

    def events(self, job_id: str) -> Iterator[tuple[str, Video]]:
        """Yield a job's events, each with its name, until the server ends the stream."""
        with self._streamed(f"{_path(job_id)}/events", STREAM_TIMEOUT) as answer:
            name = ""
            for line in answer.iter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield name, json.loads(value)

    def download(self, job_id: str, path: Path, index: int = 0) -> int:
        """Write one of a job's clips to a file and return its size, once its bytes are known to be whole."""
        digest, size = hashlib.sha256(), 0
        content = f"{_path(job_id)}/content?index={index}"
        with self._streamed(content, TIMEOUT) as answer, path.open("wb") as file:
            for chunk in answer.iter_bytes():
                digest.update(chunk)
                size += file.write(chunk)
        if answer.headers.get("etag", "").strip('"') != digest.hexdigest():  # the server names a file so
            raise VitascopeError("The file was damaged on its way; download it again.")
        return size

    def launch(self, body: dict[str, Any]) -> dict[str, Any]:
        """Begin to launch a model; return its uid as `model_uid`, and perhaps `warnings`."""
        launched: dict[str, Any] = self._json("POST", MODELS, params={"wait_ready": "false"}, body=body)
        return launched

    def instances(self) -> list[Instance]:
        """Return all models, ready or not."""
        found: list[Instance] = self._json("GET", f"{MODELS}/instances")
        return found

    def instance(self, uid: str) -> Instance:
        """Return one model. Raises `LaunchCancelled` if it is not there (any more)."""
        for found in self._json("GET", f"{MODELS}/instances", params={"model_uid": uid}):
            instance: Instance = found
            return instance
        raise LaunchCancelled(f"{uid} is not there any more: somebody cancelled or terminated it.")

    def cancel_launch(self, uid: str) -> None:
        """Give up a launch."""
        self._json("POST", f"{_path(uid, MODELS)}/cancel")

    def terminate(self, uid: str) -> None:
        """End a model."""
        self._json("DELETE", _path(uid, MODELS))

    def _json(
        self, method: str, path: str, params: dict[str, str] | None = None, body: dict[str, Any] | None = None
    ) -> Any:
        with self._told():
            answer = self._client.request(method, path, params=params, json=body)
            _check(answer)
            return answer.json()

    @contextmanager
    def _streamed(self, path: str, timeout: httpx.Timeout) -> Iterator[httpx.Response]:
        with self._told(), self._client.stream("GET", path, timeout=timeout) as answer:
            if answer.is_error:
                answer.read()
            _check(answer)
            yield answer

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in one line what went wrong on the way."""
        try:
            yield
        except httpx.ConnectError:
            raise Unavailable(
                f"No server answers at {self._url}; start one with `vitascope serve`, or name it with --url."
            ) from None
        except httpx.TimeoutException:
            raise Unavailable(f"The server at {self._url} does not answer in time.") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"The connection to {self._url} broke: {error}.") from None
        except ValueError:  # what should be JSON is none
            raise Unavailable(f"What answers at {self._url} is no Vitascope server.") from None


def _path(name: str, below: str = JOBS) -> str:
    """Return a job's or a model's path; nothing in an id leads elsewhere."""
    return f"{below}/{quote(name, safe='')}"


def _check(answer: httpx.Response) -> None:
    """Raise what the server refused with."""
    if answer.is_success:
        return
    told = answer.json()
    if not isinstance(told, dict) or "error" not in told:
        raise ValueError(told)
    raise of_code(told["error"]["code"] or "", told["error"]["message"])
