"""What a model will need, estimated from its files' headers and configurations alone: nothing is loaded."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch

from vitascope.card import ModelCard
from vitascope.engine.decoding_room import decoder_bytes
from vitascope.errors import CheckpointError
from vitascope.models.registry import outline
from vitascope.sampling.guidance import guides
from vitascope.weights.checkpoint import Checkpoint, Placement

_BYTES = {torch.float32: 4, torch.bfloat16: 2, torch.float16: 2}
# Tensors of (tokens, width) that are alive at once in a block: residual, q, k, v, four of the MLP...
_WIDTHS_ALIVE = 12
_PROBE_SIDE, _PROBE_S = 1024, 0.2
_ACCELERATOR_PROBE_SIDE = 8192  # smaller products are over before the next one is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One clip at native settings: what stays, what denoising works in, and after it decoding."""

    weights_bytes: int
    denoising_bytes: int
    decoding_bytes: int
    tokens: int
    flops_per_step: float
    num_steps: int

    @property
    def working_bytes(self) -> int:
        """The larger working set; a clip needs them one after the other."""
        return max(self.denoising_bytes, self.decoding_bytes)

    @property
    def memory_bytes(self) -> int:
        """Weights and the larger working set together."""
        return self.weights_bytes + self.working_bytes

    def denoise_s(self, flops_per_s: float) -> float:
        """Seconds of denoising on a device of that speed."""
        return self.flops_per_step * self.num_steps / flops_per_s


def needs_of(checkpoint: Checkpoint, placement: Placement) -> Estimate:
    """Estimate what one clip of a folder needs, its decoder included, where it is loaded by `placement`.

    Raises:
        CheckpointError: the folder cannot be read, or its configuration lacks what is needed.

    """
    family = outline(checkpoint, placement)
    return estimate(checkpoint, family.card, placement.dtype, decoding_bytes=decoder_bytes(family))


def estimate(
    checkpoint: Checkpoint, card: ModelCard, dtype: torch.dtype, *, decoding_bytes: int = 0
) -> Estimate:
    """Estimate what one clip at the card's native settings needs; its decoder is measured elsewhere.

    Weights are counted in what `checkpoint` made each network in; in `dtype` where it made none.

    Each weight of the transformer costs two operations a token, and attention four for a pair of tokens and a
    unit of width; guidance doubles both. Two experts are both kept and take turns.

    Raises:
        CheckpointError: the folder cannot be read, or its configuration lacks what is needed.

    """
    native, config = card.defaults, checkpoint.config("transformer")
    heads, head, layers = (
        _entry(config, name) for name in ("num_attention_heads", "attention_head_dim", "num_layers")
    )
    width, depth = heads * head, layers + config.get("num_single_layers", 0)
    tokens = _tokens(card, config)
    passes = 2 if guides(native.guidance_scale) else 1
    linear = 2.0 * _num_weights(checkpoint, "transformer") * tokens
    attention = 4.0 * tokens**2 * width * depth
    return Estimate(
        weights_bytes=sum(
            _resident_bytes(checkpoint, part, _BYTES[checkpoint.dtypes.get(part, dtype)])
            for part in card.components
        ),
        denoising_bytes=_WIDTHS_ALIVE * tokens * width * _BYTES[dtype],
        decoding_bytes=decoding_bytes,
        tokens=tokens,
        flops_per_step=passes * (linear + attention),
        num_steps=native.num_inference_steps,
    )


def _entry(config: dict[str, Any], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int):
        raise CheckpointError(f"transformer/config.json gives no {name!r}.")
    return value


def matmul_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Measure how many operations a second this device does in matrix products."""
    side = _PROBE_SIDE if device.type == "cpu" else _ACCELERATOR_PROBE_SIDE
    a = torch.ones(side, side, device=device, dtype=dtype)
    (a @ a)[0, 0].item()  # the first one makes libraries ready, which takes longer than all others
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < _PROBE_S:
        (a @ a)[0, 0].item()  # waits for the device
        done += 1
    return done * 2.0 * side**3 / (time.perf_counter() - began)


def _tokens(card: ModelCard, config: dict[str, Any]) -> int:
    """Count the video's tokens; a size is a multiple of one token's side."""
    native, rules = card.defaults, card.rules
    stride = config.get("temporal_compression_ratio") or rules.frame_stride
    latent_frames = (native.num_frames - 1) // stride + 1
    patch = config.get("patch_size_t") or 1
    frames = math.ceil(latent_frames / patch) if isinstance(patch, int) else latent_frames
    return int(frames) * (native.height // rules.size_multiple) * (native.width // rules.size_multiple)


def _num_weights(checkpoint: Checkpoint, part: str) -> int:
    return sum(stored.num_values for file in checkpoint.weight_files(part) for stored in file.tensors)


def _resident_bytes(checkpoint: Checkpoint, part: str, width: int) -> int:
    """Count what a component takes: quantised blocks stay as they are stored."""
    return sum(
        stored.num_values * width if stored.quant is None else stored.end - stored.begin
        for file in checkpoint.weight_files(part)
        for stored in file.tensors
    )
