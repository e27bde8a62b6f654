"""What is LTX-2's alone; what every family promises is in the contract suite."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LTX2ConditionPipeline, LTX2ImageToVideoPipeline, LTX2Pipeline

from tiny_ltx2 import LTX2_CASES, NO_PERTURBATION, ask_ltx2, ltx2, ltx23
from tiny_models import Case, Tiny, aligned, picture, tiny
from vitascope.config.model_source import ModelSource
from vitascope.engine.engine import Engine
from vitascope.engine.events import Completed, Failed
from vitascope.engine.load import load_family
from vitascope.errors import CheckpointError, InvalidRequest
from vitascope.models.family import Chunk, Media
from vitascope.models.ltx2.guidance import Estimates, Guidance, Scales, guide
from vitascope.models.ltx2.latents import Grid, pack, pack_audio, unpack, unpack_audio
from vitascope.models.ltx2.schedule import make_euler
from vitascope.request import GenerationRequest


@dataclass
class Clip:
    """What a generation gave."""

    chunks: list[Chunk]
    latents: dict[str, torch.Tensor]


def generate(model: Tiny, request: GenerationRequest, media: Media | None = None) -> Clip:
    engine, chunks = Engine(model.family), []
    engine.start("job", request, media or model.case.media, sink=chunks.append)
    while engine.busy:
        for event in engine.tick():
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Completed):
                return Clip(chunks, event.latents)
    raise AssertionError("the engine stopped before the generation was done")


def equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(ours[stream], theirs[stream]) for stream in ("video", "audio"))


@contextmanager
def passes(model: Tiny) -> Iterator[list[int]]:
    """Note the batch size of each pass through the transformer."""
    seen: list[int] = []
    hook = model.family._parts.transformer.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    try:
        yield seen
    finally:
        hook.remove()


def variant(folder: Path, build: Callable[[], LTX2Pipeline]) -> Tiny:
    """Save and load a pipeline that is no case of the contract suite."""
    build().save_pretrained(folder)
    reference = aligned(LTX2Pipeline.from_pretrained(folder))
    reference.set_progress_bar_config(disable=True)
    case = Case(folder.name, build, ask_ltx2, wish=LTX2_CASES["ltx2_t2v"].wish)
    return Tiny(case, folder, load_family(ModelSource(folder), device="cpu"), reference)


def changed(folder: Path, part: str, **values: Any) -> Path:
    """Change a part's configuration in a saved folder."""
    path = folder / part
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


# ---- sound


@pytest.mark.parametrize("name", ["ltx2_t2v", "ltx23_t2v"])
def test_the_sound_is_the_references_and_comes_with_the_last_chunk(name: str) -> None:
    model = tiny(name)
    request = model.request(num_frames=25)
    *before, last = generate(model, request).chunks
    assert before
    assert all(chunk.audio is None for chunk in before)
    assert last.audio is not None
    assert last.audio.dtype == np.float32
    assert np.abs(last.audio).max() <= 1
    (theirs,) = model.reference(request, "sound")
    assert np.array_equal(last.audio, theirs.numpy())
    assert last.sample_rate == model.pipeline.vocoder.config.output_sampling_rate


def test_the_sound_is_as_long_as_the_clip_whatever_its_frame_rate() -> None:
    model = tiny("ltx2_t2v")
    for fps in (12.0, 29.97):
        request = model.request(fps=fps, num_frames=25)
        clip = generate(model, request)
        assert equal(clip.latents, model.reference(request))
        sound = clip.chunks[-1]
        assert sound.audio is not None
        assert sound.audio.shape[1] / sound.sample_rate == pytest.approx(request.duration_s, abs=0.06)


# ---- guidance


@pytest.mark.parametrize(
    ("name", "scale", "a_step"),
    [
        ("ltx2_t2v", 3.0, [2, 1]),
        ("ltx23_t2v", 3.0, [2, 1, 1]),
        ("ltx2_t2v", 1.0, [1]),
        ("ltx23_t2v", 1.0, [1]),
    ],
)
def test_a_step_takes_the_passes_that_guidance_asks_for(name: str, scale: float, a_step: list[int]) -> None:
    model = tiny(name)
    request = model.request(guidance_scale=scale)
    with passes(model) as seen:
        clip = generate(model, request)
    assert seen == a_step * request.num_inference_steps
    assert equal(clip.latents, model.reference(request))


def test_a_distilled_checkpoint_is_guided_only_when_asked() -> None:
    model = tiny("ltx23_distilled_t2v")
    with passes(model) as seen:
        plain = generate(model, model.request())
        assert set(seen) == {1}
        seen.clear()
        guided = generate(model, model.request(guidance_scale=2.0))
        assert set(seen) == {2}
    assert not equal(plain.latents, guided.latents)


