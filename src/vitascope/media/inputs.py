"""Pictures from outside: probed, decoded within limits, fitted to the clip, kept under their content's hash.

Only JPEG, PNG and WebP are decoded, and never more pixels than the operator allows. What a decoder says of a
bad file stays here: messages are our own. Colour profiles are ignored; pixels are taken as sRGB.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from vitascope.errors import InvalidMedia
from vitascope.media.arrays import Picture
from vitascope.media.artifacts import Artifacts, content_key

RESIZE_MODES = ("error", "crop", "pad")
MATTE = (255, 255, 255)  # what shows through transparent pixels: white, as in a browser
PADDING = (0, 0, 0)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Every way in which Pillow is known to say that a file is broken.
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Keeps pictures for requests. `max_pixels` bounds width * height of what is decoded."""

    artifacts: Artifacts
    max_pixels: int

    def measure(self, data: bytes, *, param: str | None = None) -> tuple[int, int]:
        """Return a picture's width and height as it would be shown.

        Raises:
            InvalidMedia: with `param` as the field to blame.

        """
        with _blaming(param):
            return decode(data, self.max_pixels).size

    def keep(
        self, data: bytes, *, width: int, height: int, resize_mode: str = "error", param: str | None = None
    ) -> str:
        """Check, decode, fit and store a picture; return its key. Equal pictures are kept once.

        Raises:
            InvalidMedia: with `param` as the field to blame.

        """
        with _blaming(param):
            picture = fit(decode(data, self.max_pixels), width, height, resize_mode)
        return self.artifacts.put_content(_to_png(picture), "png")


@contextmanager
def _blaming(param: str | None) -> Iterator[None]:
    try:
        yield
    except InvalidMedia as error:
        error.param = param
        raise


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """Decode a still JPEG, PNG or WebP to upright RGB; transparent parts become `MATTE`.

    Raises:
        InvalidMedia: another format, animated, too large, truncated or damaged.

    """
    try:
        picture = _open(data)
        _check(picture, max_pixels)
        picture.load()
        return _flatten(_upright(picture))
    except InvalidMedia:
        raise
    except Image.DecompressionBombError:  # the WebP reader has a limit of its own
        raise InvalidMedia(f"The picture is too large; at most {max_pixels} pixels are read.") from None
    except _BROKEN:
        raise InvalidMedia("The picture is damaged or cut short and cannot be decoded.") from None


def fit(picture: Image.Image, width: int, height: int, mode: str) -> Image.Image:
    """Bring a picture to a size.

    `error` takes no other size; `crop` fills the size and cuts what stands out, evenly; `pad` shows the whole
    picture on black.

    Raises:
        InvalidMedia: the size differs and the mode is `error`.

    """
    if picture.size == (width, height):
        return picture
    if mode == "crop":
        return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    if mode == "pad":
        return _pad(picture, width, height)
    raise InvalidMedia(
        f"The picture is {picture.width}x{picture.height} and the clip {width}x{height}; send it in the "
        "clip's size, or set resize_mode to 'crop' or 'pad'."
    )


def picture_key(picture: Picture) -> str:
    """Return the key under which a picture of these pixels is kept."""
    return content_key(_to_png(Image.fromarray(picture)), "png")


def keep_picture(artifacts: Artifacts, picture: Picture) -> str:
    """Store a picture of our own and return its key, which is `picture_key`'s."""
    return artifacts.put_content(_to_png(Image.fromarray(picture)), "png")


def load_picture(artifacts: Artifacts, key: str) -> Picture:
    """Return a kept picture: (height, width, 3), RGB. Raises `NotFound`."""
    with artifacts.open(key) as file, PngImageFile(file) as picture:
        return np.array(picture)


def _open(data: bytes) -> JpegImageFile | PngImageFile | WebPImageFile:
    # The classes themselves, not Image.open: that one looks at many formats and first warns about large
    # pictures by limits of its own, which belong to the whole process.
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImageFile(BytesIO(data))
    if data.startswith(b"\xff\xd8\xff"):
        return JpegImageFile(BytesIO(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImageFile(BytesIO(data))
    raise InvalidMedia("The picture is no JPEG, PNG or WebP; these are the formats that are read.")


def _check(picture: JpegImageFile | PngImageFile | WebPImageFile, max_pixels: int) -> None:
    pixels = picture.width * picture.height
    if pixels > max_pixels:
        raise InvalidMedia(
            f"The picture is {picture.width}x{picture.height} ({pixels} pixels); "
            f"at most {max_pixels} pixels are read."
        )
    if not isinstance(picture, JpegImageFile) and picture.is_animated:
        raise InvalidMedia("The picture is animated; send a still one.")


def _upright(picture: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF data says; what else they say is not looked at, and may be nonsense."""
    turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    return picture if turn is None else picture.transpose(turn)


def _flatten(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits of gray: converting would clip instead of scale
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    matte = Image.new("RGBA", picture.size, (*MATTE, 255))
    return Image.alpha_composite(matte, picture).convert("RGB")


def _pad(picture: Image.Image, width: int, height: int) -> Image.Image:
    scale = min(width / picture.width, height / picture.height)
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    sheet = Image.new("RGB", (width, height), PADDING)
    sheet.paste(
        picture.resize(size, Image.Resampling.LANCZOS), ((width - size[0]) // 2, (height - size[1]) // 2)
    )
    return sheet


def _to_png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.asarray(picture)).save(buffer, "PNG")  # from the pixels alone: no metadata comes along
    return buffer.getvalue()
