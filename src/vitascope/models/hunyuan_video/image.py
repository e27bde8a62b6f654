"""How HunyuanVideo's image-to-video models take the first frame in: beside the latents, or as their first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from diffusers.video_processor import VideoProcessor
from PIL import Image
from torch import Tensor

from vitascope.media.arrays import Picture
from vitascope.models.hunyuan_video.vae import HunyuanVideoVae

Way = Literal["latent_concat", "token_replace"]

_NOISE_LEVEL = 0.999  # the rest of the first latents is the picture's


@dataclass(frozen=True, slots=True)
class Condition:
    """The first frame's latents, (1, C, 1, H, W) in float32, and how the model takes them in.

    latent_concat: beside every latent frame lie the picture's latents (zeros but in the first frame) and a
    mask; the model makes one latent frame more than is asked for, and the first is thrown away.
    token_replace: the picture is the first latent frame; the solver moves only those after it.
    """

    way: Way
    latents: Tensor

    @property
    def extra_frames(self) -> int:
        """How many latent frames the model makes beyond those that are shown."""
        return 1 if self.way == "latent_concat" else 0

    def mix(self, noise: Tensor) -> Tensor:
        """Return the latents to begin with: noise with a trace of the picture in every frame."""
        level = torch.tensor([_NOISE_LEVEL], device=noise.device)
        latents = noise * level + self.latents.expand_as(noise) * (1 - level)
        return latents if self.way == "latent_concat" else latents[:, :, 1:]

    def precision(self, latents: Tensor) -> torch.dtype:
        """Return the dtype in which the reference holds these latents between steps."""
        return latents.dtype if self.way == "latent_concat" else self.latents.dtype

    def model_input(self, latents: Tensor) -> Tensor:
        """Return what the transformer reads."""
        if self.way == "token_replace":
            return torch.cat([self.latents, latents], dim=2)
        beside = latents.new_zeros(latents.shape, dtype=torch.float32)
        beside[:, :, :1] = self.latents
        mask = torch.zeros_like(beside[:, :1])
        mask[:, :, 0] = 1
        return torch.cat([latents, beside, mask], dim=1)

    def moving(self, prediction: Tensor) -> Tensor:
        """Return the part of a prediction that is the solver's to use."""
        return prediction if self.way == "latent_concat" else prediction[:, :, 1:]

    def shown(self, latents: Tensor) -> Tensor:
        """Return the latents of the clip, the given frame first."""
        if self.way == "latent_concat":
            return latents[:, :, 1:]
        return torch.cat([self.latents, latents], dim=2)


def first_frame_condition(
    picture: Picture, way: Way, vae: HunyuanVideoVae, height: int, width: int
) -> Condition:
    """Encode the first frame, resized to the clip's size."""
    processor = VideoProcessor(vae_scale_factor=vae.spatial)
    pixels = processor.preprocess(Image.fromarray(picture), height=height, width=width)  # (1, 3, H, W)
    return Condition(way, vae.encode(pixels.unsqueeze(2)))
