"""Small pictures of clips: previews while one is made, contact sheets of finished ones."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from vitascope.media.arrays import Picture, Pixels

_GAP = 2


def to_webp(picture: Picture, *, max_side: int = 256) -> bytes:
    """Encode a small WebP, some kB; a larger picture is shrunk so that its longer side is `max_side`."""
    image = Image.fromarray(picture)
    image.thumbnail((max_side, max_side), Image.Resampling.BILINEAR)
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=80, method=2)
    return buffer.getvalue()


def contact_sheet(frames: Pixels, *, max_frames: int = 16, columns: int = 8) -> Picture:
    """Lay evenly spaced frames, the first and the last among them, out in rows on white."""
    (height, width), count = frames.shape[1:3], min(len(frames), max_frames)
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for place, index in enumerate(np.linspace(0, len(frames) - 1, count).round().astype(int)):
        y, x = place // columns * (height + _GAP), place % columns * (width + _GAP)
        sheet[y : y + height, x : x + width] = frames[index]
    return sheet


def write_png(path: Path, picture: Picture) -> None:
    """Write a picture as PNG."""
    Image.fromarray(picture).save(path, "PNG")
