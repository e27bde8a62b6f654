"""HunyuanVideo's VAE: latents in the model's own scale, and decoding tile by tile along time.

The frames are those of `AutoencoderKLHunyuanVideo.decode`, which decodes overlapping tiles and blends their
ends; here each tile goes out as soon as it is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitascope.models.convolutions import use_fast_convolutions


class HunyuanVideoVae:
    """The VAE with the scale of its latents."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.spatial: int = vae.config.spatial_compression_ratio
        self.temporal: int = vae.config.temporal_compression_ratio
        self.channels: int = vae.config.latent_channels
        self._scale: float = vae.config.scaling_factor
        vae.decoder.mid_block = FrameCausalMidBlock(vae.decoder.mid_block)
        use_fast_convolutions(vae.decoder, vae.post_quant_conv)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int, int]:
        """Return (1, C, T', H', W') for a clip."""
        frames = (num_frames - 1) // self.temporal + 1
        return 1, self.channels, frames, height // self.spatial, width // self.spatial

    def encode(self, video: Tensor) -> Tensor:
        """Encode (1, 3, T, H, W) in -1..1 to scaled float32 latents; the mode of the posterior."""
        posterior = self.vae.encode(video.to(self.vae.device, self.vae.dtype)).latent_dist
        latents: Tensor = posterior.mode().float() * self._scale
        return latents

    def decode(self, latents: Tensor) -> Iterator[Tensor]:
        """Yield (1, 3, T, H, W) in about -1..1: the whole of a short clip, else a dozen frames at a time."""
        vae = self.vae
        scaled = latents.to(vae.device, vae.dtype) / self._scale
        tile_frames = vae.tile_sample_min_num_frames // self.temporal
        if not vae.use_framewise_decoding or scaled.shape[2] <= tile_frames:
            yield self._decode_tile(scaled)
            return
        stride = vae.tile_sample_stride_num_frames
        overlap = vae.tile_sample_min_num_frames - stride
        before: Tensor | None = None
        for start in range(0, scaled.shape[2], stride // self.temporal):
            tile = self._decode_tile(scaled[:, :, start : start + tile_frames + 1])
            if before is not None:
                tile = _blended(before, tile[:, :, 1:], overlap)  # its first frame is a repetition
            chunk = tile[:, :, : stride + (before is None)]
            before = tile
            if chunk.shape[2]:
                yield chunk

    def _decode_tile(self, latents: Tensor) -> Tensor:
        decoded: Tensor = self.vae.decoder(self.vae.post_quant_conv(latents))
        return decoded


def _blended(before: Tensor, tile: Tensor, overlap: int) -> Tensor:
    """Fade the first frames of a tile in over the last ones of the tile before it."""
    overlap = min(before.shape[2], tile.shape[2], overlap)
    for i in range(overlap):
        weight = i / overlap
        tile[:, :, i] = before[:, :, i - overlap] * (1 - weight) + tile[:, :, i] * weight
    return tile


class FrameCausalMidBlock(nn.Module):
    """The decoder's middle, where each frame attends to itself and those before it.

    diffusers does this with a mask of all positions by all positions, 20 GB at 720p; here each frame asks
    only for what it may see. Names of weights stay those of the original.
    """

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.resnets, self.attentions = original.resnets, original.attentions

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to the same."""
        hidden = self.resnets[0](hidden)
        for attention, resnet in zip(self.attentions, list(self.resnets)[1:], strict=True):
            if attention is not None:
                hidden = _attend_by_frame(attention, hidden)
            hidden = resnet(hidden)
        return hidden


def _attend_by_frame(attention: Any, hidden: Tensor) -> Tensor:
    batch, _, frames, height, width = hidden.shape
    tokens = hidden.permute(0, 2, 3, 4, 1).flatten(1, 3)  # (B, T * H * W, C)
    normed = attention.group_norm(tokens.transpose(1, 2)).transpose(1, 2)
    query, key, value = (
        project(normed).view(batch, -1, attention.heads, tokens.shape[2] // attention.heads).transpose(1, 2)
        for project in (attention.to_q, attention.to_k, attention.to_v)
    )  # each (B, heads, T * H * W, D)
    area = height * width
    attended = torch.cat(
        [
            functional.scaled_dot_product_attention(
                query[:, :, end - area : end], key[:, :, :end], value[:, :, :end]
            )
            for end in range(area, frames * area + 1, area)
        ],
        dim=2,
    )
    out = attention.to_out[0](attended.transpose(1, 2).flatten(2)) + tokens
    out = out / attention.rescale_output_factor
    return out.unflatten(1, (frames, height, width)).permute(0, 4, 1, 2, 3)  # type: ignore[no-any-return]
