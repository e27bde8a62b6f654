"""Clips made anew: how much of the source is left, which steps are taken, by which expert."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, WanPipeline

from tiny_models import ask_wan_clip, clip, tiny
from vitascope.card import Wish, resolve
from vitascope.config import BUNDLED_MODEL
from vitascope.config.model_source import ModelSource
from vitascope.engine.engine import Engine
from vitascope.engine.events import Advanced, Completed
from vitascope.engine.load import load_family
from vitascope.models.family import Family, Media
from vitascope.request import AttentionCache, GenerationRequest

KEY = "c" * 64
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "algorithm_type": "dpmsolver++"}
SCHEDULERS = {
    "unipc": None,
    "euler": FlowMatchEulerDiscreteScheduler(shift=3.0),
    "dpm++": DPMSolverMultistepScheduler(flow_shift=3.0, **FLOW),
}


def run(family: Family, request: GenerationRequest, media: Media) -> tuple[torch.Tensor, list[Advanced]]:
    engine, told = Engine(family), []
    engine.start("job", request, media)
    while engine.busy:
        for event in engine.tick():
            if isinstance(event, Completed):
                return event.latents, told
            told.append(event)
    raise AssertionError("no latents")


@pytest.mark.parametrize("solver", SCHEDULERS)
@pytest.mark.parametrize(("strength", "steps"), [(0.25, 1), (0.5, 2), (1.0, 4)])
def test_every_strength_and_solver_gives_the_references_latents(
    solver: str, strength: float, steps: int
) -> None:
    model = tiny("wan21_v2v")
    request = model.request(strength=strength, sample_solver=solver)
    ours, told = run(model.family, request, model.case.media)
    scheduler = SCHEDULERS[solver] or model.pipeline.scheduler
    pipeline = WanPipeline(**{**model.pipeline.components, "scheduler": scheduler})
    assert torch.equal(ours, ask_wan_clip(pipeline, request, model.case.media, "latent"))
    assert request.num_steps == steps
    assert {event.num_steps for event in told} == {steps}
    assert max(event.step for event in told) == steps


@pytest.mark.parametrize("name", ["wan21_t2v", "wan22_t2v", "wan22_5b_t2v"])
def test_the_less_strength_the_nearer_is_the_clip_to_its_source(name: str) -> None:
    model, media = tiny(name), Media(video=clip(3))
    wish: dict[str, Any] = {"video": KEY, "num_inference_steps": 10}
    with torch.inference_mode():
        source = model.family.encode(model.request(**wish), media).source
    far = [
        float((run(model.family, model.request(strength=s, **wish), media)[0] - source).abs().mean())
        for s in (0.1, 0.5, 1.0)
    ]
    assert far == sorted(far)
    assert far[0] < far[-1] / 2


def test_the_whole_strength_leaves_nothing_of_the_source_but_rounding() -> None:
    model = tiny("wan21_v2v")
    apart = []
    for strength in (0.5, 1.0):
        request = model.request(strength=strength)
        one, other = (run(model.family, request, Media(video=clip(seed)))[0] for seed in (3, 30))
        apart.append(float((one - other).abs().max()))
    assert 0 < apart[1] < apart[0] / 20


def test_a_clip_made_anew_shares_passes_with_one_from_text() -> None:
    model = tiny("wan21_v2v")
    anew = model.request()
    plain = replace(anew, video=None, strength=None, num_inference_steps=3)
    alone = {"a": run(model.family, anew, model.case.media)[0], "b": run(model.family, plain, Media())[0]}
    engine, found, shared = Engine(model.family, max_batch=2), {}, 0
    engine.start("a", anew, model.case.media)
    engine.start("b", plain, Media())
    while engine.busy:
        events = engine.tick()
        shared += len(events) == 2
        found |= {e.job_id: e.latents for e in events if isinstance(e, Completed)}
    assert shared == 3
    for job_id, latents in alone.items():
        torch.testing.assert_close(found[job_id], latents, rtol=1e-4, atol=1e-4)


def test_an_attention_cache_counts_the_steps_that_are_taken() -> None:
    model = tiny("wan21_v2v")
    cache = AttentionCache(start_step=0, interval=9, end_step=9)
    request = model.request(num_inference_steps=8, strength=0.5)
    exact, told = run(model.family, request, model.case.media)
    cached, _ = run(model.family, replace(request, attention_cache=cache), model.case.media)
    assert max(event.step for event in told) == 4
    assert not torch.equal(cached, exact)


def test_the_bundled_model_gives_the_pipelines_latents() -> None:
    family = load_family(ModelSource(BUNDLED_MODEL), device="cpu")
    wish = Wish(prompt="a red circle moving right", num_inference_steps=4, num_frames=9, video=KEY, seed=3)
    request, media = resolve(wish, family.card), Media(video=clip(3, size=64))
    pipeline = WanPipeline.from_pretrained(BUNDLED_MODEL).to(dtype=torch.float32)
    assert torch.equal(run(family, request, media)[0], ask_wan_clip(pipeline, request, media, "latent"))
