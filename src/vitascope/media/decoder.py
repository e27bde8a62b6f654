"""The decoder: a process for one clip from outside, with little memory, little time and no files.

The bytes come on stdin, what to do with them as the one argument, and the answer is one line of JSON: facts
of the clip, or the name of what was written to a file of ours. Whatever a decoder does wrong ends this
process and nothing else. `clips.py` starts it.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vitascope.errors import InvalidMedia
from vitascope.media.clip_decoding import Facts, Fit, Limits, frames, probe
from vitascope.media.lossless import LosslessWriter

MEMORY_BYTES = 3 * 2**30  # beyond what the libraries map when they are loaded
CPU_S = 120
FILES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to do: tell the facts, or write the frames that `fit` asks for `into` a file."""

    limits: Limits
    fit: Fit | None = None
    into: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One of: what the clip is, the hash of what was written, or why not."""

    facts: Facts | None = None
    sha256: str | None = None
    refused: str | None = None


def obey(order: Order, data: bytes) -> Answer:
    """Carry out an order."""
    try:
        if order.fit is None or order.into is None:
            return Answer(facts=probe(data, order.limits))
        with LosslessWriter(Path(order.into), width=order.fit.width, height=order.fit.height) as writer:
            writer.write(frames(data, order.limits, order.fit))
        return Answer(sha256=writer.sha256)
    except InvalidMedia as error:
        return Answer(refused=error.message)


def confine(mapped_bytes: Callable[[], int]) -> None:
    """Take from this process what decoding does not need."""
    limits = {
        resource.RLIMIT_AS: mapped_bytes() + MEMORY_BYTES,
        resource.RLIMIT_CPU: CPU_S,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: FILES,
    }
    for limit, value in limits.items():
        _, hard = resource.getrlimit(limit)
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (allowed, allowed))


def _mapped_bytes() -> int:
    """Return how much address space is in use; it counts towards the limit."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:  # not Linux
        return 0
    return pages * resource.getpagesize()


def main() -> int:
    """Read an order and a clip, print the answer."""
    order = msgspec.json.decode(sys.argv[1], type=Order)
    data = sys.stdin.buffer.read()
    if sys.platform == "linux":  # elsewhere the limit of address space is not kept
        confine(_mapped_bytes)
    sys.stdout.buffer.write(msgspec.json.encode(obey(order, data)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
