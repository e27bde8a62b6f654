"""HunyuanVideo 1.5 beyond the contract of families: quoted text, the guider, the mean flow, streaming."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ClassifierFreeGuidance
from diffusers.pipelines.hunyuan_video1_5 import pipeline_hunyuan_video1_5

from tiny_hunyuan import ask_hunyuan15, hunyuan15_i2v, hunyuan15_t2v
from tiny_models import CASES, Case, Tiny, made, tiny
from vitascope.config.model_source import ModelSource
from vitascope.engine.engine import Engine
from vitascope.engine.events import Completed
from vitascope.engine.load import load_family
from vitascope.errors import CheckpointError
from vitascope.models.hunyuan_video_15.guider import Guider
from vitascope.models.hunyuan_video_15.text import SYSTEM_MESSAGE, glyph_prompt
from vitascope.request import GenerationRequest


@pytest.fixture
def t2v() -> Tiny:
    return tiny("hunyuan15_t2v")


def generate(model: Tiny, request: GenerationRequest) -> tuple[Any, list[np.ndarray]]:
    engine, chunks = Engine(model.family), []
    engine.start("job", request, model.case.media, sink=chunks.append)
    while engine.busy:
        for event in engine.tick():
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


def test_the_system_message_is_the_references(t2v: Tiny) -> None:
    assert t2v.pipeline.system_message == SYSTEM_MESSAGE


@pytest.mark.parametrize(
    "prompt", ["a cat", 'says "hello"', 'says “one” "two" and "one"', '""', 'an "open quote', '"a"b"c"']
)
def test_what_is_read_letter_by_letter_is_what_the_reference_reads(prompt: str) -> None:
    assert glyph_prompt(prompt) == pipeline_hunyuan_video1_5.extract_glyph_texts(prompt)


@pytest.mark.parametrize(
    ("prompt", "negative"), [("no quotes", ""), ("北京の夜 “你好”", "bad")], ids=["plain", "other scripts"]
)
def test_any_prompt_gives_the_references_latents(t2v: Tiny, prompt: str, negative: str) -> None:
    assert_as_reference(t2v, t2v.request(prompt=prompt, negative_prompt=negative, num_inference_steps=2))


def test_no_padding_is_kept_of_a_prompt_and_no_letters_where_nothing_is_quoted(t2v: Tiny) -> None:
    request = t2v.request(prompt="a cat", guidance_scale=1.0)
    positive = t2v.family.encode(request, t2v.case.media).positive
    after = 1 + len("\n") + 1 + len("assistant\n")  # <|im_end|>\n<|im_start|>assistant\n
    assert positive.embeds.shape[1] == len("a cat") + after
    assert positive.glyphs.shape[1] == 0


def test_the_prompt_is_found_whichever_side_the_tokenizer_pads_by_itself(
    t2v: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    qwen = t2v.family._parts.text._qwen
    right = qwen("a dog", 20)
    monkeypatch.setattr(qwen._tokenizer, "padding_side", "left")
    assert torch.equal(qwen("a dog", 20), right)


def test_guidance_1_skips_the_second_pass(t2v: Tiny) -> None:
    assert count_passes(t2v, t2v.request()) == 6
    assert count_passes(t2v, t2v.request(guidance_scale=1.0)) == 3


def test_a_guider_with_a_beginning_an_end_and_rescaling_gives_the_references_latents() -> None:
    settings = {"guidance_rescale": 0.3, "start": 0.3, "stop": 0.9}
    model = made(Case("guider", lambda: hunyuan15_t2v(**settings), ask_hunyuan15))
    request = model.request(num_inference_steps=4)
    assert count_passes(model, request) == 4 + 2  # guided in steps 1 and 2 alone
    assert_as_reference(model, request)


@pytest.mark.parametrize("original", [True, False])
@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_the_guider_combines_passes_as_diffusers_does(original: bool, rescale: float) -> None:
    settings = {"guidance_rescale": rescale, "use_original_formulation": original}
    theirs = ClassifierFreeGuidance(guidance_scale=4.0, **settings)
    cond, uncond = torch.randn(2, 1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    ours = Guider(**settings).combine(cond, uncond, 4.0)
    assert torch.equal(ours, theirs.forward(cond, uncond).pred)


@pytest.mark.parametrize("num_steps", [1, 3, 10])
def test_the_guider_guides_in_the_steps_in_which_diffusers_does(num_steps: int) -> None:
    for settings in ({}, {"start": 0.2, "stop": 0.8}, {"enabled": False}, {"use_original_formulation": True}):
        for scale in (0.0, 1.0, 3.0):
            theirs, ours = ClassifierFreeGuidance(guidance_scale=scale, **settings), Guider(**settings)
            for step in range(num_steps):
                theirs.set_state(step=step, num_inference_steps=num_steps, timestep=None)
                assert ours.guides_step(scale, step, num_steps) == (theirs.num_conditions == 2)


def test_a_step_distilled_model_is_told_where_each_step_leads() -> None:
    media = CASES["hunyuan15_i2v"].media
    model = made(Case("distilled", lambda: hunyuan15_i2v(use_meanflow=True), ask_hunyuan15, media=media))
    assert model.family.card.defaults.num_inference_steps == 12
    assert_as_reference(model, model.request(num_inference_steps=2, guidance_scale=1.0))


def test_a_clip_streams_by_latent_frames_and_equals_a_decoding_at_once(t2v: Tiny) -> None:
    request = t2v.request(num_frames=13, num_inference_steps=1)
    latents, chunks = generate(t2v, request)
    assert [len(c) for c in chunks] == [1, 4, 4, 4]
    vae = t2v.pipeline.vae
    with torch.inference_mode():
        whole = vae.decode(latents / vae.config.scaling_factor).sample
        streamed = torch.cat(list(t2v.family._parts.vae.decode(latents)), dim=2)
    torch.testing.assert_close(streamed, whole, rtol=0, atol=1e-5)


def test_the_native_size_is_the_references_for_its_target_size(t2v: Tiny) -> None:
    d = t2v.family.card.defaults
    assert (d.height, d.width) == t2v.pipeline.video_processor.calculate_default_height_width(9, 16, 32)
    assert (d.num_frames, d.fps, d.guidance_scale, d.flow_shift) == (121, 24.0, 6.0, 5.0)


@pytest.mark.parametrize(
    ("file", "key", "value", "message"),
    [
        ("model_index.json", "guider", ["diffusers", "SkipLayerGuidance"], "ClassifierFreeGuidance"),
        ("guider/guider_config.json", "eta", 1.0, "unknown setting 'eta'"),
    ],
)
def test_a_guider_that_is_not_known_is_refused(
    t2v: Tiny, tmp_path: Path, file: str, key: str, value: Any, message: str
) -> None:
    folder = shutil.copytree(t2v.folder, tmp_path / "other")
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | {key: value}))
    with pytest.raises(CheckpointError, match=message):
        load_family(ModelSource(folder), device="cpu")


def test_no_negative_prompt_is_never_too_long() -> None:
    model = tiny("hunyuan15_t2v")
    assert model.family.unread(model.request(prompt="x", negative_prompt="", max_sequence_length=1)) == ()


def test_text_between_quotes_that_is_too_long_is_warned_of() -> None:
    model = tiny("hunyuan15_t2v")
    room = 255 - len('Text "". ')  # bytes, and the end of a text

    def told(num_letters: int) -> tuple[str, ...]:
        return model.family.unread(model.request(prompt=f'a sign says "{"x" * num_letters}"'))

    assert told(room) == ()
    (warning,) = told(room + 1)
    assert warning.startswith("The quoted text of the prompt has 256 tokens; the model reads the first 255,")
