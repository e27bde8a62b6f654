"""Clips of this process's own user, a file or frames in memory, as input; decoded right here.

They are fitted by the same rules as those from outside, and named by the same keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitascope.card import ModelCard, Wish
from vitascope.errors import InvalidMedia, InvalidType
from vitascope.media.arrays import Pixels
from vitascope.media.clip_decoding import Facts, Fit, Limits, fitted, frames, probe
from vitascope.media.clip_fitting import Settled, settle
from vitascope.media.lossless import clip_key
from vitascope.request import Continuation

LIMITS = Limits(max_pixels=100_000_000, max_frames=100_000)
_UNNAMED = "unnamed"  # stands for a key until the clip is decoded

VideoInput = np.ndarray[Any, Any] | str | Path


@dataclass(frozen=True, slots=True)
class LocalClip:
    """A clip that was measured: the bytes of a file, or frames."""

    content: bytes | Pixels
    facts: Facts

    def frames(self, fit: Fit) -> Pixels:
        """Return the frames that `fit` asks for. Raises `InvalidMedia`."""
        shown: Iterable[Any] = (
            frames(self.content, LIMITS, fit)
            if isinstance(self.content, bytes)
            else fitted(self.content, fit)
        )
        return np.stack(list(shown))


def open_clip(video: VideoInput, *, fps: float) -> LocalClip:
    """Measure a clip; `fps` is how fast frames in memory run.

    Raises:
        InvalidType: neither a path nor an array.
        InvalidMedia: a file that cannot be read, or an array that is not uint8 (frames, height, width, 3).

    """
    if isinstance(video, str | Path):
        try:
            data = Path(video).read_bytes()
        except OSError as error:
            raise InvalidMedia(f"video: {video} cannot be read ({error.strerror}).", param="video") from None
        return LocalClip(data, probe(data, LIMITS))
    if not isinstance(video, np.ndarray):
        raise InvalidType(
            f"video is {video!r:.60}; it must be a path or a uint8 array (frames, height, width, 3).",
            param="video",
        )
    if video.dtype != np.uint8 or video.ndim != 4 or video.shape[3] != 3 or not len(video):
        raise InvalidMedia(
            f"video is an array of {video.dtype} {video.shape}; it must be uint8 (frames, height, width, 3).",
            param="video",
        )
    count, height, width = video.shape[:3]
    facts = Facts(width=width, height=height, num_frames=count, fps=fps, span_s=(count - 1) / fps)
    return LocalClip(video, facts)


def with_clip(
    wish: Wish, card: ModelCard, clip: LocalClip, *, resize_mode: str = "error", continues: bool = False
) -> tuple[Wish, Settled]:
    """Complete a wish by its clip, which has no name yet. Raises `InvalidRequest`."""
    settled = settle(wish, card, clip.facts, resize_mode=resize_mode, continues=continues)
    if not continues:
        return replace(settled.wish, video=_UNNAMED), settled
    joint = Continuation(clip=_UNNAMED, num_frames=settled.available)
    return replace(settled.wish, first_frame=_UNNAMED, continues=joint), settled


def continuation_of(clip: Pixels) -> Continuation:
    """Name a clip that goes on."""
    return Continuation(clip=clip_key(clip), num_frames=len(clip))
