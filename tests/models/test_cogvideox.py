"""CogVideoX beyond the contract suite: its checkpoints told apart, its solvers, its rules, its chunks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny_cogvideox import COGVIDEOX_CASES, TEXT_TOKENS, cogvideox_2b
from tiny_models import Tiny, aligned, tiny
from vitascope.config.model_source import ModelSource
from vitascope.engine.engine import Engine
from vitascope.engine.events import Completed, Failed
from vitascope.engine.load import load_family
from vitascope.errors import CheckpointError, InvalidRequest
from vitascope.models.cogvideox.card import DYNAMIC
from vitascope.models.family import Chunk
from vitascope.request import GenerationRequest

EVERY = sorted(COGVIDEOX_CASES)


@pytest.fixture(params=EVERY)
def model(request: pytest.FixtureRequest) -> Tiny:
    return tiny(request.param)


def generate(model: Tiny, request: GenerationRequest) -> tuple[Any, list[Chunk]]:
    """Generate alone: latents and chunks."""
    engine, chunks = Engine(model.family), []
    engine.start("job", request, model.case.media, sink=chunks.append)
    while engine.busy:
        for event in engine.tick():
            assert not isinstance(event, Failed), event
            if isinstance(event, Completed):
                return event.latents, chunks
    raise AssertionError("the engine stopped before the generation was done")


@contextmanager
def batch_sizes(model: Tiny) -> Iterator[list[int]]:
    """Note the batch size of each forward pass of the family's network."""
    sizes: list[int] = []

    def note(_: Any, __: Any, kwargs: dict[str, Any]) -> None:
        sizes.append(kwargs["hidden_states"].shape[0])

    handle = model.family._parts.transformer.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield sizes
    finally:
        handle.remove()


@pytest.mark.parametrize("solver", ["ddim", "dpm", DYNAMIC])
def test_every_solver_gives_the_references_latents_to_the_bit(model: Tiny, solver: str) -> None:
    request = model.request(sample_solver=solver, num_frames=17, num_inference_steps=4)
    assert torch.equal(generate(model, request)[0], model.reference(request))


def test_without_guidance_there_is_one_pass_and_the_reference_agrees(model: Tiny) -> None:
    request = model.request(guidance_scale=1.0)
    with batch_sizes(model) as batches:
        ours, _ = generate(model, request)
    assert batches == [1] * request.num_inference_steps
    assert torch.equal(ours, model.reference(request))


def test_guided_prompts_go_through_the_network_as_one_batch() -> None:
    model = tiny("cogvideox_5b")
    request = model.request()
    with batch_sizes(model) as batches:
        generate(model, request)
    assert batches == [2] * request.num_inference_steps


@pytest.mark.parametrize("prompt", ["a cat " * 40, "一只猫在跑 🐈", ""], ids=["long", "non-Latin", "empty"])
def test_odd_negative_prompts_are_encoded_as_the_reference_does(prompt: str) -> None:
    model = tiny("cogvideox_2b")
    request = model.request(negative_prompt=prompt)
    assert torch.equal(generate(model, request)[0], model.reference(request))


@pytest.mark.parametrize("name", ["cogvideox_2b", "cogvideox_5b", "cogvideox_15"])
def test_bfloat16_gives_the_references_latents_to_the_bit_too(name: str) -> None:
    model = tiny(name)
    family = load_family(ModelSource(model.folder), device="cpu", dtype="bfloat16")
    reference = aligned(type(model.pipeline).from_pretrained(model.folder, dtype=torch.bfloat16))
    request = model.request()
    latents, _ = generate(replace(model, family=family), request)
    assert latents.dtype is torch.bfloat16
    assert torch.equal(latents, replace(model, pipeline=reference).reference(request))


def test_one_frame_is_a_picture(model: Tiny) -> None:
    request = model.request(num_frames=1)
    latents, chunks = generate(model, request)
    assert torch.equal(latents, model.reference(request))
    assert [c.frames.shape[0] for c in chunks] == [1]


def test_frames_come_nine_first_then_eight_at_a_time(model: Tiny) -> None:
    request = model.request(num_frames=25, num_inference_steps=2)
    _, chunks = generate(model, request)
    assert [c.frames.shape[0] for c in chunks] == [9, 8, 8]
    theirs = (model.reference(request, "np")[0] * 255).round().astype(np.uint8)
    ours = np.concatenate([c.frames for c in chunks])
    # The decoder's convolutions run in oneDNN on the CPU: sums in another order move a pixel by one level.
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_a_repeated_prompt_is_not_encoded_again() -> None:
    model = tiny("cogvideox_2b")
    text = model.family._parts.text
    assert text("a cat that nobody asked for", 9) is text("a cat that nobody asked for", 9)


