"""Self-attention taken from earlier steps: what is skipped, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from safetensors.torch import load

from tiny_models import Tiny, tiny
from vitascope.engine.engine import Engine
from vitascope.engine.events import Completed
from vitascope.engine.generation import Snapshot
from vitascope.request import AttentionCache, GenerationRequest

CACHE = AttentionCache(start_step=1, interval=3, end_step=5)  # computes 0, 1, 4, 6; takes 2, 3, 5
STEPS = 7


def asked(model: Tiny, cache: AttentionCache | None = CACHE, **wishes: Any) -> GenerationRequest:
    return model.request(num_inference_steps=STEPS, attention_cache=cache, **wishes)


def latents(
    model: Tiny, request: GenerationRequest, resume: bytes | None = None
) -> tuple[torch.Tensor, list[Snapshot | None]]:
    """Generate alone; with a snapshot at each step boundary."""
    engine, snapshots = Engine(model.family), []
    engine.start("job", request, model.case.media, resume=resume)
    while engine.busy:
        for event in engine.tick():
            if isinstance(event, Completed):
                return event.latents, snapshots
        if len(snapshots) < STEPS + 1:
            snapshots.append(engine.snapshot("job"))
    raise AssertionError("no latents")


@contextmanager
def computed(model: Tiny, part: str = "expert") -> Iterator[list[list[int]]]:
    """Count the self-attentions that each block computes."""
    blocks = getattr(model.family._parts, part).network.blocks
    counts: list[list[int]] = [[] for _ in blocks]
    hooks = [
        block.attn1.to_q.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        for block, seen in zip(blocks, counts, strict=True)
    ]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def replayed(model: Tiny, cache: AttentionCache) -> Iterator[None]:
    """Compute every self-attention, then put the one that the rule names in its place: the slow way."""
    state: dict[Any, Any] = {"passes": 0}
    network = model.family._parts.expert.network

    def count(*_: Any) -> None:
        state["passes"] += 1

    def replace(module: Any, _: Any, output: torch.Tensor) -> torch.Tensor:
        step, branch = divmod(state["passes"] - 1, 2)
        a, k, b = cache.start_step, cache.interval, cache.end_step
        if a < step <= b and (step - a) % k != 0:
            return state[module, branch]
        state[module, branch] = output
        return output

    hooks = [network.register_forward_pre_hook(count)]
    hooks += [block.attn1.register_forward_hook(replace) for block in network.blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@pytest.fixture(params=["wan21_t2v", "wan21_i2v", "wan22_5b_i2v"])
def model(request: pytest.FixtureRequest) -> Tiny:
    return tiny(request.param)


def test_each_block_computes_at_the_planned_steps_only(model: Tiny) -> None:
    with computed(model) as counts:
        latents(model, asked(model))
    assert [len(seen) for seen in counts] == [2 * 4] * len(counts)  # four steps, two passes


def test_a_generation_without_guidance_has_one_pass_to_keep() -> None:
    model = tiny("wan21_t2v")
    with computed(model) as counts:
        latents(model, asked(model, guidance_scale=1.0))
    assert [len(seen) for seen in counts] == [4] * len(counts)


def test_results_are_those_of_the_rule_applied_from_outside(model: Tiny) -> None:
    ours, _ = latents(model, asked(model))
    with replayed(model, CACHE):
        theirs, _ = latents(model, asked(model, None))
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, latents(model, asked(model, None))[0])


def test_a_cache_that_spares_nothing_changes_no_bit(model: Tiny) -> None:
    idle = AttentionCache(start_step=1, interval=1, end_step=5)
    assert torch.equal(latents(model, asked(model, idle))[0], latents(model, asked(model, None))[0])


def test_generations_with_different_plans_in_turns_equal_each_alone(model: Tiny) -> None:
    other = AttentionCache(start_step=0, interval=2, end_step=6)
    requests = {"a": asked(model), "b": asked(model, other), "c": asked(model, None)}
    for max_batch in (1, 3):  # those that keep attention share no pass
        engine, found = Engine(model.family, max_batch=max_batch), {}
        for job_id, request in requests.items():
            engine.start(job_id, request, model.case.media)
        while engine.busy:
            found |= {e.job_id: e.latents for e in engine.tick() if isinstance(e, Completed)}
        for job_id, request in requests.items():
            assert torch.equal(found[job_id], latents(model, request)[0]), (max_batch, job_id)


def test_a_generation_resumed_from_any_snapshot_ends_the_same_to_the_bit(model: Tiny) -> None:
    request = asked(model)
    whole, snapshots = latents(model, request)
    assert [s and s.step for s in snapshots] == [None, 1, 1, 1, 4, 4, 6, 7]
    for snapshot in snapshots:
        if snapshot is not None:
            assert torch.equal(latents(model, request, snapshot.state)[0], whole), snapshot.step


def test_a_resumed_generation_can_be_saved_again_before_its_next_step(model: Tiny) -> None:
    request = asked(model)
    state = next(s for s in latents(model, request)[1] if s is not None and s.step == 4)
    _, again = latents(model, request, state.state)
    assert again[0] is not None
    assert again[0].step == 4
    ours, theirs = load(again[0].state), load(state.state)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_nothing_is_kept_when_the_steps_are_done() -> None:
    model = tiny("wan21_t2v")
    engine = Engine(model.family)
    engine.start("job", asked(model, AttentionCache(start_step=0, interval=9, end_step=99)), model.case.media)
    sizes = []
    while engine.busy:
        engine.tick()
        generation = engine._flying.get("job")
        if generation is not None:
            sizes.append(generation.sample.conditioning.attention.num_bytes)
    rules, blocks = model.family.card.rules, 2
    assert rules.attention_cache_token_bytes == 24 * 4 * blocks
    tokens = 3 * (32 // rules.size_multiple) ** 2
    assert sizes[1] == rules.attention_cache_token_bytes * tokens * 2
    assert sizes[STEPS - 1] == sizes[1]
    assert sizes[STEPS:] == [0] * len(sizes[STEPS:])


def test_the_second_expert_computes_when_it_takes_over() -> None:
    model = tiny("wan22_t2v")
    cache = AttentionCache(start_step=0, interval=99, end_step=99)
    request = model.request(num_inference_steps=6, attention_cache=cache)
    with computed(model) as high, computed(model, "low_noise_expert") as low:
        latents(model, request)
    assert [len(seen) for seen in (*high, *low)] == [2] * (len(high) + len(low))
