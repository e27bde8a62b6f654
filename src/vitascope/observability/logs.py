"""Log lines on stderr, as text or as JSON; set up once by whoever owns the process.

Modules log with the standard library and put ids in `extra` (`job_id`, `request_id`); what is in there
becomes fields of the line.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TextIO

from vitascope.errors import ConfigurationError

LEVELS = ("debug", "info", "warning", "error")
HIDDEN = "[hidden]"

# They speak of their own insides at levels that mean more to us.
_QUIET = (
    "alembic",
    "asyncio",
    "diffusers",
    "filelock",
    "httpcore",
    "httpx",
    "huggingface_hub",
    "libav",
    "PIL",
)
_QUIETER = ("py.warnings", "uvicorn")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def set_up_logging(
    level: str = "info", *, as_json: bool = False, secrets: Iterable[str] = (), stream: TextIO | None = None
) -> None:
    """Send this process's log to `stream` (stderr), replacing what was set up before.

    `secrets` are never written, whoever logs them.

    Raises:
        ConfigurationError: no such level.

    """
    if level.lower() not in LEVELS:
        raise ConfigurationError(
            f"log_level is {level!r}; the levels are {', '.join(LEVELS)}.", param="log_level"
        )
    shape = as_json_line if as_json else as_text_line
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Formatter(shape, [secret for secret in secrets if secret]))
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h.formatter, _Formatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    if level.lower() != "debug":
        _quiet()


def as_text_line(record: logging.LogRecord) -> str:
    """Shape a record for eyes: time, level, room, message, fields. One line, whatever a client sent."""
    fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
    where = record.name.removeprefix("vitascope.")
    line = f"{record.levelname.lower()} {where}: {record.getMessage()}{fields}"
    return f"{_time(record):%Y-%m-%d %H:%M:%S} " + _CONTROL.sub(lambda c: repr(c.group())[1:-1], line)


def as_json_line(record: logging.LogRecord) -> str:
    """Shape a record for machines: one JSON object a line."""
    line = {
        "time": _time(record).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
        **_fields(record),
    }
    if record.exc_info:
        line["exception"] = logging.Formatter().formatException(record.exc_info)
    return json.dumps(line, default=str)


class _Formatter(logging.Formatter):
    def __init__(self, shape: Any, secrets: list[str]) -> None:
        super().__init__()
        self._shape, self._secrets = shape, secrets

    def format(self, record: logging.LogRecord) -> str:
        line: str = self._shape(record)
        if record.exc_info and self._shape is as_text_line:
            line += "\n" + self.formatException(record.exc_info)
        for secret in self._secrets:
            line = line.replace(secret, HIDDEN)
        return line


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {k: v for k, v in vars(record).items() if k not in _STANDARD and v is not None}


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _quiet() -> None:
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _QUIETER:
        logging.getLogger(name).setLevel(logging.ERROR)
