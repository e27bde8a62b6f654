"""A running server, seen by the command line: its jobs over HTTP, every failure as an error of the tree."""

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

from vitascope.config import Connection
from vitascope.errors import Unavailable, VitascopeError, of_code

JOBS = "/v1/videos"
PAGE = 100
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
STREAM_TIMEOUT = httpx.Timeout(60.0, connect=5.0)  # a quiet stream says every 15 s that it is alive

Video = dict[str, Any]


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
        return self._json("GET", _path(job_id))

    def cancel(self, job_id: str) -> Video:
        """Ask for a cancel and return the job."""
        return self._json("POST", f"{_path(job_id)}/cancel")

    def delete(self, job_id: str) -> Video:
        """Delete a job and its files."""
        return self._json("DELETE", _path(job_id))

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

    def download(self, job_id: str, path: Path) -> int:
        """Write the clip to a file and return its size, once the bytes are known to be whole."""
        digest, size = hashlib.sha256(), 0
        with self._streamed(f"{_path(job_id)}/content", TIMEOUT) as answer, path.open("wb") as file:
            for chunk in answer.iter_bytes():
                digest.update(chunk)
                size += file.write(chunk)
        if answer.headers.get("etag", "").strip('"') != digest.hexdigest():  # the server names a file so
            raise VitascopeError("The file was damaged on its way; download it again.")
        return size

    def _json(self, method: str, path: str, params: dict[str, str] | None = None) -> Video:
        with self._told():
            answer = self._client.request(method, path, params=params)
            _check(answer)
            content: Video = answer.json()
            return content

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


def _path(job_id: str) -> str:
    """Return a job's path; nothing in an id leads elsewhere."""
    return f"{JOBS}/{quote(job_id, safe='')}"


def _check(answer: httpx.Response) -> None:
    """Raise what the server refused with."""
    if answer.is_success:
        return
    told = answer.json()
    if not isinstance(told, dict) or "error" not in told:
        raise ValueError(told)
    raise of_code(told["error"]["code"] or "", told["error"]["message"])
