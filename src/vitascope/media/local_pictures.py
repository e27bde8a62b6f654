"""Pictures that no HTTP door has checked and fitted: files, images and arrays of this machine's user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitascope.errors import InvalidMedia, InvalidRequest, InvalidType
from vitascope.media.arrays import Picture
from vitascope.media.inputs import RESIZE_MODES, decode, fit

PictureInput = Image.Image | np.ndarray[Any, Any] | str | Path

MAX_PIXELS = 100_000_000


def open_picture(image: PictureInput | None, param: str) -> Picture | None:
    """Decode a picture to uint8 (H, W, 3).

    Raises:
        InvalidType: neither a path, nor an image, nor an array.
        InvalidMedia: a file that cannot be read, or an array that is something else.

    """
    if image is None:
        return None
    if isinstance(image, str | Path):
        image = _read(Path(image), param)
    if not isinstance(image, Image.Image | np.ndarray):
        raise InvalidType(
            f"{param} is {image!r:.60}; it must be a path, a PIL image or a uint8 array (height, width, 3).",
            param=param,
        )
    array = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise InvalidMedia(
            f"{param} is an array of {array.dtype} {array.shape}; it must be uint8 (height, width, 3).",
            param=param,
        )
    return array


def fit_picture(picture: Picture | None, width: int, height: int, mode: str, *, param: str) -> Picture | None:
    """Bring a picture to a clip's size.

    Raises:
        InvalidMedia: it has another size, and the mode is `error`.

    """
    if picture is None or picture.shape[:2] == (height, width):
        return picture
    try:
        return np.asarray(fit(Image.fromarray(picture), width, height, mode))
    except InvalidMedia as error:
        raise InvalidMedia(f"{param}: {error}", param=param) from None


def check_resize_mode(mode: object) -> str:
    """Return the mode. Raises `InvalidRequest` if there is no such one."""
    if not isinstance(mode, str) or mode not in RESIZE_MODES:
        raise InvalidRequest(f"resize_mode is {mode!r}; use {', '.join(RESIZE_MODES)}.", param="resize_mode")
    return mode


def _read(path: Path, param: str) -> Image.Image:
    try:
        return decode(path.read_bytes(), MAX_PIXELS)
    except OSError as error:
        raise InvalidMedia(f"{param}: {path} cannot be read ({error.strerror}).", param=param) from None
