from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from vitascope.errors import InvalidMedia, InvalidRequest
from vitascope.media.video import (
    AudioFormat,
    VideoWriter,
    Written,
    frame_rate,
    hash_frames,
    read_metadata,
    read_video,
)

COLOURS = {
    "red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0),
    "gray": (128, 128, 128), "white": (255, 255, 255), "black": (0, 0, 0), "orange": (255, 165, 0),
}  # fmt: skip


def flat(colour, *, frames=3, height=32, width=48):
    return np.full((frames, height, width, 3), colour, np.uint8)


def moving(*, frames=9, height=64, width=64):
    clip = flat((0, 0, 255), frames=frames, height=height, width=width)
    for t in range(frames):
        clip[t, 16:32, 2 * t : 2 * t + 16] = (255, 0, 0)
    return clip


def write(path, frames, *, chunks=1, fps=8.0, **options):
    height, width = frames.shape[1:3]
    with VideoWriter(path, width=width, height=height, fps=fps, **options) as writer:
        for chunk in np.array_split(frames, chunks):
            writer.write(chunk)
    return writer.close()


@pytest.mark.parametrize("name", COLOURS)
def test_colours_survive_within_two_levels(tmp_path, name):
    write(tmp_path / "clip.mp4", flat(COLOURS[name]))
    decoded = read_video(tmp_path / "clip.mp4").frames
    assert abs(decoded.astype(int) - COLOURS[name]).max() <= 2


def test_the_planes_hold_bt709_limited_range_and_the_stream_says_so(tmp_path):
    write(tmp_path / "clip.mp4", flat(COLOURS["red"]))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace) == (1, 1, 1)
        assert context.color_range == 1
        assert context.pix_fmt == "yuv420p"
        frame = next(container.decode(video=0))
    levels = [bytes(plane)[0] for plane in frame.planes]
    assert levels == pytest.approx([63, 102, 240], abs=1)  # BT.601 would give [81, 90, 240]


def test_a_player_can_start_before_the_file_is_there_in_full(tmp_path):
    write(tmp_path / "clip.mp4", moving())
    data = (tmp_path / "clip.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (16.0, Fraction(16)),
        (12.5, Fraction(25, 2)),
        (23.976, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (24.0, Fraction(24)),
        (7.3, Fraction(73, 10)),
        (1 / 3, Fraction(1, 3)),
    ],
)
def test_any_frame_rate_is_kept_to_the_last_frame(tmp_path, fps, rate):
    assert frame_rate(fps) == rate
    write(tmp_path / "clip.mp4", moving(), fps=fps)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        times = sorted(packet.pts * packet.time_base for packet in container.demux(stream) if packet.size)
        assert stream.average_rate == rate
    steps = np.diff([float(t) for t in times])
    assert len(times) == 9
    assert steps == pytest.approx(float(1 / rate), abs=1e-4)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (18, 66), (66, 18), (270, 480)])
def test_any_even_size_works(tmp_path, height, width):
    write(tmp_path / "clip.mp4", flat((10, 200, 30), height=height, width=width, frames=2))
    assert read_video(tmp_path / "clip.mp4").frames.shape == (2, height, width, 3)


@pytest.mark.parametrize(
    ("height", "width", "field"), [(33, 32, "height"), (32, 33, "width"), (32, 0, "width")]
)
def test_an_odd_size_is_refused_by_name(tmp_path, height, width, field):
    with pytest.raises(InvalidRequest, match=f"{field} is .*even") as caught:
        VideoWriter(tmp_path / "clip.mp4", width=width, height=height, fps=8)
    assert caught.value.param == field
    assert not (tmp_path / "clip.mp4").exists()


def test_the_metadata_comes_back_with_the_hash_of_the_frames(tmp_path):
    prompt, extra = 'a "quoted" ünïcode\nprompt', {"request": {"seed": 2**62}, "model": "tiny"}
    written = write(tmp_path / "clip.mp4", moving(), title=prompt, metadata=extra)
    fields = read_metadata(tmp_path / "clip.mp4")
    assert fields["title"] == prompt
    assert json.loads(fields["comment"]) == extra | {"frames_sha256": hash_frames(moving())}
    assert written == Written(9, hash_frames(moving()))


def test_a_title_that_looks_like_metadata_does_not_confuse_the_hash(tmp_path):
    title = '{"frames_sha256": "' + "0" * 64 + '"}'
    write(tmp_path / "clip.mp4", moving(), title=title)
    fields = read_metadata(tmp_path / "clip.mp4")
    assert fields["title"] == title
    assert json.loads(fields["comment"])["frames_sha256"] == hash_frames(moving())


@pytest.mark.parametrize("size", [(64, 64), (272, 480)])
def test_the_same_frames_give_the_same_bytes_however_they_are_cut(tmp_path, size):
    frames = moving(height=size[0], width=size[1])
    for index, chunks in enumerate((1, 1, 4, 9)):
        write(tmp_path / f"{index}.mp4", frames, chunks=chunks, title="t", metadata={"seed": 1})
    assert len({(tmp_path / f"{index}.mp4").read_bytes() for index in range(4)}) == 1