def test_the_perturbed_pass_that_is_left_out_would_change_nothing() -> None:
    model = tiny("ltx2_t2v")
    request = model.request()
    with_it = dict.fromkeys(NO_PERTURBATION, 1.0)
    theirs = ask_ltx2(model.pipeline, request, Media(), "latent", **with_it)
    ours = generate(model, request).latents
    for stream in ours:
        # A pass alone instead of in a batch of two sums in another order.
        torch.testing.assert_close(ours[stream], theirs[stream], rtol=1e-4, atol=1e-4)


def test_neutral_scales_leave_the_conditional_estimate_as_it_is() -> None:
    cond, uncond, weak = torch.randn(3, 1, 6, 4, generator=torch.Generator().manual_seed(0)).unbind()
    neutral = Scales(text=1.0, perturbed=0.0, modality=1.0, rescale=0.0)
    assert torch.equal(guide(Estimates(cond, uncond, weak, weak), neutral), cond)


def test_rescaled_guidance_has_the_spread_of_the_conditional_estimate() -> None:
    cond, uncond = torch.randn(2, 1, 60, 4, generator=torch.Generator().manual_seed(0)).unbind()
    guided = guide(Estimates(cond, uncond), Scales(text=7.0, rescale=1.0))
    assert float(guided.std()) == pytest.approx(float(cond.std()), rel=1e-4)


def test_a_request_changes_the_videos_scale_and_the_sound_keeps_its_own() -> None:
    guidance = Guidance(Scales(text=3.0), Scales(text=7.0)).with_text(5.0)
    assert {stream: s.text for stream, s in guidance.streams.items()} == {"video": 5.0, "audio": 7.0}
    alone = Guidance(Scales(text=1.0)).with_text(5.0)
    assert {stream: s.text for stream, s in alone.streams.items()} == {"video": 5.0, "audio": 5.0}


# ---- text


@pytest.mark.parametrize("prompt", ["a cat runs " * 200, "一只猫在跑 кот бежит", "  padded  "])
def test_long_and_non_latin_prompts_are_the_references(prompt: str) -> None:
    model = tiny("ltx23_t2v")
    request = model.request(prompt=prompt)
    assert equal(generate(model, request).latents, model.reference(request))


def test_a_prompt_is_encoded_once() -> None:
    model = tiny("ltx2_t2v")
    seen = []
    hook = model.family._parts.text._encoder.model.register_forward_pre_hook(lambda *_: seen.append(1))
    try:
        for seed in (1, 2):
            generate(model, model.request(prompt="never said before", negative_prompt="nor this", seed=seed))
    finally:
        hook.remove()
    assert len(seen) == 2


def test_without_registers_padding_is_masked_alone_and_in_a_batch(tmp_path: Path) -> None:
    def build() -> LTX2Pipeline:
        pipeline = ltx23()
        config = dict(pipeline.connectors.config)
        config |= {f"{s}_connector_num_learnable_registers": None for s in ("video", "audio")}
        torch.manual_seed(2)
        pipeline.connectors = type(pipeline.connectors).from_config(config).eval()
        return pipeline

    model = variant(tmp_path / "bare", build)
    requests = {
        "a": model.request(),
        "b": model.request(prompt="a much longer prompt than the other", seed=9),
    }
    full = model.request(prompt="no room for padding " * 100)
    for request in (*requests.values(), full):
        assert equal(generate(model, request).latents, model.reference(request))
    engine, together = Engine(model.family, max_batch=2), {}
    for job_id, request in requests.items():
        engine.start(job_id, request, Media())
    while engine.busy:
        together |= {e.job_id: e.latents for e in engine.tick() if isinstance(e, Completed)}
    for job_id, request in requests.items():
        torch.testing.assert_close(together[job_id], generate(model, request).latents, rtol=1e-4, atol=1e-4)


# ---- pictures


def test_the_first_frame_stays_in_the_latents_and_the_last_one_counts() -> None:
    model = tiny("ltx23_flf2v")
    request, media = model.request(), model.case.media
    both = generate(model, request).latents["video"]
    other_last = generate(model, request, Media(media.first_frame, picture(9, 40))).latents["video"]
    other_first = generate(model, request, Media(picture(9, 40), media.last_frame)).latents["video"]
    assert torch.equal(both[:, :, 0], other_last[:, :, 0])
    assert not torch.equal(both[:, :, 1:], other_last[:, :, 1:])
    assert not torch.equal(both[:, :, 0], other_first[:, :, 0])


