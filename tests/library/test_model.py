from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vitascope
from tiny_clips import encoded
from tiny_models import picture, tiny
from vitascope.engine.events import Advanced
from vitascope.errors import InvalidMedia, InvalidRequest, InvalidType, UnknownField
from vitascope.media.inputs import fit, picture_key
from vitascope.media.provenance import read_provenance
from vitascope.media.video import read_video

SMALL = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 2}


@pytest.fixture(scope="module")
def model() -> vitascope.Model:
    return vitascope.load(tiny("wan21_t2v").folder, device="cpu", num_threads=1)


@pytest.fixture(scope="module")
def pictures() -> vitascope.Model:
    return vitascope.load(tiny("wan22_i2v").folder, device="cpu", num_threads=1)


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, vitascope; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=600).returncode == 0


def test_a_prompt_becomes_a_clip(model: vitascope.Model) -> None:
    clip = model.generate("a cat", seed=1, fps=12.5, **SMALL)
    assert clip.frames.shape == (5, 32, 32, 3)
    assert clip.frames.dtype == np.uint8
    assert (clip.seed, clip.fps, clip.request.prompt) == (1, 12.5, "a cat")
    assert set(clip.stats.stage_s) == {"encode", "denoise", "decode"}
    assert clip.latents.shape == (1, 16, 2, 4, 4)


def test_the_same_seed_makes_the_same_clip_and_an_unsaid_one_is_told(model: vitascope.Model) -> None:
    clip = model.generate("a cat", **SMALL)
    again = model.generate("a cat", seed=clip.seed, **SMALL)
    assert np.array_equal(clip.frames, again.frames)
    assert model.generate("a cat", **SMALL).seed != clip.seed


def test_a_clip_is_saved_with_its_provenance(model: vitascope.Model, tmp_path: Path) -> None:
    clip = model.generate("a cat", seed=1, **SMALL)
    path = clip.save(tmp_path / "cat.mp4")
    video = read_video(path)
    assert video.frames.shape == clip.frames.shape
    told = read_provenance(path)
    assert (told.request, told.identity) == (clip.request, model.card.identity)


def test_an_attention_cache_changes_the_clip_and_an_idle_one_is_warned_of(model: vitascope.Model) -> None:
    def clip(**cache: int) -> vitascope.Clip:
        given = vitascope.AttentionCache(**cache) if cache else None
        return model.generate("a cat", seed=1, **(SMALL | {"num_inference_steps": 3}), attention_cache=given)

    plain = clip()
    assert not torch.equal(clip(start_step=0, interval=3, end_step=2).latents, plain.latents)
    idle = clip(start_step=0, interval=1, end_step=2)
    assert torch.equal(idle.latents, plain.latents)
    assert [w for w in idle.warnings if "spares none of the 3 steps" in w]


def test_progress_is_told_to_the_step(model: vitascope.Model) -> None:
    seen: list[Advanced] = []
    model.generate("a cat", seed=1, on_progress=seen.append, **SMALL)
    assert [(e.stage, e.step, e.num_steps) for e in seen[:3]] == [
        ("denoise", 0, 2),
        ("denoise", 1, 2),
        ("decode", 2, 2),
    ]


def test_an_interrupt_leaves_the_model_usable(model: vitascope.Model) -> None:
    def interrupt(event: Advanced) -> None:
        if event.step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.generate("a cat", seed=1, on_progress=interrupt, **SMALL)
    assert model.generate("a cat", seed=1, **SMALL).frames.shape[0] == 5


def test_pictures_come_as_path_image_or_array(pictures: vitascope.Model, tmp_path: Path) -> None:
    array = picture(1)
    path = tmp_path / "first.png"
    Image.fromarray(array).save(path)
    clips = [
        pictures.generate("a cat", image=image, seed=1, **SMALL)
        for image in (array, Image.fromarray(array), path, str(path))
    ]
    assert all(np.array_equal(clip.frames, clips[0].frames) for clip in clips)
    assert len({clip.request.first_frame for clip in clips}) == 1
    both = pictures.generate("a cat", image=array, last_image=picture(2), seed=1, **SMALL)
    assert both.request.task == "flf2v"
    assert not torch.equal(both.latents, clips[0].latents)


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((4, 4, 3), np.float32), "missing.png"])
def test_what_is_no_picture_is_refused(pictures: vitascope.Model, image: object) -> None:
    with pytest.raises(InvalidMedia) as caught:
        pictures.generate("a cat", image=image, **SMALL)  # type: ignore[arg-type]
    assert caught.value.param == "image"


def test_an_unknown_keyword_is_named_with_the_nearest_known_one(model: vitascope.Model) -> None:
    with pytest.raises(UnknownField, match="'num_frame'; did you mean 'num_frames'"):
        model.generate("a cat", num_frame=5)
    with pytest.raises(UnknownField, match="'first_frame'"):
        model.generate("a cat", first_frame="x")


def test_a_rule_of_the_card_is_refused_before_any_work(model: vitascope.Model) -> None:
    with pytest.raises(InvalidRequest, match="num_frames is 6"):
        model.generate("a cat", **(SMALL | {"num_frames": 6}))
    with pytest.raises(InvalidRequest, match="cannot generate from a first frame"):
        model.generate("a cat", image=picture(1), **SMALL)


