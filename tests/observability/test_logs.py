from __future__ import annotations

import io
import json
import logging
import warnings

import pytest

from vitascope.errors import ConfigurationError
from vitascope.observability.logs import HIDDEN, set_up_logging


@pytest.fixture(autouse=True)
def logging_as_before():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def lines(*, as_json=False, level="info", secrets=()):
    stream = io.StringIO()
    set_up_logging(level, as_json=as_json, secrets=secrets, stream=stream)
    return stream


log = logging.getLogger("vitascope.scheduler.fleet")


def fail(message):
    raise ValueError(message)


def test_a_line_tells_time_level_room_message_and_ids():
    stream = lines()
    log.info("worker %d started", 3, extra={"job_id": "video_1", "request_id": None})
    day, clock, rest = stream.getvalue().split(" ", 2)
    assert rest == "info scheduler.fleet: worker 3 started job_id=video_1\n"
    assert len(day) == 10
    assert len(clock) == 8


def test_json_has_one_object_a_line_with_ids_as_fields():
    stream = lines(as_json=True)
    log.warning("two\nlines", extra={"request_id": "req_1"})
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "level": "warning",
        "logger": "vitascope.scheduler.fleet",
        "message": "two\nlines",
        "request_id": "req_1",
    }


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_goes_with_its_line(as_json):
    stream = lines(as_json=as_json)
    try:
        fail("inside")
    except ValueError:
        log.exception("broken")
    assert "ValueError: inside" in stream.getvalue()


@pytest.mark.parametrize("newline", ["\n", "\r", "\x85", "\u2028", "\x1b[31m"])
def test_a_client_cannot_forge_a_line(newline):
    stream = lines()
    log.info("prompt %s", f"a{newline}2026-01-01 00:00:00 error api: forged", extra={"who": f"x{newline}y"})
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("as_json", [True, False])
def test_secrets_are_never_written(as_json):
    stream = lines(as_json=as_json, secrets=["s3cret", ""])
    try:
        fail("s3cret")
    except ValueError:
        log.exception("key %s", "s3cret", extra={"key": "s3cret"})
    assert "s3cret" not in stream.getvalue()
    assert stream.getvalue().count(HIDDEN) >= 3


@pytest.mark.filterwarnings("default")
def test_levels_are_obeyed_and_libraries_kept_quiet():
    stream = lines()
    log.debug("detail")
    logging.getLogger("httpx").info("HTTP Request: ...")
    warnings.warn_explicit("old", DeprecationWarning, "lib.py", 1, registry={})
    assert stream.getvalue() == ""


def test_setting_up_again_replaces_what_was_there():
    first, second = lines(), lines()
    log.info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_an_unknown_level_is_refused_with_those_that_exist():
    with pytest.raises(
        ConfigurationError, match="log_level is 'loud'; the levels are debug, info, warning, error"
    ):
        set_up_logging("loud")
