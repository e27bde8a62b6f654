from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from vitascope.media.frames import read_frames
from vitascope.media.provenance import read_provenance
from vitascope.media.video import VideoWriter, hash_frames, read_metadata, read_video
from vitascope.request import AttentionCache

# As fast as a clip gets.
QUICK = ["--num-inference-steps", "2", "--num-frames", "5", "--num-threads", "1"]
PROMPT = "a red circle moving right on a blue background"


@pytest.fixture
def picture(tmp_path):
    colours = np.zeros((64, 64, 3), np.uint8)
    colours[16:48, 16:48] = (255, 0, 0)
    Image.fromarray(colours).save(tmp_path / "first.png")
    Image.fromarray(colours[:, ::-1] // 2).save(tmp_path / "last.png")
    Image.fromarray(colours[:, :32]).save(tmp_path / "narrow.png")
    return colours


def test_a_prompt_becomes_a_clip_whose_path_seed_and_timing_are_printed(vitascope, tmp_path):
    ran = vitascope("generate", "--prompt", PROMPT, "--seed", 5, *QUICK, "--return_frames", "--contact-sheet")
    assert (ran.status, ran.err) == (0, "")
    clip, frames, sheet, facts, timing = ran.out.splitlines()
    assert re.fullmatch(
        r"outputs/a_red_circle_moving_right_on_a_blue_background_\d{8}-\d{6}_[0-9a-f]{8}\.mp4", clip
    )
    assert facts == "  5 frames of 64x64 at 8 fps (0.62 s), seed 5"
    assert re.fullmatch(
        r"  load [\d.]+ s, encode .*, denoise .*, decode .*, total .* \([\d.]+ (it/s|s/it)\)", timing
    )
    told, pixels = read_provenance(Path(clip)), read_frames(Path(frames))[0]
    assert (told.request.seed, told.request.prompt) == (5, PROMPT)
    assert told.frames_sha256 == hash_frames(pixels)
    assert read_video(Path(clip)).frames.shape == pixels.shape == (5, 64, 64, 3)
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == sorted(
        Path(path).name for path in (clip, frames, sheet)
    )


def test_a_clip_is_made_again_to_the_bit_and_a_changed_one_is_found_out(vitascope, tmp_path):
    vitascope("generate", "--prompt", PROMPT, *QUICK, "--output-file-path", "c.mp4")
    ran = vitascope("reproduce", "c.mp4", "--num-threads", 1, "--output-path", "again.mp4")
    assert (ran.status, ran.out) == (0, "identical: all 5 frames are the same to the bit\n")
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "c.mp4").read_bytes()

    forge(tmp_path / "c.mp4", tmp_path / "forged.mp4")
    ran = vitascope("reproduce", "forged.mp4", "--num-threads", 1)
    assert ran.status == 1
    assert re.match(
        r"different: the frames are not the same; the file is [\d.]+ dB PSNR from the new", ran.out
    )


def forge(original, path):
    """Write a clip that tells the original's story over other frames."""
    told = read_provenance(original)
    video = read_video(original)
    with VideoWriter(path, width=64, height=64, fps=8, metadata=msgspec.to_builtins(told)) as writer:
        writer.write(255 - video.frames)


def test_an_attention_cache_is_said_in_steps_and_made_again(vitascope, tmp_path):
    cached = [*QUICK, "--num-inference-steps", "3", "--attention-cache"]
    assert (
        vitascope("generate", "--prompt", PROMPT, *cached, "0:3:2", "--output-file-path", "c.mp4").err == ""
    )
    told = read_provenance(tmp_path / "c.mp4").request.attention_cache
    assert told == AttentionCache(start_step=0, interval=3, end_step=2)
    assert vitascope("reproduce", "c.mp4", "--num-threads", 1).out.startswith("identical")
    ran = vitascope("generate", "--prompt", PROMPT, *cached, "12-4-37")
    assert ran.status == 2
    assert "'12-4-37' is not START:INTERVAL:END" in ran.message


