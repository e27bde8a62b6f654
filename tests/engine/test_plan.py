from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny_families  # noqa: F401  (adds every family's cases)
from tiny_models import tiny
from vitascope.card import ModelCard
from vitascope.engine.plan import Estimate, estimate, matmul_speed, needs_of
from vitascope.errors import CheckpointError
from vitascope.weights.checkpoint import Checkpoint, Placement

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint.open(tiny("wan21_t2v").folder)


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return tiny("wan21_t2v").family.card


def test_tokens_are_those_of_the_published_shape(checkpoint: Checkpoint, card: ModelCard) -> None:
    native = replace(card.defaults, height=480, width=832, num_frames=81)
    assert estimate(checkpoint, replace(card, defaults=native), torch.float32).tokens == 21 * 30 * 52


def test_operations_follow_weights_tokens_and_guidance(checkpoint: Checkpoint, card: ModelCard) -> None:
    guided = estimate(checkpoint, card, torch.float32)
    config = json.loads((Path(checkpoint.root) / "transformer" / "config.json").read_text())
    network = tiny("wan21_t2v").pipeline.transformer
    width = config["num_attention_heads"] * config["attention_head_dim"]
    linear = 2 * sum(p.numel() for p in network.parameters()) * guided.tokens
    attention = 4 * guided.tokens**2 * width * config["num_layers"]
    assert guided.flops_per_step == pytest.approx(2 * (linear + attention))
    unguided = replace(card, defaults=replace(card.defaults, guidance_scale=1.0))
    assert estimate(checkpoint, unguided, torch.float32).flops_per_step == pytest.approx(linear + attention)


@pytest.mark.parametrize(
    ("name", "precise"),
    [
        ("wan21_i2v", ("vae", "image_encoder")),
        ("ltx2_t2v", ("audio_vae", "vocoder")),  # its video VAE is a network like the others
        ("hunyuan15_i2v", ("vae",)),
    ],
)
def test_half_the_precision_is_less_memory_but_not_for_what_needs_more_bits(
    name: str, precise: tuple[str, ...]
) -> None:
    folder = tiny(name).folder
    whole, half = (
        needs_of(Checkpoint.open(folder), Placement(CPU, dtype)).weights_bytes
        for dtype in (torch.float32, torch.bfloat16)
    )
    kept = sum(
        4 * stored.num_values
        for part in precise
        for file in Checkpoint.open(folder).weight_files(part)
        for stored in file.tensors
    )
    assert half == (whole - kept) / 2 + kept


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("wan21_t2v", torch.float32),
        ("hunyuan_t2v", torch.float16),
        ("hunyuan15_t2v", torch.float16),
        ("cogvideox_5b", torch.bfloat16),
    ],
)
def test_a_vae_that_has_16_bits_with_its_reference_has_them_on_an_accelerator_and_decodes_in_less(
    name: str, dtype: torch.dtype
) -> None:
    checkpoint = Checkpoint.open(tiny(name).folder)
    whole = needs_of(checkpoint, Placement(CPU, torch.bfloat16))
    assert checkpoint.dtypes["vae"] is torch.float32
    half = needs_of(checkpoint, Placement(CPU, torch.bfloat16, half_vaes=True))
    assert checkpoint.dtypes["vae"] is dtype
    share = dtype.itemsize / 4
    assert half.decoding_bytes == pytest.approx(share * whole.decoding_bytes, rel=0.15)


def test_time_is_operations_by_speed() -> None:
    needs = Estimate(
        weights_bytes=1, denoising_bytes=2, decoding_bytes=4, tokens=1, flops_per_step=6.0, num_steps=5
    )
    assert (needs.memory_bytes, needs.denoise_s(3.0)) == (5, 10.0)


def test_a_device_has_a_speed() -> None:
    assert matmul_speed(torch.device("cpu"), torch.float32) > 1e6


def test_a_configuration_that_lacks_a_number_is_one_clear_line(tmp_path: Path, card: ModelCard) -> None:
    shutil.copytree(tiny("wan21_t2v").folder, tmp_path / "model")
    path = tmp_path / "model" / "transformer" / "config.json"
    config = json.loads(path.read_text())
    del config["num_layers"]
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"transformer/config.json gives no 'num_layers'\."):
        estimate(Checkpoint.open(tmp_path / "model"), card, torch.float32)