def test_a_picture_of_another_size_is_refused_or_fitted_as_asked(pictures: vitascope.Model) -> None:
    big = picture(1, 48)
    with pytest.raises(InvalidMedia, match="image: The picture is 48x48 and the clip 32x32; send it in"):
        pictures.generate("a cat", image=big, **SMALL)
    with pytest.raises(InvalidRequest, match="resize_mode is 'squash'; use error, crop, pad"):
        pictures.generate("a cat", image=big, resize_mode="squash", **SMALL)
    clip = pictures.generate("a cat", image=big, resize_mode="crop", seed=1, **SMALL)
    fitted = np.asarray(fit(Image.fromarray(big), 32, 32, "crop"))
    assert np.array_equal(clip.frames, pictures.generate("a cat", image=fitted, seed=1, **SMALL).frames)
    assert clip.request.first_frame == picture_key(fitted)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"seed": "3"}, "seed is '3'; it must be a whole number."),
        ({"num_frames": True}, "num_frames is True; it must be a whole number."),
        ({"height": 64.0}, "height is 64.0; it must be a whole number."),
        ({"fps": "8"}, "fps is '8'; it must be a number."),
        ({"negative_prompt": 5}, "negative_prompt is 5; it must be a text."),
        ({"prompt": ["a cat"]}, "prompt is ['a cat']; it must be a text."),
        ({"attention_cache": (1, 2, 3)}, "attention_cache is (1, 2, 3); it must be an AttentionCache."),
        ({"on_progress": "print"}, "on_progress is 'print'; it must be a function."),
        ({"image": 3}, "image is 3; it must be a path, a PIL image or a uint8 array (height, width, 3)."),
        ({"video": 3}, "video is 3; it must be a path or a uint8 array (frames, height, width, 3)."),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(
    model: vitascope.Model, wish: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidType) as caught:
        model.generate(**({"prompt": "a cat"} | wish))
    assert str(caught.value) == message


def test_numbers_of_numpy_are_numbers(model: vitascope.Model) -> None:
    clip = model.generate("a cat", seed=np.int64(3), fps=np.float32(8), **SMALL)
    assert (clip.seed, clip.fps) == (3, 8.0)


def test_the_bundled_model_makes_a_clip_and_warns_of_words_it_does_not_know() -> None:
    model = vitascope.load(device="cpu", num_threads=1)
    clip = model.generate("a zeppelin", seed=1, num_inference_steps=1, num_frames=5)
    assert clip.frames.shape[0] == 5
    assert "'zeppelin'" in clip.warnings[0]
    known = model.generate(model.card.prompt_guide.examples[0], seed=1, num_inference_steps=1, num_frames=5)
    assert known.warnings == ()


def test_what_is_not_read_of_a_prompt_is_warned_of(model: vitascope.Model) -> None:
    clip = model.generate("a cat runs", seed=1, max_sequence_length=9, guidance_scale=1.0, **SMALL)
    assert clip.warnings == (
        "The prompt has 11 tokens; the model reads the first 8, and the rest has no effect.",
    )


def test_a_clip_becomes_another_clip(model: vitascope.Model, tmp_path: Path) -> None:
    source = np.stack([picture(i, 32) for i in range(7)])
    clip = model.generate("a cat", seed=1, video=source, strength=0.5, num_inference_steps=4)
    assert clip.frames.shape == (5, 32, 32, 3)
    assert (clip.request.task, clip.request.num_steps) == ("v2v", 2)
    assert clip.warnings == ("Of the clip's 7 frames wan21_t2v makes 5; the last ones are left out.",)
    (tmp_path / "a.mp4").write_bytes(encoded(fps=16))
    asked = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 2}
    from_file = model.generate("a cat", video=tmp_path / "a.mp4", resize_mode="crop", **asked)
    assert from_file.frames.shape == (5, 32, 32, 3)
    assert from_file.warnings == ("The clip's 48x32 were covered and cut to 32x32.",)


def test_a_clip_goes_on(pictures: vitascope.Model, tmp_path: Path) -> None:
    source = np.stack([picture(i, 32) for i in range(4)])
    clip = pictures.extend("a cat", source, num_frames=5, num_inference_steps=2, seed=1)
    assert clip.frames.shape == (8, 32, 32, 3)
    assert (clip.frames[:4] == source).all()
    clip.save(tmp_path / "a.mp4")
    assert read_provenance(tmp_path / "a.mp4").request.continues == clip.request.continues
    made = pictures.generate("a cat", image=source[-1], seed=1, **SMALL)
    assert (clip.frames[4:] == made.frames[1:]).all()


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"video": np.zeros((5, 32, 32), np.uint8)}, InvalidMedia),
        ({"video": "absent.mp4"}, InvalidMedia),
        ({"video": np.zeros((5, 32, 32, 3), np.uint8), "num_frames": 9}, InvalidRequest),
        ({"video": np.zeros((5, 32, 32, 3), np.uint8), "width": 64}, InvalidRequest),
        ({"strength": 0.5}, InvalidRequest),
        ({"continues": None}, UnknownField),
    ],
)
def test_a_clip_that_does_not_do_is_refused(
    model: vitascope.Model, wish: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        model.generate("a cat", **wish)
