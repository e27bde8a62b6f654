"""Clips as input: measured and brought to what a request needs, and kept under the hash of their frames.

What comes from outside is decoded by `decoder.py` in a process of its own; what was kept is our own file.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from vitascope.config.processes import child_environment
from vitascope.errors import InvalidMedia
from vitascope.media.arrays import Pixels
from vitascope.media.artifacts import Artifacts
from vitascope.media.clip_decoding import Facts, Fit, Limits
from vitascope.media.decoder import Answer, Order
from vitascope.media.inputs import keep_picture
from vitascope.media.lossless import SUFFIX, read_lossless

DECODER = (sys.executable, "-P", "-m", "vitascope.media.decoder")
TIMEOUT_S = 180.0

log = logging.getLogger(__name__)

Source = bytes | str  # what was uploaded, or the key of a stored file


@dataclass(frozen=True, slots=True)
class Clips:
    """Keeps clips for requests; all calls block. `timeout_s` is how long one may take to be decoded."""

    artifacts: Artifacts
    limits: Limits
    timeout_s: float = TIMEOUT_S

    def measure(self, source: Source, *, param: str | None = None) -> Facts:
        """Tell what a clip is.

        Raises:
            InvalidMedia: it cannot be used; `param` is the field to blame.
            NotFound: there is no such stored file.

        """
        facts = self._ask(source, Order(limits=self.limits), param).facts
        assert facts is not None, "a probe answers facts or a refusal"
        return facts

    def keep(self, source: Source, fit: Fit, *, param: str | None = None) -> str:
        """Decode a clip, bring it to what `fit` says and store it; return its key. Equal clips are kept once.

        Raises what `measure` raises.
        """
        with self.artifacts.new_file(SUFFIX) as pending:
            order = Order(limits=self.limits, fit=fit, into=str(pending.path))
            sha256 = self._ask(source, order, param).sha256
            assert sha256 is not None, "frames are written or refused"
            return pending.commit_as(sha256)

    def keep_last_frame(self, key: str) -> str:
        """Store the last frame of a kept clip as a picture and return its key. Raises `NotFound`."""
        last = None
        for chunk in clip_chunks(self.artifacts, key):
            last = chunk[-1]
        assert last is not None, "a kept clip has frames"
        return keep_picture(self.artifacts, last)

    def _ask(self, source: Source, order: Order, param: str | None) -> Answer:
        answer = self._answer(source, order)
        if answer is None:
            raise InvalidMedia("The clip is damaged or takes too much to be decoded.", param=param)
        if answer.refused is not None:
            raise InvalidMedia(answer.refused, param=param)
        return answer

    def _answer(self, source: Source, order: Order) -> Answer | None:
        """Run the decoder; None if it crashed, was ended by a limit, or took too long."""
        command = [*DECODER, msgspec.json.encode(order).decode()]
        try:
            if isinstance(source, bytes):
                done = self._run(command, input=source)
            else:
                with self.artifacts.open(source) as file:
                    done = self._run(command, stdin=file)
            return msgspec.json.decode(done.stdout, type=Answer)
        except (subprocess.SubprocessError, msgspec.DecodeError) as error:
            log.warning("a clip's decoder gave no answer, for the clip's fault or its own: %s", error)
            return None

    def _run(self, command: list[str], **stdin: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # type: ignore[call-overload,no-any-return]  # noqa: S603  # our own module
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what a decoder says of a stranger's bytes is nobody's
            timeout=self.timeout_s,
            check=True,
            env=child_environment(),
            **stdin,
        )


def clip_chunks(artifacts: Artifacts, key: str) -> Iterator[Pixels]:
    """Yield a kept clip's frames in chunks: (frames, height, width, 3), RGB. Raises `NotFound`."""
    with artifacts.open(key) as file:
        yield from read_lossless(file)


def load_clip(artifacts: Artifacts, key: str) -> Pixels:
    """Return a kept clip: (frames, height, width, 3), RGB. Raises `NotFound`."""
    return np.concatenate(list(clip_chunks(artifacts, key)))


def joined(clip: Iterable[Pixels], made: Iterable[Pixels]) -> Iterator[Pixels]:
    """Yield a clip's frames and then those made from its last one, which is left out the second time."""
    yield from clip
    joint = 1
    for frames in made:
        yield frames[joint:]
        joint = 0
