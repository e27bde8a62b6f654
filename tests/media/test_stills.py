from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from vitascope.media.stills import Stills


def graded(count: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Frames whose level is their number."""
    return np.stack([np.full((height, width, 3), index, np.uint8) for index in range(count)])


def seen(frames: np.ndarray, *cuts: int) -> Stills:
    stills = Stills(len(frames))
    for chunk in np.split(frames, cuts):
        stills.write(chunk)
    return stills


def opened(data: bytes, kind: str) -> np.ndarray:
    with Image.open(BytesIO(data)) as image:
        assert image.format == kind
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize("count", [1, 2, 17, 81])
def test_the_thumbnail_is_the_middle_frame(count):
    picture = opened(seen(graded(count)).thumbnail(), "WEBP")
    assert picture.shape == (32, 48, 3)
    assert abs(picture - (count - 1) // 2).max() <= 3


@pytest.mark.parametrize(("count", "shown"), [(1, [0]), (5, [0, 1, 2, 3, 4]), (241, range(0, 241, 16))])
def test_the_sheet_shows_frames_from_first_to_last(count, shown):
    sheet = opened(seen(graded(count)).spritesheet(), "JPEG")
    middles = [(row * 34 + 16, column * 50 + 24) for row in range(4) for column in range(4)]
    levels = [sheet[y, x, 0] for y, x in middles[: len(shown)]]
    assert np.abs(np.array(levels) - list(shown)).max() <= 3


def test_stills_of_a_large_clip_are_small():
    stills = seen(np.zeros((3, 720, 1280, 3), np.uint8))
    assert opened(stills.thumbnail(), "WEBP").shape == (288, 512, 3)
    assert opened(stills.spritesheet(), "JPEG").shape == (144, 3 * 256 + 2 * 2, 3)


def test_the_bytes_depend_on_the_frames_alone():
    frames = np.random.default_rng(0).integers(0, 256, (33, 64, 64, 3), dtype=np.uint8)
    whole, cut = seen(frames), seen(frames, 1, 5, 9, 30)
    assert whole.thumbnail() == cut.thumbnail()
    assert whole.spritesheet() == cut.spritesheet()
    assert seen(frames[::-1]).spritesheet() != whole.spritesheet()