@pytest.mark.parametrize("size", [(64, 64), (272, 480)])
def test_the_bytes_do_not_depend_on_what_was_in_memory_before(tmp_path, size):
    script = (
        "import sys, numpy as np; from pathlib import Path; from vitascope.media.video import VideoWriter\n"
        "frames = np.load(sys.argv[1])\n"
        "height, width = frames.shape[1:3]\n"
        "with VideoWriter(Path(sys.argv[2]), width=width, height=height, fps=8) as w: w.write(frames)\n"
    )
    chance = np.random.default_rng(0)
    still = np.kron(chance.integers(0, 256, (size[0] // 16, size[1] // 16, 3)), np.ones((16, 16, 1), int))
    frames = np.stack([np.roll(still, 2 * t, axis=1) for t in range(9)]) + chance.integers(
        -6, 6, (9, *size, 3)
    )
    np.save(tmp_path / "frames.npy", frames.clip(0, 255).astype(np.uint8))
    for fill in ("0", "85", "170"):  # glibc fills fresh memory with it
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "frames.npy"), str(tmp_path / f"{fill}.mp4")],
            env={**os.environ, "MALLOC_PERTURB_": fill},
            check=True,
            timeout=600,
        )
    assert len({(tmp_path / f"{fill}.mp4").read_bytes() for fill in ("0", "85", "170")}) == 1


def test_a_small_clip_looks_as_it_should(tmp_path):
    write(tmp_path / "clip.mp4", moving())
    decoded = read_video(tmp_path / "clip.mp4").frames.astype(int)
    shape = moving()[..., 0] == 255
    assert np.abs(decoded - moving())[shape | ~shape].mean() < 6
    assert (decoded[..., 0] > 127)[shape].mean() > 0.95  # the square is red, and where it should be
    assert (decoded[..., 2] > 127)[~shape].mean() > 0.98


def test_frames_of_another_size_or_type_are_refused(tmp_path):
    with VideoWriter(tmp_path / "clip.mp4", width=48, height=32, fps=8) as writer:
        writer.write(flat((1, 2, 3)))
        with pytest.raises(ValueError, match="announced"):
            writer.write(flat((1, 2, 3), height=48))
        with pytest.raises(ValueError, match="float32"):
            writer.write(flat((1, 2, 3)).astype(np.float32))


def test_a_writer_that_fails_midway_ends_without_a_second_error(tmp_path):
    path = tmp_path / "clip.mp4"
    with pytest.raises(KeyError), VideoWriter(path, width=48, height=32, fps=8) as writer:  # noqa: PT012
        writer.write(flat((1, 2, 3)))
        raise KeyError


def test_sound_lies_beside_the_frames_and_lasts_as_long(tmp_path):
    seconds, rate = 2, 24_000
    tone = np.sin(2 * np.pi * 440 * np.arange(seconds * rate) / rate).astype(np.float32)
    with VideoWriter(
        tmp_path / "clip.mp4", width=64, height=64, fps=8, audio=AudioFormat(sample_rate=rate, channels=2)
    ) as writer:
        writer.write(moving(frames=16))
        writer.write_audio(np.stack([tone, -tone]) * 0.5)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        sound = container.streams.audio[0]
        assert (sound.codec_context.name, sound.rate, sound.channels) == ("aac", rate, 2)
        samples = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    assert samples.shape[1] == pytest.approx(seconds * rate, abs=2048)
    spectrum = np.abs(np.fft.rfft(samples[0, rate // 2 : rate // 2 + rate]))
    assert np.argmax(spectrum) == 440
    assert read_video(tmp_path / "clip.mp4").frames.shape[0] == 16


def test_sound_that_was_not_announced_is_refused(tmp_path):
    with VideoWriter(tmp_path / "clip.mp4", width=48, height=32, fps=8) as writer:
        writer.write(flat((1, 2, 3)))
        with pytest.raises(ValueError, match="no sound"):
            writer.write_audio(np.zeros((1, 10), np.float32))


@pytest.mark.parametrize("content", [b"", b"not a clip", b"\x00\x00\x00\x18ftypisom" + bytes(64)])
def test_a_file_that_is_no_clip_is_an_error_in_our_words(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    for read in (read_video, read_metadata):
        with pytest.raises(InvalidMedia, match="not an MP4 clip"):
            read(path)


def test_a_missing_file_is_an_error_in_our_words(tmp_path):
    with pytest.raises(InvalidMedia, match="not an MP4 clip"):
        read_video(tmp_path / "nothing.mp4")


def test_a_clip_cut_short_is_an_error_or_fewer_frames_but_never_a_crash(tmp_path):
    write(tmp_path / "clip.mp4", moving())
    data = (tmp_path / "clip.mp4").read_bytes()
    for length in range(0, len(data), 97):
        (tmp_path / "cut.mp4").write_bytes(data[:length])
        try:
            assert 0 < len(read_video(tmp_path / "cut.mp4").frames) <= 9
        except InvalidMedia:
            continue