def test_a_clip_of_another_model_is_not_made_again(vitascope, tmp_path):
    vitascope("generate", "--prompt", PROMPT, *QUICK, "--output-file-path", "c.mp4")
    told = read_metadata(tmp_path / "c.mp4")["comment"]
    identity = read_provenance(tmp_path / "c.mp4").identity
    with VideoWriter(
        tmp_path / "other.mp4", width=64, height=64, fps=8, metadata=json.loads(told) | {"identity": "f" * 64}
    ) as writer:
        writer.write(np.zeros((1, 64, 64, 3), np.uint8))
    ran = vitascope("reproduce", "other.mp4", "--num-threads", 1)
    assert ran.status == 1
    assert ran.err == (
        f"error: This clip was made by vitascope-tiny (ffffffffffff), and this model is vitascope-tiny "
        f"({identity[:12]}); give the right one with --model-path, and its --transformer-path if it "
        "had one.\n"
    )


def test_a_clip_from_pictures_is_made_again_from_the_same_pictures_only(vitascope, picture, tmp_path):
    given = ["--image-path", "first.png", "--last-image-path", "last.png"]
    ran = vitascope("generate", "--prompt", PROMPT, *QUICK, *given, "--output-file-path", "c.mp4")
    assert (ran.status, ran.err) == (0, "")
    assert read_provenance(tmp_path / "c.mp4").request.task == "flf2v"

    ran = vitascope("reproduce", "c.mp4")
    assert ran.err == (
        "error: This clip was made from 2 pictures and 0 are given; pass them with --image-path.\n"
    )
    again = ["--image-path", "first.png", "--image-path", "last.png", "--num-threads", 1]
    assert vitascope("reproduce", "c.mp4", *again).status == 0

    swapped = ["--image-path", "last.png", "--image-path", "first.png", "--num-threads", 1]
    ran = vitascope("reproduce", "c.mp4", *swapped)
    assert (ran.status, ran.err) == (
        1,
        "error: The clip cannot be made again from this: first_frame, last_frame would not be the same.\n",
    )


def test_a_picture_of_another_size_is_refused_or_fitted(vitascope, picture, tmp_path):
    ran = vitascope("generate", "--prompt", PROMPT, *QUICK, "--image-path", "narrow.png")
    assert ran.status == 1
    assert ran.err == (
        "error: narrow.png: The picture is 32x64 and the clip 64x64; send it in the clip's size, or set "
        "resize_mode to 'crop' or 'pad'.\n"
    )
    ran = vitascope(
        "generate", "--prompt", PROMPT, *QUICK, "--image-path", "narrow.png", "--resize-mode", "pad"
    )
    assert ran.status == 0


def test_a_refusal_of_the_model_is_one_line_and_leaves_nothing(vitascope, tmp_path):
    ran = vitascope("generate", "--prompt", PROMPT, "--num-frames", 18, "--num-threads", 1)
    assert (ran.status, ran.out) == (1, "")
    assert re.fullmatch(
        r"error: num_frames is 18; it must be 4\*k\+1 and at most \d+: use 17 or 21\.\n", ran.err
    )
    assert list((tmp_path / "outputs").iterdir()) == []


def test_a_prompt_outside_the_models_words_makes_a_clip_and_a_warning(vitascope):
    ran = vitascope("generate", "--prompt", "a zebra", *QUICK, "--no-save-output")
    assert ran.status == 0
    assert ran.err.startswith("warning: vitascope-tiny does not know 'zebra'; it makes moving shapes.")
    assert ran.out.startswith("nothing was written (--no-save-output)\n")


def test_a_model_path_given_only_in_the_file_is_used(vitascope, tmp_path):
    (tmp_path / "c.json").write_text('{"engine": {"model_path": "no/such/folder"}, "prompt": "a"}')
    ran = vitascope("generate", "--config", "c.json")
    assert ran.status == 1
    assert "no/such/folder" in ran.err


def test_models_lists_the_bundled_one_and_shows_its_card(vitascope):
    listed = vitascope("models")
    assert listed.status == 0
    assert "bundled: vitascope-tiny" in listed.out
    assert "WanPipeline" in listed.out
    shown = vitascope("models", "show")
    assert shown.status == 0
    assert shown.out.startswith("vitascope-tiny (wan), ")
    assert "tasks    t2v, i2v, flf2v" in shown.out
    assert '"name": "vitascope-tiny"' in vitascope("models", "show", "--json").out