@pytest.mark.parametrize("name", ["ltx2_i2v", "ltx23_flf2v"])
def test_pictures_of_any_shape_are_fitted_like_the_references(name: str) -> None:
    model = tiny(name)
    wide, tall = np.ascontiguousarray(picture(3, 90)[:33]), np.ascontiguousarray(picture(4, 90)[:, :41])
    media = Media(wide, tall if model.case.media.last_frame is not None else None)
    request = model.request(width=96)
    assert equal(generate(model, request, media).latents, ask_ltx2(model.pipeline, request, media, "latent"))


def test_the_first_version_takes_two_pictures_too() -> None:
    model = tiny("ltx2_t2v")
    media = tiny("ltx23_flf2v").case.media
    request = model.request(first_frame="a" * 64, last_frame="b" * 64)
    assert equal(generate(model, request, media).latents, ask_ltx2(model.pipeline, request, media, "latent"))


def test_two_pictures_do_not_fit_into_one_frame() -> None:
    model = tiny("ltx23_flf2v")
    with pytest.raises(InvalidRequest, match="num_frames is 1; two given frames need a clip of at least 9"):
        generate(model, model.request(num_frames=1))


# ---- kinds of checkpoints


def test_native_values_are_told_from_the_configurations() -> None:
    first, second, distilled = (tiny(n).family.card for n in ("ltx2_t2v", "ltx23_t2v", "ltx23_distilled_t2v"))
    assert first.tasks == second.tasks == distilled.tasks == ("t2v", "i2v", "flf2v")
    steps = [c.defaults.num_inference_steps for c in (first, second, distilled)]
    assert steps == [40, 30, 8]
    assert [c.defaults.guidance_scale for c in (first, second, distilled)] == [3.0, 3.0, 1.0]
    assert "robotic voice" in first.defaults.negative_prompt
    assert (second.rules.size_multiple, second.rules.frame_stride, second.rules.max_frames) == (32, 8, 481)


def test_a_distilled_checkpoint_takes_its_own_number_of_steps_only() -> None:
    with pytest.raises(InvalidRequest, match="num_inference_steps is 20; it must be 8"):
        tiny("ltx23_distilled_t2v").request(num_inference_steps=20)


@pytest.mark.parametrize("kind", [LTX2ImageToVideoPipeline, LTX2ConditionPipeline])
def test_a_folder_of_any_of_its_pipelines_does_every_task(tmp_path: Path, kind: Any) -> None:
    kind(**ltx2().components).save_pretrained(tmp_path / "folder")
    assert load_family(ModelSource(tmp_path / "folder"), device="cpu").card.tasks == ("t2v", "i2v", "flf2v")


def test_a_decoder_that_takes_a_noise_level_is_told_there_is_none(tmp_path: Path) -> None:
    def build() -> LTX2Pipeline:
        pipeline = ltx2()
        torch.manual_seed(4)
        config = dict(pipeline.vae.config) | {"timestep_conditioning": True}
        pipeline.vae = type(pipeline.vae).from_config(config).eval()
        return pipeline

    model = variant(tmp_path / "conditioned", build)
    request = model.request()
    (chunk,) = generate(model, request).chunks
    theirs = (model.reference(request, "np")[0] * 255).round().astype(np.uint8)
    assert np.array_equal(chunk.frames, theirs)


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        (
            "model_index.json",
            {"text_encoder": ["transformers", "Gemma4UnifiedForConditionalGeneration"]},
            "known here for it are Gemma3ForConditionalGeneration",
        ),
        ("scheduler/scheduler_config.json", {"stochastic_sampling": True}, "that draws no noise"),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "EulerDiscreteScheduler"},
            "scheduler_config.json",
        ),
        (
            "audio_vae/config.json",
            {"mel_bins": 16},
            "reads 4 features a token; audio_vae/config.json makes 8",
        ),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(
    tmp_path: Path, part: str, values: dict[str, Any], message: str
) -> None:
    ltx2().save_pretrained(tmp_path / "folder")
    with pytest.raises(CheckpointError, match=message):
        load_family(ModelSource(changed(tmp_path / "folder", part, **values)), device="cpu")


# ---- layout and schedule


def test_tokens_go_back_to_their_places() -> None:
    grid = Grid(frames=3, height=2, width=4, audio_frames=5)
    video, audio = torch.randn(1, 6, 3, 2, 4), torch.randn(1, 2, 5, 8)
    assert pack(video).shape == (1, grid.num_tokens, 6)
    assert torch.equal(unpack(pack(video), grid), video)
    assert torch.equal(unpack_audio(pack_audio(audio), 2), audio)


def test_longer_clips_are_noised_for_longer() -> None:
    config = tiny("ltx23_t2v").family._parts.scheduler
    short, long = (make_euler(config, 8, n, torch.device("cpu")).sigmas for n in (1024, 4096))
    assert (long[1:-2] > short[1:-2]).all()
    assert short[-2] == pytest.approx(0.1)  # where the schedule is stretched to end, before 0
    assert short[-1] == 0