@pytest.mark.parametrize(
    ("name", "task", "fps", "max_frames"),
    [
        ("cogvideox_2b", "t2v", 8.0, 49),
        ("cogvideox_5b", "t2v", 8.0, 49),
        ("cogvideox_5b_i2v", "i2v", 8.0, 49),
        ("cogvideox_15", "t2v", 16.0, 161),
        ("cogvideox_15_i2v", "i2v", 16.0, 161),
    ],
)
def test_a_checkpoints_kind_is_told_from_its_configurations(
    name: str, task: str, fps: float, max_frames: int
) -> None:
    card = tiny(name).family.card
    assert card.family == "cogvideox"
    assert card.tasks == (task,)
    assert card.defaults.fps == fps
    assert card.rules.max_frames == max_frames
    assert card.defaults.sample_solver == ("ddim" if name == "cogvideox_2b" else "dpm")


def test_a_length_that_would_come_out_longer_is_refused_with_the_lengths_that_do() -> None:
    with pytest.raises(InvalidRequest, match="use 9 or 17"):
        tiny("cogvideox_5b").request(num_frames=13)


def test_learned_positions_fix_the_size() -> None:
    model = tiny("cogvideox_5b_i2v_learned")
    with pytest.raises(InvalidRequest, match="makes 32x32 only") as refused:
        model.request(height=64, width=32)
    assert refused.value.param == "size"


def test_positions_of_15_end_at_the_configured_size() -> None:
    model = tiny("cogvideox_15")
    assert model.request(height=64, width=48).height == 64
    with pytest.raises(InvalidRequest, match="at most 48, for example 48"):
        model.request(height=64, width=64)


def test_only_rotary_positions_leave_a_choice_of_text_length() -> None:
    model = tiny("cogvideox_5b")
    request = model.request(max_sequence_length=7)
    assert torch.equal(generate(model, request)[0], model.reference(request))
    with pytest.raises(InvalidRequest, match="max_sequence_length"):
        tiny("cogvideox_2b").request(max_sequence_length=7)
    native = tiny("cogvideox_2b").request()
    assert native.max_sequence_length == TEXT_TOKENS
    assert tiny("cogvideox_2b").request(max_sequence_length=TEXT_TOKENS) == native  # a repeated request


def test_a_picture_alone_cannot_be_left_out_or_added() -> None:
    with pytest.raises(InvalidRequest, match="cannot generate from a prompt alone"):
        tiny("cogvideox_15_i2v").request(first_frame=None)
    with pytest.raises(InvalidRequest, match="cannot generate from a first frame"):
        tiny("cogvideox_15").request(first_frame="a" * 64)


def _edited(folder: Path, to: Path, file: str, **values: Any) -> Path:
    """Copy a folder and change entries of one of its JSON files."""
    shutil.copytree(folder, to)
    path = to / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return to


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}, "asks for 'DDIMScheduler'"),
        ("scheduler/scheduler_config.json", {"prediction_type": "score"}, "prediction_type is 'score'"),
        ("model_index.json", {"vae": ["diffusers", "AutoencoderKLWan"]}, "vae is a 'AutoencoderKLWan'"),
    ],
)
def test_a_folder_of_other_parts_is_refused_in_one_line(
    tmp_path: Path, file: str, values: dict[str, Any], message: str
) -> None:
    folder = _edited(tiny("cogvideox_2b").folder, tmp_path / "odd", file, **values)
    with pytest.raises(CheckpointError, match=message):
        load_family(ModelSource(folder), device="cpu")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"in_channels": 12}, "reads 12 channels; for text it is 4"),
        ({"out_channels": 8}, "makes 8 latent channels; vae/config.json has 4"),
        ({"text_embed_dim": 16}, "text of 16 dimensions; the text encoder makes 32"),
    ],
)
def test_networks_that_do_not_fit_together_are_refused(
    tmp_path: Path, config: dict[str, int], message: str
) -> None:
    cogvideox_2b(**config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        load_family(ModelSource(tmp_path), device="cpu")
