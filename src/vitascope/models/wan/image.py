"""Wan's pictures and clips: latents, with a mask where they are a condition, and CLIP tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.video_processor import VideoProcessor
from PIL import Image
from torch import Tensor

from vitascope.media.arrays import Picture, Pixels
from vitascope.models.family import Media
from vitascope.models.wan.vae import WanVae
from vitascope.request import GenerationRequest


class ImageEncoder:
    """CLIP vision, for Wan 2.1's image-to-video models."""

    def __init__(self, processor: Any, encoder: Any, dtype: torch.dtype) -> None:
        self._processor = processor
        self._encoder = encoder
        self._dtype = dtype

    def __call__(self, media: Media) -> Tensor:
        """Return the tokens of one or both pictures, (pictures, tokens, image_dim)."""
        pictures = [Image.fromarray(p) for p in (media.first_frame, media.last_frame) if p is not None]
        inputs = self._processor(images=pictures, return_tensors="pt").to(self._encoder.device)
        hidden: Tensor = self._encoder(**inputs, output_hidden_states=True).hidden_states[-2]
        return hidden.to(self._dtype)


@dataclass(frozen=True, slots=True)
class Condition:
    """What the pictures put beside or into the latents.

    Concatenated: `latents` is (1, 4 + C, T, H, W), mask first. Imposed (Wan 2.2 5B): `latents` is (1, C, 1,
    H, W) and takes the place of the first latent frame wherever `free`, (1, 1, T, H, W), is 0.
    """

    latents: Tensor
    free: Tensor | None = None

    def impose(self, latents: Tensor) -> Tensor:
        """Put the given first frame into the latents, where the model works that way."""
        if self.free is None:
            return latents
        return (1 - self.free) * self.latents + self.free * latents


def concatenated_condition(request: GenerationRequest, media: Media, vae: WanVae) -> Condition:
    """Encode the clip that is known: given frames at its ends, zeros between, with a mask that says which."""
    first = _preprocess(media.first_frame, request, vae)
    last = _preprocess(media.last_frame, request, vae)
    ends = [first] if last is None else [first, last]
    gap = first.new_zeros(1, 3, request.num_frames - len(ends), request.height, request.width)
    latents = vae.encode(torch.cat([first, gap, *ends[1:]], dim=2))
    mask = _mask(latents, request.num_frames, vae.temporal, has_last=last is not None)
    return Condition(torch.cat([mask, latents], dim=1))


def imposed_condition(request: GenerationRequest, media: Media, vae: WanVae) -> Condition:
    """Encode the first frame alone; it replaces the first latent frame at every step."""
    latents = vae.encode(_preprocess(media.first_frame, request, vae))
    shape = vae.latent_shape(request.num_frames, request.height, request.width)
    free = latents.new_ones(1, 1, *shape[2:])
    free[:, :, 0] = 0
    return Condition(latents, free)


def encoded_clip(frames: Pixels, request: GenerationRequest, vae: WanVae) -> Tensor:
    """Encode a clip of (T, H, W, 3), resized to the request's size, as latents."""
    processor = VideoProcessor(vae_scale_factor=vae.spatial)
    pictures = [Image.fromarray(frame) for frame in frames]
    return vae.encode(processor.preprocess_video(pictures, height=request.height, width=request.width))


def _mask(latents: Tensor, num_frames: int, temporal: int, *, has_last: bool) -> Tensor:
    """Return (1, temporal, T', H', W'): 1 where a frame is given; the first one fills its whole group."""
    _, _, latent_frames, height, width = latents.shape
    given = latents.new_zeros(num_frames + temporal - 1)
    given[:temporal] = 1
    if has_last:
        given[-1] = 1
    groups = given.view(latent_frames, temporal).T  # (temporal, T')
    return groups[None, :, :, None, None].expand(-1, -1, -1, height, width)


def _preprocess(picture: Picture | None, request: GenerationRequest, vae: WanVae) -> Any:
    """Resize to the clip's size: (1, 3, 1, H, W) in -1..1, on the VAE's device; None for no picture."""
    if picture is None:
        return None
    processor = VideoProcessor(vae_scale_factor=vae.spatial)
    pixels = processor.preprocess(Image.fromarray(picture), height=request.height, width=request.width)
    return pixels.to(vae.vae.device, dtype=torch.float32).unsqueeze(2)
