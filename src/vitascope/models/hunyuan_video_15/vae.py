"""HunyuanVideo 1.5's VAE: latents in the model's own scale, and decoding one latent frame after another.

Everything in the decoder looks only back in time: with the last frames of each convolution and the keys and
values of the attention remembered, the pieces equal those of `AutoencoderKLHunyuanVideo15.decode`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_hunyuanvideo15 import (
    HunyuanVideo15AttnBlock,
    HunyuanVideo15CausalConv3d,
    HunyuanVideo15Upsample,
)
from torch import Tensor, nn
from torch.nn import functional

from vitascope.models.convolutions import use_fast_convolutions


class HunyuanVideo15Vae:
    """The VAE with the scale of its latents."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.spatial: int = vae.config.spatial_compression_ratio
        self.temporal: int = vae.config.temporal_compression_ratio
        self.channels: int = vae.config.latent_channels
        self._scale: float = vae.config.scaling_factor
        self._memory = _Memory()
        _stream(vae.decoder, self._memory)
        use_fast_convolutions(vae.decoder)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int, int]:
        """Return (1, C, T', H', W') for a clip."""
        frames = (num_frames - 1) // self.temporal + 1
        return 1, self.channels, frames, height // self.spatial, width // self.spatial

    def encode(self, video: Tensor) -> Tensor:
        """Encode (1, 3, T, H, W) in -1..1 to scaled latents; the mode of the posterior."""
        posterior = self.vae.encode(video.to(self.vae.device, self.vae.dtype)).latent_dist
        latents: Tensor = posterior.mode() * self._scale
        return latents

    def decode(self, latents: Tensor) -> Iterator[Tensor]:
        """Yield (1, 3, T, H, W) in about -1..1: 1 frame, then `temporal` at a time.

        What is remembered belongs to this one decoding, so that two clips may be decoded in turns.
        """
        vae, past = self.vae, dict[nn.Module, Any]()
        scaled = latents.to(vae.device, vae.dtype) / self._scale
        for i in range(scaled.shape[2]):
            with self._memory.of(past):
                chunk = vae.decoder(scaled[:, :, i : i + 1])
            yield chunk


class _Memory:
    """What the decoder's modules remember of the frames before, by module, for the clip at hand."""

    def __init__(self) -> None:
        self.past: dict[nn.Module, Any] = {}

    @contextmanager
    def of(self, past: dict[nn.Module, Any]) -> Iterator[None]:
        """Remember into `past` for the pass inside."""
        self.past = past
        try:
            yield
        finally:
            self.past = {}


class _Convolution(nn.Module):
    """A causal convolution that goes on where the last piece ended; the first one begins with copies."""

    def __init__(self, original: Any, memory: _Memory) -> None:
        super().__init__()
        self.conv = original.conv
        *self._margins, self._reach, _ = original.time_causal_padding
        self._memory = memory

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to the same of the output's channels."""
        before = self._memory.past.get(self)
        if before is None:
            before = x[:, :, :1].expand(-1, -1, self._reach, -1, -1)
        joined = torch.cat([before, x], dim=2)
        self._memory.past[self] = joined[:, :, joined.shape[2] - self._reach :].clone()
        convolved: Tensor = self.conv(functional.pad(joined, (*self._margins, 0, 0), mode="replicate"))
        return convolved


class _Attention(nn.Module):
    """Attention from each frame to itself and all before it."""

    def __init__(self, original: Any, memory: _Memory) -> None:
        super().__init__()
        self.norm, self.proj_out = original.norm, original.proj_out
        self.to_q, self.to_k, self.to_v = original.to_q, original.to_k, original.to_v
        self._memory = memory

    def forward(self, x: Tensor) -> Tensor:
        """Map one frame (B, C, 1, H, W) to the same."""
        normed = self.norm(x)
        query, key, value = (
            project(normed).flatten(2).transpose(1, 2).unsqueeze(1).contiguous()
            for project in (self.to_q, self.to_k, self.to_v)
        )  # each (B, 1, H * W, C)
        if self in self._memory.past:
            keys, values = self._memory.past[self]
            key, value = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        self._memory.past[self] = key, value
        attended = functional.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.proj_out(attended.squeeze(1).transpose(1, 2).reshape(x.shape))
        return projected + x


class _Upsample(nn.Module):
    """Doubles height and width and, but for the clip's first frame, time, where the original does."""

    def __init__(self, original: Any, memory: _Memory) -> None:
        super().__init__()
        self.conv = original.conv
        self._repeats: int = original.repeats
        self._doubles_time: bool = original.add_temporal_upsample
        self._memory = memory

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, C', T or 2 * T, 2 * H, 2 * W)."""
        wide = self.conv(x)
        if not self._doubles_time:
            return _unpacked(wide, 1) + _unpacked(x.repeat_interleave(self._repeats, dim=1), 1)
        if self in self._memory.past:
            return _unpacked(wide, 2) + _unpacked(x, 2).repeat_interleave(self._repeats, dim=1)
        self._memory.past[self] = True
        half, _ = _unpacked(wide, 1).chunk(2, dim=1)
        return half + _unpacked(x, 1).repeat_interleave(self._repeats // 2, dim=1)


def _unpacked(x: Tensor, times: int) -> Tensor:
    """Turn (B, times * 2 * 2 * C, T, H, W) into (B, C, times * T, 2 * H, 2 * W)."""
    batch, channels, *rest = x.shape
    x = x.view(batch, times, 2, 2, channels // (4 * times), *rest).permute(0, 4, 5, 1, 6, 2, 7, 3)
    return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)


_STREAMED: tuple[tuple[Any, Any], ...] = (
    (HunyuanVideo15CausalConv3d, _Convolution),
    (HunyuanVideo15AttnBlock, _Attention),
    (HunyuanVideo15Upsample, _Upsample),
)


def _stream(decoder: nn.Module, memory: _Memory) -> None:
    """Put streaming modules into one decoder instance; names of weights stay those of the original."""
    for original, streamed in _STREAMED:
        for parent in list(decoder.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, original):
                    parent.register_module(name, streamed(child, memory))
