"""LTX-2's decoders: the video VAE with the scale of its latents, and the sound's VAE with its vocoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vitascope.media.arrays import Samples


class VideoVae:
    """The video VAE; its decoder looks ahead in time, so a clip is decoded as a whole."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae
        self.device: torch.device = vae.device
        self.spatial: int = vae.spatial_compression_ratio
        self.temporal: int = vae.temporal_compression_ratio
        self.channels: int = vae.config.latent_channels
        self._mean: Tensor = vae.latents_mean.float().view(1, -1, 1, 1, 1)
        self._std: Tensor = vae.latents_std.float().view(1, -1, 1, 1, 1)

    def encode(self, video: Tensor) -> Tensor:
        """Encode (1, 3, T, H, W) in -1..1 to normalised float32 latents; the mode of the posterior."""
        posterior = self._vae.encode(video.to(self._vae.device, self._vae.dtype)).latent_dist
        latents: Tensor = (posterior.mode().float() - self._mean) / self._std
        return latents

    def denormalized(self, latents: Tensor) -> Tensor:
        """Return latents in the VAE's own scale."""
        scaled: Tensor = latents * self._std / self._vae.config.scaling_factor + self._mean
        return scaled

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents in the VAE's own scale to (1, 3, T, H, W), about -1..1."""
        vae = self._vae
        # A decoder that takes a noise level is told that there is none, as the reference does by default.
        level = None
        if vae.config.timestep_conditioning:
            level = torch.zeros(1, device=vae.device, dtype=vae.dtype)
        video: Tensor = vae.decode(latents.to(vae.dtype), level, return_dict=False)[0]
        return video


class SoundDecoder:
    """The audio VAE, which makes spectrograms, and the vocoder, which makes them audible."""

    def __init__(self, vae: Any, vocoder: Any) -> None:
        self._vae = vae
        self._vocoder = vocoder
        self.channels: int = vae.config.latent_channels
        self.mel_bins: int = vae.config.mel_bins // vae.mel_compression_ratio
        self.sample_rate: int = vocoder.config.output_sampling_rate
        self._frames_per_s: float = (
            vae.config.sample_rate / vae.config.mel_hop_length / float(vae.temporal_compression_ratio)
        )
        self._mean: Tensor = vae.latents_mean.float()
        self._std: Tensor = vae.latents_std.float()

    def num_frames(self, duration_s: float) -> int:
        """How many latent frames of sound go with a clip."""
        return round(duration_s * self._frames_per_s)

    def denormalized(self, tokens: Tensor) -> Tensor:
        """Return (1, L, C * M) tokens in the VAE's own scale."""
        return tokens * self._std + self._mean

    def decode(self, latents: Tensor) -> Samples:
        """Decode (1, C, L, M) latents in the VAE's own scale to a waveform, (channels, samples) in -1..1."""
        spectrogram = self._vae.decode(latents.to(self._vae.dtype), return_dict=False)[0]
        wave = self._vocoder(spectrogram)[0].float().clamp(-1.0, 1.0)
        samples: Samples = wave.cpu().numpy()
        return samples
