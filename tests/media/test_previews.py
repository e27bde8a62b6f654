from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from vitascope.media.frames import read_frames, write_frames
from vitascope.media.previews import contact_sheet, to_webp, write_png


def test_a_preview_is_a_small_webp_of_the_picture():
    picture = np.full((480, 832, 3), (200, 40, 40), np.uint8)
    data = to_webp(picture, max_side=208)
    with Image.open(BytesIO(data)) as image:
        assert (image.format, image.size) == ("WEBP", (208, 120))
        assert abs(np.asarray(image.convert("RGB")).astype(int) - (200, 40, 40)).max() < 6
    assert len(data) < 4000


def test_a_small_picture_is_not_blown_up():
    with Image.open(BytesIO(to_webp(np.zeros((16, 24, 3), np.uint8)))) as image:
        assert image.size == (24, 16)


def test_a_contact_sheet_shows_first_and_last_frame_and_some_between():
    frames = np.stack([np.full((10, 20, 3), t, np.uint8) for t in range(33)])
    sheet = contact_sheet(frames, max_frames=5, columns=3)
    assert sheet.shape == (2 * 10 + 2, 3 * 20 + 4, 3)
    shown = [sheet[y, x, 0] for y in (0, 12) for x in (0, 22, 44)]
    assert shown == [0, 8, 16, 24, 32, 255]


def test_a_contact_sheet_of_one_frame_is_that_frame(tmp_path):
    frame = np.full((1, 10, 20, 3), 7, np.uint8)
    write_png(tmp_path / "sheet.png", contact_sheet(frame))
    with Image.open(tmp_path / "sheet.png") as image:
        assert np.array_equal(np.asarray(image), frame[0])


def test_frames_come_back_from_their_archive_to_the_bit(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
    for name in ("a", "b"):
        write_frames(tmp_path / name, frames, 23.976)
    back, fps = read_frames(tmp_path / "a")
    assert np.array_equal(back, frames)
    assert fps == 23.976
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
