"""Clips from outside: measured, decoded, and brought to the size, rate and length that are wanted.

Only known containers and codecs are opened, from memory. A server does this in a process that can do no harm:
see `decoder.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation
from PIL import Image

from vitascope.errors import InvalidMedia
from vitascope.media.arrays import Picture
from vitascope.media.inputs import fit as fit_picture

# Containers by their first bytes, as (offset, bytes): the demuxer that reads them.
_CONTAINERS = (
    (4, b"ftyp", "mov"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
)
# Brands of HEIF: pictures of telephones and browsers, in the container of MP4 and with its codecs inside.
_PICTURES = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis"}
)
_CODECS = frozenset({"h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "gif"})
_DECODERS = "h264,hevc,libdav1d,av1,vp8,vp9,libvpx,libvpx-vp9,mpeg4,gif"
_TO_RGB = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
_UNSPECIFIED = 2  # of H.273's colour spaces
_HD_LINES = 720  # from there on an unspecified colour space is BT.709
_SQUARE = (None, 0, 1)
_MARGINS = 512 * 512  # pixels
SAME_RATE = 0.01  # frames a second that two rates may differ by and be the same


@dataclass(frozen=True, slots=True)
class Limits:
    """What is decoded at most: pixels of one frame, and frames."""

    max_pixels: int
    max_frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A clip as it would be shown; `span_s` is from its first frame to its last one."""

    width: int
    height: int
    num_frames: int
    fps: float
    span_s: float

    def frames_at(self, fps: float) -> int:
        """Return how many frames the clip has at another rate."""
        if abs(fps - self.fps) < SAME_RATE:
            return self.num_frames
        return int(self.span_s * fps + 1e-6) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What a clip is brought to: its first `num_frames` frames at `fps` (None: as they come), in a size."""

    width: int
    height: int
    num_frames: int
    fps: float | None = None
    resize_mode: str = "error"


def probe(data: bytes, limits: Limits) -> Facts:
    """Tell what a clip is; decodes its first frame alone. Raises `InvalidMedia`."""
    with _opened(data, limits) as container:
        stream = container.streams.video[0]
        times = _times(container, stream, limits.max_frames)
        container.seek(0)
        first = next(container.decode(stream), None)
        if first is None or not times:
            raise _damaged()
        _check_size(first, limits)
        turned = first.rotation % 180 == 90
        width, height = (first.height, first.width) if turned else (first.width, first.height)
        span = max(times) - min(times)
        if len(times) == 1 and not stream.average_rate:
            raise InvalidMedia("This is one picture and no clip; send pictures as JPEG, PNG or WebP.")
        fps = float(stream.average_rate or 0) or (len(times) - 1) / max(span, 1e-9)
        if not 0.01 <= fps <= 1000:
            raise InvalidMedia("The clip does not say how many frames a second it has.")
        return Facts(width=width, height=height, num_frames=len(times), fps=round(fps, 3), span_s=span)


def fitted(shown: Iterable[Picture], wanted: Fit) -> Iterator[Picture]:
    """Bring frames that are there already to a size: the first ones that `wanted` asks for."""
    for frame in islice(shown, wanted.num_frames):
        picture = Image.fromarray(frame)
        yield np.asarray(fit_picture(picture, wanted.width, wanted.height, wanted.resize_mode))


def frames(data: bytes, limits: Limits, wanted: Fit) -> Iterator[Picture]:
    """Yield the frames that `wanted` asks for. Raises `InvalidMedia`, also for a clip with fewer of them."""
    count = 0
    with _opened(data, limits) as container:
        shown = _decoded(container, limits)
        chosen = (frame for _, frame in shown) if wanted.fps is None else _at_rate(shown, wanted.fps)
        for picture in fitted(map(_to_rgb, chosen), wanted):
            yield picture
            count += 1
    if count < wanted.num_frames:
        raise InvalidMedia(f"The clip breaks off after {count} of {wanted.num_frames} frames.")


@contextmanager
def _opened(data: bytes, limits: Limits) -> Iterator[Any]:
    """Open a clip from memory, checked as far as its headers go; errors of the library become ours."""
    try:
        with av.open(
            BytesIO(data),
            "r",
            format=_container(data),
            options={"codec_whitelist": _DECODERS, "protocol_whitelist": "none"},
        ) as container:
            _check(container, limits)
            yield container
    except InvalidMedia:
        raise
    except MemoryError:  # of Python's or the library's
        raise InvalidMedia("The clip needs too much memory to be decoded; send a smaller one.") from None
    except (av.FFmpegError, ValueError, OverflowError, ZeroDivisionError):
        raise _damaged() from None


def is_clip(data: bytes) -> bool:
    """Whether these are the bytes of a clip, as far as its container goes; of a picture or neither if not."""
    return _demuxer(data) is not None


def _demuxer(data: bytes) -> str | None:
    if data[4:8] == b"ftyp" and data[8:12] in _PICTURES:
        return None
    kinds = (kind for offset, magic, kind in _CONTAINERS if data[offset : offset + len(magic)] == magic)
    return next(kinds, None)


def _container(data: bytes) -> str:
    demuxer = _demuxer(data)
    if demuxer is not None:
        return demuxer
    raise InvalidMedia("The clip is no MP4, MOV, WebM, Matroska or GIF; these are the formats that are read.")


def _check(container: Any, limits: Limits) -> None:
    if not container.streams.video:
        raise InvalidMedia("The file has no video in it.")
    stream = container.streams.video[0]
    context = stream.codec_context
    if context is None or context.codec.canonical_name not in _CODECS:
        raise InvalidMedia(
            f"The clip's codec is not read here; those that are: {', '.join(sorted(_CODECS))}."
        )
    _check_size(context, limits)
    if stream.sample_aspect_ratio not in _SQUARE:
        raise InvalidMedia("The clip's pixels are not square; send one whose are.")
    # What claims to be small is held to it by the decoder, which counts its own margins in.
    context.options = {"max_pixels": str(2 * limits.max_pixels + _MARGINS)}


def _check_size(shown: Any, limits: Limits) -> None:
    if shown.width * shown.height > limits.max_pixels:
        raise InvalidMedia(
            f"The clip is {shown.width}x{shown.height}; at most {limits.max_pixels} pixels a frame are read."
        )


def _times(container: Any, stream: Any, max_frames: int) -> list[float]:
    """Return when each frame is shown, without decoding any."""
    times: list[float] = []
    for packet in container.demux(stream):
        if packet.size == 0 or packet.is_discard:
            continue
        if len(times) == max_frames:
            raise _too_long(max_frames)
        times.append(len(times) if packet.pts is None else float(packet.pts * packet.time_base))
    return times


def _decoded(container: Any, limits: Limits) -> Iterator[tuple[float, Any]]:
    """Yield every frame with the seconds since the first one."""
    began, size = None, None
    for count, frame in enumerate(container.decode(video=0)):
        if count == limits.max_frames:
            raise _too_long(limits.max_frames)
        _check_size(frame, limits)
        if size not in {None, (frame.width, frame.height)}:
            raise InvalidMedia("The clip changes its size on the way; send one that keeps it.")
        size = frame.width, frame.height
        time = float(count) if frame.time is None else frame.time
        began = time if began is None else began
        yield time - began, frame


def _at_rate(shown: Iterator[tuple[float, Any]], fps: float) -> Iterator[Any]:
    """Yield the nearest frame to each tick from the first frame on to the last one."""
    tick = 0
    before: tuple[float, Any] | None = None
    for time, frame in shown:
        while before is not None and tick / fps <= (before[0] + time) / 2:
            yield before[1]
            tick += 1
        before = time, frame
    while before is not None and tick / fps <= before[0] + 1e-6:
        yield before[1]
        tick += 1


def _to_rgb(frame: Any) -> Picture:
    space = frame.colorspace
    if space == _UNSPECIFIED and frame.height >= _HD_LINES:
        space = Colorspace.ITU709
    pixels = frame.reformat(format="rgb24", src_colorspace=space, interpolation=_TO_RGB).to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def _damaged() -> InvalidMedia:
    return InvalidMedia("The clip is damaged or cut short and cannot be decoded.")


def _too_long(max_frames: int) -> InvalidMedia:
    return InvalidMedia(f"The clip has more than {max_frames} frames; that many are read at most.")
