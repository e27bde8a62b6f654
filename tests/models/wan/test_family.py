"""What is Wan's alone; what every family promises is in the contract suite."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline, WanTransformer3DModel

from tiny_models import CASES, Tiny, aligned, ask_wan, picture, tiny
from vitascope.card import Wish, resolve
from vitascope.config import BUNDLED_MODEL
from vitascope.config.model_source import ModelSource
from vitascope.engine.engine import Engine
from vitascope.engine.events import Completed
from vitascope.engine.load import load_family
from vitascope.errors import InvalidRequest
from vitascope.models.family import Family, Media
from vitascope.models.wan.family import WanFamily
from vitascope.request import GenerationRequest


def latents(family: Family, request: GenerationRequest, media: Media) -> torch.Tensor:
    engine = Engine(family)
    engine.start("job", request, media)
    while engine.busy:
        for event in engine.tick():
            if isinstance(event, Completed):
                return event.latents
    raise AssertionError("no latents")


@contextmanager
def forwards(model: Tiny) -> Iterator[list[str]]:
    """Note each pass through a transformer, by the expert's name."""
    seen: list[str] = []
    parts = model.family._parts
    experts = {"high": parts.expert, "low": parts.low_noise_expert, "pictures": parts.picture_expert}
    hooks = [
        expert.network.register_forward_pre_hook(lambda *_, name=name: seen.append(name))
        for name, expert in experts.items()
        if expert is not None
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize(("scale", "passes"), [(4.0, 6), (1.0, 3), (0.0, 3)])
def test_guidance_of_one_or_less_takes_one_pass_a_step(scale: float, passes: int) -> None:
    model = tiny("wan21_t2v")
    request = model.request(guidance_scale=scale)
    with forwards(model) as seen:
        ours = latents(model.family, request, model.case.media)
    assert len(seen) == passes
    assert torch.equal(ours, model.reference(request))


def test_the_experts_change_where_the_noise_crosses_the_boundary() -> None:
    model = tiny("wan22_t2v")
    request = model.request(num_inference_steps=6)
    with forwards(model) as seen:
        ours = latents(model.family, request, model.case.media)
    family = model.family
    with torch.inference_mode():
        conditioning = family.encode(request, model.case.media)
    trajectory = family.begin(request, conditioning, torch.Generator().manual_seed(0))
    high = sum(bool(t >= 875) for t in trajectory.solvers["video"].timesteps)
    assert 0 < high < 6
    assert seen == ["high", "high"] * high + ["low", "low"] * (6 - high)
    assert torch.equal(ours, model.reference(request))


@pytest.fixture
def moved() -> Iterator[Callable[[float], Tiny]]:
    """Two experts whose reference has its border moved; moved back in the end."""
    model = tiny("wan22_t2v")
    native = model.pipeline.config.boundary_ratio

    def move(ratio: float) -> Tiny:
        model.pipeline.register_to_config(boundary_ratio=ratio)
        return model

    yield move
    model.pipeline.register_to_config(boundary_ratio=native)


@pytest.mark.parametrize(("ratio", "high"), [(0.0, 6), (0.6, 5), (0.97, 1), (1.0, 0)])
def test_a_request_may_move_the_boundary(moved: Callable[[float], Tiny], ratio: float, high: int) -> None:
    model = moved(ratio)
    request = model.request(num_inference_steps=6, boundary_ratio=ratio)
    with forwards(model) as seen:
        ours = latents(model.family, request, model.case.media)
    assert seen == ["high", "high"] * high + ["low", "low"] * (6 - high)
    assert torch.equal(ours, model.reference(request))


def test_a_stored_request_without_a_boundary_has_the_models_own() -> None:
    model = tiny("wan22_t2v")
    request = model.request()
    assert request.boundary_ratio == 0.875
    earlier = replace(request, boundary_ratio=None)
    assert torch.equal(*(latents(model.family, r, Media()) for r in (request, earlier)))


def test_one_transformer_has_no_boundary() -> None:
    with pytest.raises(InvalidRequest, match="has no boundary_ratio; leave it out"):
        tiny("wan21_t2v").request(boundary_ratio=0.875)


def test_the_second_expert_has_its_own_guidance() -> None:
    model = tiny("wan22_t2v")
    a, b = (latents(model.family, model.request(guidance_scale_2=s), Media()) for s in (3.0, 6.0))
    assert not torch.equal(a, b)


@pytest.mark.parametrize("name", ["wan21_flf2v", "wan22_flf2v"])
def test_the_first_and_the_last_picture_both_count(name: str) -> None:
    model = tiny(name)
    request = model.request()
    first, last = model.case.media.first_frame, model.case.media.last_frame
    base = latents(model.family, request, Media(first, last))
    assert not torch.equal(base, latents(model.family, request, Media(picture(9), last)))
    assert not torch.equal(base, latents(model.family, request, Media(first, picture(9))))


def test_a_given_first_frame_is_in_the_final_latents_of_the_5b_model() -> None:
    model = tiny("wan22_5b_i2v")
    request = model.request()
    with torch.inference_mode():
        condition = model.family.encode(request, model.case.media).condition
    ours = latents(model.family, request, model.case.media)
    assert torch.equal(ours[:, :, :1], condition.latents)


def test_a_text_is_projected_once_for_a_generation() -> None:
    model = tiny("wan21_t2v")
    layer = model.family._parts.expert.network.blocks[0].attn2.to_k
    calls: list[int] = []
    hook = layer.register_forward_hook(lambda *_: calls.append(1))
    latents(model.family, model.request(), Media())
    hook.remove()
    assert len(calls) == 2  # with the prompt and with the negative prompt


def test_a_long_video_keeps_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("wan21_t2v")
    request = model.request()
    kept = latents(model.family, request, Media())
    monkeypatch.setattr("vitascope.models.wan.family._KEEP_TEXT_UP_TO_TOKENS", 0)
    with torch.inference_mode():
        assert model.family.encode(request, Media()).positive.kept is None
    assert torch.equal(latents(model.family, request, Media()), kept)


def test_prompts_are_cleaned_as_the_reference_does() -> None:
    model = tiny("wan21_t2v")
    request = model.request(prompt="  a &amp;amp; cat\n\truns   fast ")
    assert torch.equal(latents(model.family, request, Media()), model.reference(request))


def test_a_prompt_longer_than_the_limit_is_cut_as_the_reference_does() -> None:
    model = tiny("wan21_t2v")
    request = model.request(prompt="word " * 40, max_sequence_length=32)
    assert torch.equal(latents(model.family, request, Media()), model.reference(request))


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("wan21_t2v", ("t2v", "v2v")),
        ("wan21_i2v", ("i2v",)),
        ("wan21_flf2v", ("flf2v",)),
        ("wan22_t2v", ("t2v", "v2v")),
        ("wan22_i2v", ("i2v", "flf2v")),
        ("wan22_5b_t2v", ("t2v", "i2v", "v2v")),
    ],
)
def test_tasks_are_told_from_the_networks(name: str, tasks: tuple[str, ...]) -> None:
    assert tiny(name).family.card.tasks == tasks


