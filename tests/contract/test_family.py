"""What every family promises, on tiny random weights: the results of its reference, a loop that can stop."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import astuple, dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)

import tiny_families  # noqa: F401  (adds every family's cases)
from tiny_models import CASES, Tiny, tiny
from vitascope.engine.engine import Engine
from vitascope.engine.events import Advanced, Cancelled, Completed, Failed
from vitascope.engine.generation import Snapshot
from vitascope.errors import GenerationFailed, InvalidRequest
from vitascope.models.registry import describe
from vitascope.request import GenerationRequest
from vitascope.weights.checkpoint import Checkpoint


@pytest.fixture(params=sorted(CASES))
def model(request: pytest.FixtureRequest) -> Tiny:
    return tiny(request.param)


@dataclass
class Run:
    """What became of one generation."""

    frames: np.ndarray
    latents: Any
    snapshots: list[Snapshot | None] = field(default_factory=list)


def run(model: Tiny, request: GenerationRequest, resume: bytes | None = None) -> Run:
    """Generate alone, with a snapshot after every tick of denoising."""
    engine, chunks, snapshots = Engine(model.family), [], []
    engine.start("job", request, model.case.media, resume=resume, sink=chunks.append)
    while engine.busy:
        for event in engine.tick():
            assert not isinstance(event, Failed), event
            if isinstance(event, Completed):
                return Run(np.concatenate([c.frames for c in chunks]), event.latents, snapshots)
        snapshots.append(engine.snapshot("job"))
    raise AssertionError("the engine stopped before the generation was done")


def equal(ours: Any, theirs: Any) -> bool:
    """Whether two results agree to the bit: one stream's, or several by name."""
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    return torch.equal(ours, theirs)


def as_reference(model: Tiny, ours: Any, theirs: Any) -> bool:
    """Whether a result is the reference's, up to the tolerance that its case gives a reason for."""
    if not model.case.tolerance:
        return equal(ours, theirs)
    return float((ours - theirs).abs().max()) <= model.case.tolerance * float(theirs.abs().max())


def test_a_seed_gives_the_references_latents(model: Tiny) -> None:
    request = model.request()
    assert as_reference(model, run(model, request).latents, model.reference(request))


def test_other_sizes_give_the_references_latents_too(model: Tiny) -> None:
    request = model.request(**model.case.other, seed=2**40)
    assert as_reference(model, run(model, request).latents, model.reference(request))


ONE_OF_EACH = ["wan21_t2v", "hunyuan_t2v", "hunyuan15_t2v", "cogvideox_2b", "ltx2_t2v"]
ANY_SCRIPT = 'A cat — 猫が走る, قطة تجري, кошка бежит 🐈; "東京" 1/2:\n' + "and then it runs on, " * 40


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_long_prompt_in_any_script_gives_the_references_latents(name: str) -> None:
    model = tiny(name)
    request = model.request(prompt=ANY_SCRIPT, negative_prompt=ANY_SCRIPT[::-1].strip())
    assert as_reference(model, run(model, request).latents, model.reference(request))


def embeds(model: Tiny, prompt: str) -> torch.Tensor:
    """Encode a prompt: what the transformer is given of it."""
    with torch.inference_mode():
        conditioning = model.family.encode(model.request(prompt=prompt), model.case.media)
    text: Any = conditioning.positive
    return text if isinstance(text, torch.Tensor) else astuple(text)[0]


@pytest.mark.parametrize("name", [*ONE_OF_EACH, "hunyuan_i2v_concat"])
def test_a_prompt_is_warned_of_from_the_first_token_on_that_is_not_read(name: str) -> None:
    model, long = tiny(name), "x" * 2000
    (warning,) = model.family.unread(model.request(prompt=long))
    num_tokens, limit = map(int, re.findall(r"\d+", warning))
    whole = "x" * (limit - num_tokens + len(long))  # a character is a token
    assert model.family.unread(model.request(prompt=whole)) == ()
    assert not torch.equal(embeds(model, whole), embeds(model, whole[:-1] + "y"))
    assert model.family.unread(model.request(prompt=whole + "x")) == (
        f"The prompt has {limit + 1} tokens; the model reads the first {limit}, and the rest has no effect.",
    )
    assert torch.equal(embeds(model, whole + "x"), embeds(model, whole + "y"))


FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
SOLVERS: dict[str, Callable[[float], SchedulerMixin]] = {
    "unipc": lambda shift: UniPCMultistepScheduler(flow_shift=shift, **FLOW),
    "dpm++": lambda shift: DPMSolverMultistepScheduler(flow_shift=shift, **FLOW),
    "euler": lambda shift: FlowMatchEulerDiscreteScheduler(shift=shift),
}


@pytest.mark.parametrize(
    ("name", "solver", "shift"),
    [
        *((name, solver, 8.0) for name in ("wan21_t2v", "wan22_t2v", "wan22_5b_i2v") for solver in SOLVERS),
        *(("wan21_t2v", solver, 1.0) for solver in SOLVERS),
        ("hunyuan_t2v", "euler", 8.0),  # its pipelines hand their solver sigmas that only Euler's takes as is
        ("hunyuan15_t2v", "euler", 8.0),
    ],
)
def test_every_solver_and_shift_gives_the_references_latents(
    name: str, solver: str, shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(name)
    request = model.request(sample_solver=solver, flow_shift=shift, num_inference_steps=5)
    monkeypatch.setattr(model.pipeline, "scheduler", SOLVERS[solver](shift))
    assert as_reference(model, run(model, request).latents, model.reference(request))


def test_frames_are_the_references(model: Tiny) -> None:
    request = model.request()
    ours = run(model, request).frames
    theirs = (model.reference(request, "np")[0] * 255).round().astype(np.uint8)
    assert ours.shape == (request.num_frames, request.height, request.width, 3)
    # The decoder's convolutions run in oneDNN on the CPU: sums in another order move a pixel by one level at
    # most.
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_a_request_gives_the_same_bytes_every_time_and_another_seed_does_not(model: Tiny) -> None:
    first, again = run(model, model.request()), run(model, model.request())
    other = run(model, model.request(seed=8))
    assert first.frames.tobytes() == again.frames.tobytes()
    assert not equal(first.latents, other.latents)


def test_a_generation_resumed_at_any_step_ends_the_same_to_the_bit(model: Tiny) -> None:
    for solver in model.family.card.rules.solvers or (None,):
        request = model.request(sample_solver=solver)
        whole = run(model, request)
        states = {s.step: s.state for s in whole.snapshots if s is not None}
        assert sorted(states) == list(range(1, request.num_steps + 1))
        for step, state in states.items():
            resumed = run(model, request, resume=state)
            assert equal(resumed.latents, whole.latents), (solver, step)
            assert resumed.frames.tobytes() == whole.frames.tobytes()


def test_each_of_several_outputs_is_the_clip_of_its_seed_alone_to_the_bit(model: Tiny) -> None:
    request = replace(model.request(), num_outputs=2)
    engine, clips, made = Engine(model.family), [[]], []
    engine.start("job", request, model.case.media, sink=lambda chunk: clips[-1].append(chunk.frames))
    while engine.busy:
        for event in engine.tick():
            if isinstance(event, Completed):
                made.append(event)
                clips.append([])
    assert [(event.output, event.last) for event in made] == [(0, False), (1, True)]
    for output, event in enumerate(made):
        alone = run(model, model.request(seed=request.seed + output))
        assert equal(event.latents, alone.latents)
        assert np.concatenate(clips[output]).tobytes() == alone.frames.tobytes()


def test_a_saved_state_is_refused_for_another_request(model: Tiny) -> None:
    snapshot = run(model, model.request()).snapshots[-1]
    assert snapshot is not None
    engine = Engine(model.family)
    engine.start("job", model.request(seed=8), model.case.media, resume=snapshot.state)
    (failed,) = engine.tick()
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, GenerationFailed)
    assert not engine.busy


def test_a_cancel_is_obeyed_at_the_next_step(model: Tiny) -> None:
    engine = Engine(model.family)
    engine.start("job", model.request(), model.case.media)
    engine.tick()
    (advanced,) = engine.tick()
    assert isinstance(advanced, Advanced)
    assert advanced.step == 1
    assert engine.cancel("job")
    assert engine.tick() == [Cancelled("job")]
    assert not engine.busy


