"""HunyuanVideo beyond the contract of families: its kinds of guidance, its texts, its ways with a picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.hunyuan_video import pipeline_hunyuan_video, pipeline_hunyuan_video_image2video

import tiny_hunyuan  # noqa: F401  (adds its cases)
from tiny_models import Tiny, picture, tiny
from vitascope.config.model_source import ModelSource
from vitascope.engine.engine import Engine
from vitascope.engine.events import Completed, Failed
from vitascope.engine.load import load_family
from vitascope.errors import CheckpointError, InvalidRequest
from vitascope.models.family import Media
from vitascope.models.hunyuan_video import text
from vitascope.request import GenerationRequest


@pytest.fixture
def t2v() -> Tiny:
    return tiny("hunyuan_t2v")


@pytest.fixture(params=["hunyuan_i2v_concat", "hunyuan_i2v_replace"])
def i2v(request: pytest.FixtureRequest) -> Tiny:
    return tiny(request.param)


def generate(
    model: Tiny, request: GenerationRequest, media: Media | None = None
) -> tuple[Any, list[np.ndarray]]:
    engine, chunks = Engine(model.family), []
    engine.start("job", request, media or model.case.media, sink=chunks.append)
    while engine.busy:
        for event in engine.tick():
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Completed):
                return event.latents, [c.frames for c in chunks]
    raise AssertionError("the engine stopped before the generation was done")


def assert_as_reference(model: Tiny, request: GenerationRequest) -> None:
    ours, theirs = generate(model, request)[0], model.reference(request)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6 * float(theirs.abs().max()))


def count_passes(model: Tiny, request: GenerationRequest) -> int:
    passes = []
    hook = model.family._parts.transformer.register_forward_hook(lambda *_: passes.append(1))
    try:
        generate(model, request)
    finally:
        hook.remove()
    return len(passes)


def test_the_templates_are_the_references() -> None:
    assert pipeline_hunyuan_video.DEFAULT_PROMPT_TEMPLATE["template"] == text.TEMPLATE
    assert pipeline_hunyuan_video_image2video.DEFAULT_PROMPT_TEMPLATE["template"] == text.PICTURE_TEMPLATE


def test_distilled_guidance_takes_one_pass_a_step_and_true_guidance_two(t2v: Tiny) -> None:
    assert count_passes(t2v, t2v.request(true_cfg_scale=1.0)) == 3
    assert count_passes(t2v, t2v.request(true_cfg_scale=2.0)) == 6


def test_distilled_guidance_alone_gives_the_references_latents(t2v: Tiny) -> None:
    assert_as_reference(t2v, t2v.request(true_cfg_scale=1.0))


def test_the_scale_of_distilled_guidance_counts(t2v: Tiny) -> None:
    low, high = (generate(t2v, t2v.request(true_cfg_scale=1.0, guidance_scale=s))[0] for s in (1.0, 9.0))
    assert not torch.equal(low, high)


def test_a_model_without_distilled_guidance_is_guided_by_two_passes_and_knows_no_other_scale() -> None:
    model = tiny("hunyuan_i2v_concat")
    assert count_passes(model, model.request(guidance_scale=1.0)) == 3
    assert count_passes(model, model.request(guidance_scale=2.0)) == 6
    with pytest.raises(InvalidRequest, match="has no true_cfg_scale"):
        model.request(true_cfg_scale=2.0)


@pytest.mark.parametrize("prompt", ["北京の夜、قطة سوداء", "y" * 400], ids=["other scripts", "too long"])
def test_prompts_of_any_script_and_length_give_the_references_latents(t2v: Tiny, prompt: str) -> None:
    assert_as_reference(t2v, t2v.request(prompt=prompt))


def test_a_prompt_that_pushes_out_the_templates_end_gives_the_references_latents(i2v: Tiny) -> None:
    assert_as_reference(i2v, i2v.request(prompt="y" * 400))


def test_a_shorter_limit_of_text_gives_the_references_latents(t2v: Tiny) -> None:
    assert_as_reference(t2v, t2v.request(max_sequence_length=5))


def test_text_that_fills_its_room_gives_the_references_latents_to_the_bit(t2v: Tiny) -> None:
    request = t2v.request(prompt="y" * 400, true_cfg_scale=1.0)  # no padding to leave out
    assert torch.equal(generate(t2v, request)[0], t2v.reference(request))


def test_no_padding_is_kept_of_a_prompt(t2v: Tiny) -> None:
    request = t2v.request()
    conditioning = t2v.family.encode(request, t2v.case.media)
    assert conditioning.positive.embeds.shape[1] == len(request.prompt) + 1  # letters, and the end of turn


def test_the_prompt_is_found_whichever_side_the_tokenizer_pads_by_itself(
    t2v: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = t2v.family._parts.text
    right = encoder._embed("a dog", 20)
    monkeypatch.setattr(encoder._tokenizer, "padding_side", "left")
    assert torch.equal(encoder._embed("a dog", 20), right)


def test_the_word_for_the_picture_is_refused_in_a_prompt(i2v: Tiny) -> None:
    with pytest.raises(InvalidRequest, match="<image>"):
        generate(i2v, i2v.request(prompt="a cat in an <image>"))


def test_the_picture_counts(i2v: Tiny) -> None:
    request = i2v.request(num_inference_steps=1)
    other = Media(picture(2, 32))
    assert not torch.equal(generate(i2v, request)[0], generate(i2v, request, other)[0])


def test_a_clip_of_one_frame_can_be_made(i2v: Tiny) -> None:
    request = i2v.request(num_frames=1)
    assert_as_reference(i2v, request)
    assert [c.shape for c in generate(i2v, request)[1]] == [(1, 32, 32, 3)]


def test_a_long_clip_streams_in_chunks_that_join_to_the_references(t2v: Tiny) -> None:
    request = t2v.request(num_frames=37, num_inference_steps=1, true_cfg_scale=1.0)
    _, chunks = generate(t2v, request)
    assert [len(c) for c in chunks] == [13, 12, 12]
    theirs = (t2v.reference(request, "np")[0] * 255).round().astype(int)
    assert np.abs(np.concatenate(chunks).astype(int) - theirs).max() <= 1


def test_native_values_follow_from_the_configurations() -> None:
    cards = {n: tiny(n).family.card for n in ("hunyuan_t2v", "hunyuan_i2v_concat", "hunyuan_i2v_replace")}
    found = {
        name: (c.tasks, c.defaults.num_frames, c.defaults.guidance_scale, c.defaults.true_cfg_scale)
        for name, c in cards.items()
    }
    assert found == {
        "hunyuan_t2v": (("t2v",), 129, 6.0, 1.0),
        "hunyuan_i2v_concat": (("i2v",), 125, 1.0, None),
        "hunyuan_i2v_replace": (("i2v",), 129, 6.0, 1.0),
    }
    assert {c.defaults.flow_shift for c in cards.values()} == {7.0}
    assert {c.rules.size_multiple for c in cards.values()} == {16}


def test_a_folder_whose_pipeline_and_transformer_disagree_is_refused(t2v: Tiny, tmp_path: Path) -> None:
    folder = shutil.copytree(t2v.folder, tmp_path / "mixed")
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "HunyuanVideoImageToVideoPipeline"
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="image_condition_type"):
        load_family(ModelSource(folder), device="cpu")


def test_the_scale_that_reads_a_negative_prompt_decides_whether_it_is_warned_of() -> None:
    model = tiny("hunyuan_t2v")

    def told(scale: float) -> tuple[str, ...]:
        return model.family.unread(model.request(negative_prompt="x" * 300, true_cfg_scale=scale))

    assert told(1.0) == ()
    assert told(2.0)[0].startswith("The negative prompt has 300 tokens; the model reads the first 256,")