@pytest.mark.parametrize(
    ("name", "native"),
    [
        ("wan21_t2v", (480, 832, 81, 16.0, 50, 5.0, None)),
        ("wan22_t2v", (480, 832, 81, 16.0, 40, 4.0, 3.0)),
        ("wan22_i2v", (480, 832, 81, 16.0, 40, 3.5, 3.5)),
        ("wan22_5b_t2v", (704, 1280, 121, 24.0, 50, 5.0, None)),
    ],
)
def test_native_values_follow_the_variant(name: str, native: tuple[Any, ...]) -> None:
    d = tiny(name).family.card.defaults
    found = (d.height, d.width, d.num_frames, d.fps, d.num_inference_steps)
    assert (*found, d.guidance_scale, d.guidance_scale_2) == native


def test_the_text_length_is_fixed_where_image_tokens_go_before_it() -> None:
    assert tiny("wan21_i2v").family.card.rules.max_sequence_length is None
    assert tiny("wan22_i2v").family.card.rules.max_sequence_length == 512


# ---- the bundled folder, which diffusers' pipelines read too


@pytest.fixture(scope="module")
def bundled() -> WanFamily:
    family = load_family(ModelSource(BUNDLED_MODEL), device="cpu")
    assert isinstance(family, WanFamily)
    return family


@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_the_bundled_model_gives_the_pipelines_latents(bundled: WanFamily, pictures: int) -> None:
    media = [Media(), Media(picture(1, 64)), Media(picture(1, 64), picture(2, 64))][pictures]
    keys = {"first_frame": "a"} if pictures else {}
    keys |= {"last_frame": "b"} if pictures == 2 else {}
    wish = Wish(prompt="a red circle moving right", num_inference_steps=3, seed=3, num_frames=9, **keys)
    request = resolve(wish, bundled.card)
    if pictures:
        sibling = WanTransformer3DModel.from_pretrained(BUNDLED_MODEL, subfolder="transformer_i2v")
        none = {"image_encoder": None, "image_processor": None}
        pipeline = WanImageToVideoPipeline.from_pretrained(BUNDLED_MODEL, transformer=sibling, **none)
    else:
        pipeline = WanPipeline.from_pretrained(BUNDLED_MODEL)
    pipeline.set_progress_bar_config(disable=True)
    reference = ask_wan(aligned(pipeline.to(dtype=torch.float32)), request, media, "latent")
    assert torch.equal(latents(bundled, request, media), reference)


def test_the_bundled_model_does_every_task(bundled: WanFamily) -> None:
    assert bundled.card.tasks == ("t2v", "i2v", "flf2v", "v2v")
    assert bundled.card.prompt_guide is not None


def test_every_wan_variant_is_in_the_contract_suite() -> None:
    assert len([name for name in CASES if name.startswith("wan")]) == 9


def test_the_length_that_a_request_asks_for_is_the_one_that_is_warned_of() -> None:
    family, cat = tiny("wan21_t2v").family, "the cat &amp; the dog run and run"  # cleaned: one sign for five

    def told(**wishes: Any) -> list[str]:
        warnings = family.unread(tiny("wan21_t2v").request(prompt=cat, negative_prompt=cat, **wishes))
        return [re.sub(r"\D+", " ", warning).strip() for warning in warnings]

    assert told(max_sequence_length=20) == ["30 19"] * 2  # the end of a text takes one
    assert told(max_sequence_length=20, guidance_scale=1.0) == ["30 19"]
    assert told(max_sequence_length=31) == []
    assert told() == []
