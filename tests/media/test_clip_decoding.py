from __future__ import annotations

import io
import zipfile
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from tiny_clips import FORMATS, at_times, encoded, moving, sound, turned
from vitascope.errors import InvalidMedia
from vitascope.media.clip_decoding import Fit, Limits, frames, is_clip, probe
from vitascope.media.video import VideoWriter, read_video

LIMITS = Limits(max_pixels=100 * 100, max_frames=50)
WHOLE = Fit(width=48, height=32, num_frames=9)


def decoded(data, fit=WHOLE):
    return np.stack(list(frames(data, LIMITS, fit)))


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_measured_and_decoded(kind):
    clip = encoded(kind=kind)
    facts = probe(clip, LIMITS)
    fps = 8.333 if kind == "gif" else 8.0  # it counts hundredths of a second
    assert (facts.width, facts.height, facts.num_frames, facts.fps) == (48, 32, 9, fps)
    assert facts.span_s == pytest.approx(1.0, abs=0.02)
    levels = 20 if kind == "gif" else 6  # of 256 colours a few are near
    assert np.abs(decoded(clip).astype(int) - moving()).mean() < levels


def test_our_own_clips_are_seen_as_whoever_downloads_them_sees_them(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", width=48, height=32, fps=8) as writer:
        writer.write(moving())
    assert (decoded((tmp_path / "a.mp4").read_bytes()) == read_video(tmp_path / "a.mp4").frames).all()


def test_a_clip_may_be_cut_in_time_and_size():
    clip = encoded()
    assert decoded(clip, Fit(width=48, height=32, num_frames=5)).shape == (5, 32, 48, 3)
    assert decoded(clip, Fit(width=32, height=32, num_frames=2, resize_mode="crop")).shape == (2, 32, 32, 3)
    padded = decoded(clip, Fit(width=48, height=64, num_frames=1, resize_mode="pad"))
    assert padded[0, 0].max() == 0


@pytest.mark.parametrize(
    ("fps", "shown"),
    [
        (8, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (4, [0, 2, 4, 6, 8]),
        (16, [i // 2 for i in range(17)]),
        (3, [0, 3, 5, 8]),
    ],
)
def test_another_rate_takes_the_nearest_frames(fps, shown):
    clip = encoded()
    assert probe(clip, LIMITS).frames_at(fps) == len(shown)
    taken = decoded(clip, Fit(width=48, height=32, num_frames=len(shown), fps=float(fps)))
    everything = decoded(clip)
    assert [int(np.abs(everything.astype(int) - one).mean(axis=(1, 2, 3)).argmin()) for one in taken] == shown


def test_frames_of_uneven_length_are_taken_by_their_time():
    frames_in = moving(4)
    clip = at_times(frames_in, [0, 100, 720, 1000])
    taken = decoded(clip, Fit(width=48, height=32, num_frames=6, fps=5.0))  # 0, 200 ... 1000 ms
    everything = decoded(clip, Fit(width=48, height=32, num_frames=4))
    nearest = [int(np.abs(everything.astype(int) - one).mean(axis=(1, 2, 3)).argmin()) for one in taken]
    assert nearest == [0, 1, 1, 2, 2, 3]


def test_a_clip_that_is_to_be_turned_is_turned():
    clip = turned(encoded())
    facts = probe(clip, LIMITS)
    assert (facts.width, facts.height) == (32, 48)
    upright = decoded(encoded())
    assert (decoded(clip, Fit(width=32, height=48, num_frames=9)) == np.rot90(upright, -1, (1, 2))).all()


def test_a_rate_such_as_29_97_is_told():
    assert probe(encoded(fps=Fraction(30000, 1001)), LIMITS).fps == 29.97


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile /etc/passwd\n"


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a", "b")
    return buffer.getvalue()


def still_gif() -> bytes:
    buffer = io.BytesIO()
    Image.new("P", (48, 32)).save(buffer, "GIF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "formats that are read"),
        (b"no clip at all", "formats that are read"),
        (PLAYLIST, "formats that are read"),
        (CONCAT, "formats that are read"),
        (archive(), "formats that are read"),
        (b"\0\0\0\x18ftypisom" + bytes(200), "damaged"),
        (b"\x1aE\xdf\xa3" + bytes(200), "damaged"),
        (b"GIF89a" + bytes(200), "damaged"),
        (encoded()[:900], "damaged"),
        (sound(), "no video"),
        (still_gif(), "one picture and no clip; send pictures as JPEG, PNG or WebP"),
        (encoded(moving(3, 120, 100)), "120x100; at most 10000 pixels"),
        (encoded(moving(60)), "more than 50 frames"),
        (encoded(kind="mov", codec="mjpeg", pix_fmt="yuvj420p"), "codec is not read"),
        (encoded(sample_aspect_ratio=Fraction(4, 3)), "not square"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # no bytes, which may differ each time
)
def test_what_is_no_good_clip_is_refused_in_words_of_our_own(data, says):
    with pytest.raises(InvalidMedia, match=says):
        probe(data, LIMITS)


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"avif"])
def test_a_picture_in_an_mp4s_container_is_no_clip(brand):
    picture = b"\0\0\0\x18ftyp" + brand + encoded(moving(num_frames=1))[12:]
    assert not is_clip(picture)
    with pytest.raises(InvalidMedia, match="formats that are read"):
        probe(picture, LIMITS)


def test_a_damaged_middle_is_refused_or_decoded_and_nothing_else():
    clip = encoded(moving(20))
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(40):
        broken = bytearray(clip)
        for at in rng.integers(8, len(clip), 12):
            broken[at] = int(rng.integers(256))
        try:
            probe(bytes(broken), LIMITS)
            decoded(bytes(broken), Fit(width=48, height=32, num_frames=20, resize_mode="crop"))
        except InvalidMedia:
            refused += 1
    assert refused > 0


def test_a_clip_with_fewer_frames_than_asked_for_is_refused():
    with pytest.raises(InvalidMedia, match="breaks off after 9 of 10 frames"):
        decoded(encoded(), Fit(width=48, height=32, num_frames=10))
