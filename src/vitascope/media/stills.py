"""The stills of a clip: a thumbnail and a sheet of its frames, taken while the frames stream by.

The same frames give the same bytes, however they were cut into chunks.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from vitascope.media.arrays import Picture, Pixels
from vitascope.media.previews import contact_sheet, to_webp

THUMBNAIL_SIDE = 512  # pixels of the longer side, at most
TILE_SIDE = 256
MAX_TILES, COLUMNS = 16, 4


class Stills:
    """Takes in all `num_frames` frames of a clip and holds on to a few small ones."""

    def __init__(self, num_frames: int) -> None:
        spaced = np.linspace(0, num_frames - 1, min(num_frames, MAX_TILES)).round()
        self._wanted = frozenset(spaced.astype(int).tolist())
        self._middle = (num_frames - 1) // 2
        self._seen = 0
        self._tiles: list[Picture] = []
        self._cover = b""

    def write(self, frames: Pixels) -> None:
        """Look at the next frames: (frames, height, width, 3), RGB."""
        for index, frame in enumerate(frames, self._seen):
            if index in self._wanted:
                self._tiles.append(_shrunken(frame))
            if index == self._middle:
                self._cover = to_webp(frame, max_side=THUMBNAIL_SIDE)
        self._seen += len(frames)

    def thumbnail(self) -> bytes:
        """Return the middle frame as WebP: the first one often shows less of what the clip is about."""
        return self._cover

    def spritesheet(self) -> bytes:
        """Return evenly spaced frames, the first and the last among them, in rows of four as JPEG."""
        sheet = contact_sheet(np.stack(self._tiles), max_frames=MAX_TILES, columns=COLUMNS)
        buffer = BytesIO()
        Image.fromarray(sheet).save(buffer, "JPEG", quality=85)
        return buffer.getvalue()


def _shrunken(frame: Picture) -> Picture:
    image = Image.fromarray(frame)
    image.thumbnail((TILE_SIDE, TILE_SIDE), Image.Resampling.BILINEAR)
    return np.array(image)
