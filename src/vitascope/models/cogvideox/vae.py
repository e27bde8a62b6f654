"""CogVideoX's VAE: latents frame first, in the model's own scale, and its chunks of decoding one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Generator, Tensor

from vitascope.models.convolutions import use_fast_convolutions

Shape = tuple[int, int, int, int, int]


class CogVideoXVae:
    """The VAE with the scale of its latents. Latents are (1, T, C, H, W), videos (1, 3, T, H, W)."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae
        self.spatial: int = 2 ** (len(vae.config.block_out_channels) - 1)
        self.temporal: int = vae.config.temporal_compression_ratio
        self.channels: int = vae.config.latent_channels
        # Latent frames are decoded two at a time, after one that stands for a single frame; an even count has
        # no such start and comes out longer than asked.
        self.frame_stride: int = self.temporal * vae.num_latent_frames_batch_size
        self._scale: float = vae.config.scaling_factor
        use_fast_convolutions(vae.decoder)

    def num_latent_frames(self, num_frames: int) -> int:
        """Return how many latent frames a clip has, before any padding."""
        return (num_frames - 1) // self.temporal + 1

    def encode(self, video: Tensor) -> Tensor:
        """Encode a video in -1..1 to the latents that are denoised, (1, C, T, H, W); the posterior's mode."""
        mode: Tensor = self._posterior(video).mode()
        return self._scale * mode

    def encode_picture(self, pixels: Tensor) -> Posterior:
        """Encode a first frame, (1, 3, H, W) in -1..1."""
        inverted = self._vae.config.invert_scale_latents  # how CogVideoX 1.5 was trained
        scale = 1 / self._scale if inverted else self._scale
        return Posterior(self._posterior(pixels.unsqueeze(2)), scale)

    def decode(self, latents: Tensor) -> Iterator[Tensor]:
        """Yield the video in chunks: the first 1 or `frame_stride` + 1 frames, then `frame_stride` at a time.

        Equal to `AutoencoderKLCogVideoX.decode`, which runs the same chunks and joins them; the caches that
        carry the past live here, so that two clips may be decoded in turns.
        """
        vae, at_a_time = self._vae, self._vae.num_latent_frames_batch_size
        z = (1 / self._scale * latents.permute(0, 2, 1, 3, 4)).to(vae.dtype)
        first = at_a_time + z.shape[2] % at_a_time
        caches = None
        for start, end in _spans(z.shape[2], first, at_a_time):
            chunk = z[:, :, start:end]
            if vae.post_quant_conv is not None:
                chunk = vae.post_quant_conv(chunk)
            pixels, caches = vae.decoder(chunk, conv_cache=caches)
            yield pixels

    def _posterior(self, video: Tensor) -> DiagonalGaussianDistribution:
        vae = self._vae
        return vae.encode(video.to(vae.device, vae.dtype)).latent_dist


class Posterior:
    """What the VAE says of a first frame: a distribution, which the reference draws from."""

    def __init__(self, distribution: DiagonalGaussianDistribution, scale: float) -> None:
        self._distribution = distribution
        self._scale = scale

    def draw(self, generator: Generator, dtype: torch.dtype) -> Tensor:
        """Draw the frame's latents, (1, 1, C, H, W)."""
        drawn: Tensor = self._distribution.sample(generator)
        return self._scale * drawn.to(dtype).permute(0, 2, 1, 3, 4)


def _spans(length: int, first: int, at_a_time: int) -> Iterator[tuple[int, int]]:
    """Cut 0..length into (start, end): `first`, then `at_a_time` each."""
    yield 0, min(first, length)
    for start in range(first, length, at_a_time):
        yield start, start + at_a_time
