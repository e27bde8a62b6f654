"""HunyuanVideo 1.5's first frame: latents beside the noise, and SigLIP tokens beside the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.pipelines.hunyuan_video1_5.image_processor import HunyuanVideo15ImageProcessor
from PIL import Image
from torch import Tensor

from vitascope.media.arrays import Picture
from vitascope.models.hunyuan_video_15.vae import HunyuanVideo15Vae


class ImageEncoder:
    """SigLIP's vision model."""

    def __init__(self, processor: Any, encoder: Any, dtype: torch.dtype) -> None:
        self._processor = processor
        self._encoder = encoder
        self._dtype = dtype

    def __call__(self, picture: Image.Image) -> Tensor:
        """Return the tokens of a picture, (1, tokens, image_dim)."""
        inputs = self._processor.preprocess(
            images=picture, do_resize=True, return_tensors="pt", do_convert_rgb=True
        )
        pixels = inputs["pixel_values"].to(self._encoder.device, self._encoder.dtype)
        tokens: Tensor = self._encoder(pixel_values=pixels).last_hidden_state
        return tokens.to(self._dtype)


@dataclass(frozen=True, slots=True)
class Condition:
    """The first frame: its latents, (1, C, 1, H, W), and its tokens, (1, tokens, image_dim)."""

    latents: Tensor
    tokens: Tensor


def first_frame_condition(
    picture: Picture, vae: HunyuanVideo15Vae, encode: ImageEncoder, height: int, width: int
) -> Condition:
    """Encode the first frame; of another size than the clip, it is made to cover it and cut."""
    processor = HunyuanVideo15ImageProcessor(
        vae_scale_factor=vae.spatial, do_resize=False, do_convert_rgb=True
    )
    fitted = processor.resize(Image.fromarray(picture), height=height, width=width, resize_mode="crop")
    pixels = processor.preprocess(fitted, height=height, width=width)  # (1, 3, H, W)
    return Condition(vae.encode(pixels.unsqueeze(2)), encode(fitted))


def beside(latents: Tensor, condition: Condition | None) -> Tensor:
    """Return what lies beside (1, C, T, H, W) latents, (1, C + 1, T, H, W).

    The picture's latents and a mask of ones in the first frame, zeros elsewhere; all zeros without a picture.
    """
    batch, channels, *rest = latents.shape
    known = latents.new_zeros(batch, channels + 1, *rest)
    if condition is not None:
        known[:, :channels, :1] = condition.latents
        known[:, channels:, 0] = 1
    return known
