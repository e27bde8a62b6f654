"""Wan's VAE: latents in the model's own scale, and decoding by frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, unpatchify
from torch import Tensor


class WanVae:
    """The VAE with the scale of its latents."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.spatial: int = vae.config.scale_factor_spatial
        self.temporal: int = vae.config.scale_factor_temporal
        self.channels: int = vae.config.z_dim
        self._num_caches = sum(isinstance(m, WanCausalConv3d) for m in vae.decoder.modules())
        shape = (1, self.channels, 1, 1, 1)
        self._mean = torch.tensor(vae.config.latents_mean).view(shape).to(vae.device)
        self._inverse_std = 1.0 / torch.tensor(vae.config.latents_std).view(shape).to(vae.device)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int, int]:
        """Return (1, C, T', H', W') for a clip."""
        frames = (num_frames - 1) // self.temporal + 1
        return 1, self.channels, frames, height // self.spatial, width // self.spatial

    def encode(self, video: Tensor) -> Tensor:
        """Encode (1, 3, T, H, W) in -1..1 to normalised float32 latents; the mode of the posterior."""
        posterior = self.vae.encode(video.to(self.vae.device, self.vae.dtype)).latent_dist
        latents: Tensor = (posterior.mode().float() - self._mean) * self._inverse_std
        return latents

    def decode(self, latents: Tensor) -> Iterator[Tensor]:
        """Yield (1, 3, T, H, W) in -1..1, one latent frame after another: 1 frame, then `temporal` at a time.

        Equal to `AutoencoderKLWan.decode`, which runs the same chunks and joins them; the caches that carry
        the past live here, so that two clips may be decoded in turns.
        """
        vae = self.vae
        scaled = latents.to(vae.device, vae.dtype)
        scaled = scaled / self._inverse_std.to(vae.dtype) + self._mean.to(vae.dtype)
        x = vae.post_quant_conv(scaled)
        caches: list[Any] = [None] * self._num_caches
        for i in range(x.shape[2]):
            chunk = vae.decoder(x[:, :, i : i + 1], feat_cache=caches, feat_idx=[0], first_chunk=i == 0)
            if vae.config.patch_size is not None:
                chunk = unpatchify(chunk, patch_size=vae.config.patch_size)
            yield chunk.clamp(-1.0, 1.0)