def test_generations_in_turns_equal_each_alone_to_the_bit(model: Tiny) -> None:
    requests = {"a": model.request(), "b": model.request(**model.case.other, seed=9)}
    engine, chunks, latents = Engine(model.family), {"a": [], "b": []}, {}
    engine.start("a", requests["a"], model.case.media, sink=chunks["a"].append)
    engine.tick()
    engine.start("b", requests["b"], model.case.media, sink=chunks["b"].append)
    turns = []
    while engine.busy:
        for event in engine.tick():
            turns.append(event.job_id)
            if isinstance(event, Completed):
                latents[event.job_id] = event.latents
    assert turns[:4] in (["a", "b", "a", "b"], ["b", "a", "b", "a"])
    for job_id, request in requests.items():
        alone = run(model, request)
        assert equal(latents[job_id], alone.latents)
        assert np.concatenate([c.frames for c in chunks[job_id]]).tobytes() == alone.frames.tobytes()


def test_generations_that_share_a_forward_pass_equal_each_alone_closely(model: Tiny) -> None:
    requests = {"a": model.request(), "b": model.request(seed=9, prompt="a dog")}
    engine, latents, shared = Engine(model.family, max_batch=2), {}, 0
    for job_id, request in requests.items():
        engine.start(job_id, request, model.case.media)
    while engine.busy:
        events = engine.tick()
        shared += len(events) == 2
        latents |= {e.job_id: e.latents for e in events if isinstance(e, Completed)}
    assert shared == requests["a"].num_steps
    for job_id, request in requests.items():
        torch.testing.assert_close(latents[job_id], run(model, request).latents, rtol=1e-4, atol=1e-4)


def test_a_preview_can_be_had_at_any_step(model: Tiny) -> None:
    request = model.request()
    engine = Engine(model.family)
    engine.start("job", request, model.case.media)
    engine.tick()
    assert engine.preview("job") is None
    previews = []
    for _ in range(request.num_steps):
        engine.tick()
        preview = engine.preview("job")
        assert preview is not None
        previews.append(preview)
    height, width, channels = previews[0].shape
    assert previews[0].dtype == np.uint8
    assert channels == 3
    assert height * request.width == width * request.height
    assert (previews[0] != previews[-1]).any()


def test_a_preview_changes_nothing(model: Tiny) -> None:
    request = model.request()
    engine = Engine(model.family)
    engine.start("job", request, model.case.media)
    while engine.busy:
        for event in engine.tick():
            if isinstance(event, Completed):
                assert equal(event.latents, run(model, request).latents)
        engine.preview("job")


def test_a_wrong_length_is_refused_with_lengths_that_will_do(model: Tiny) -> None:
    right = model.request().num_frames
    with pytest.raises(InvalidRequest, match=r"use \d+") as refusal:
        model.request(num_frames=right + 1)
    assert refusal.value.param == "num_frames"
    _, _, advice = refusal.value.message.partition(": use ")
    for length in re.findall(r"\d+", advice):
        assert model.request(num_frames=int(length)).num_frames == int(length)


@pytest.mark.parametrize("side", ["height", "width"])
def test_a_wrong_size_is_refused_with_sizes_that_will_do(model: Tiny, side: str) -> None:
    rules, right = model.family.card.rules, model.request().height
    with pytest.raises(InvalidRequest) as refusal:
        model.request(**{side: right + 1})
    assert refusal.value.param in {side, "size"}
    _, _, advice = refusal.value.message.partition("for example ")
    for length in re.findall(r"\d+", advice):
        if not rules.sizes:
            assert model.request(**{side: int(length)})
    if rules.sizes:
        other = rules.sizes[0][0] - rules.size_multiple
        with pytest.raises(InvalidRequest, match=f"makes {rules.sizes[0][1]}x{rules.sizes[0][0]}"):
            model.request(height=other)


def test_the_card_offers_the_task_and_its_native_values_pass_its_own_rules(model: Tiny) -> None:
    request = model.request()
    assert request.task in model.family.card.tasks
    native = dict.fromkeys(("height", "width", "num_frames", "num_inference_steps", "guidance_scale"))
    assert model.request(**native).height == model.family.card.defaults.height
    assert model.family.card.components.keys() >= {"transformer", "vae", "text_encoder"}


def test_a_card_is_told_without_reading_weights(model: Tiny) -> None:
    card = describe(Checkpoint.open(model.folder))
    assert card == replace(model.family.card, identity="")
