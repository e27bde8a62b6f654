"""LTX-2's pictures: a first frame takes the place of the first latents, a last one is appended.

One picture is prepared as `LTX2ImageToVideoPipeline` does it, two as `LTX2ConditionPipeline` does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.ltx2.utils import DEFAULT_IMAGE_CRF, apply_image_conditioning_crf
from diffusers.video_processor import VideoProcessor
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vitascope.media.arrays import Picture
from vitascope.models.ltx2.latents import Grid, pack
from vitascope.models.ltx2.vae import VideoVae


@dataclass(frozen=True, slots=True)
class Condition:
    """What the pictures fix of the video's tokens; the appended ones, `keyframe`, come after the clip's own.

    `clean`, (1, tokens, C), and `given`, (1, tokens, 1), cover both; `given` is 1 where `clean` counts.
    `keyframe_coords`, (1, 3, appended tokens, 2), says where in time and space the appended ones are.
    """

    clean: Tensor
    given: Tensor
    keyframe: Tensor | None = None
    keyframe_coords: Tensor | None = None

    def impose(self, tokens: Tensor) -> Tensor:
        """Put what is given in the place of (1, tokens, C)."""
        return tokens * (1 - self.given) + self.clean * self.given

    def extend(self, tokens: Tensor) -> Tensor:
        """Append the keyframe to the clip's own tokens."""
        return tokens if self.keyframe is None else torch.cat([tokens, self.keyframe], dim=1)


def first_frame_condition(picture: Picture, grid: Grid, vae: VideoVae) -> Condition:
    """Fix the first latent frame to a picture, stretched to the clip's size."""
    height, width = grid.height * vae.spatial, grid.width * vae.spatial
    processor = VideoProcessor(vae_scale_factor=vae.spatial, resample="bilinear")
    pixels: Any = processor.preprocess(Image.fromarray(_compressed(picture)), height=height, width=width)
    return _first(vae.encode(pixels[:, :, None]), grid)


def keyframes_condition(first: Picture, last: Picture, grid: Grid, vae: VideoVae, fps: float) -> Condition:
    """Fix the first latent frame to a picture, append another as the last; both are cropped to fill."""
    height, width = grid.height * vae.spatial, grid.width * vae.spatial
    begin, end = (vae.encode(_cover(_compressed(p), height, width, vae.device)) for p in (first, last))
    condition, keyframe = _first(begin, grid), pack(end)
    return Condition(
        clean=torch.cat([condition.clean, keyframe], dim=1),
        given=torch.cat([condition.given, keyframe.new_ones(1, keyframe.shape[1], 1)], dim=1),
        keyframe=keyframe,
        keyframe_coords=_keyframe_coords(grid, vae, fps),
    )


def _first(latents: Tensor, grid: Grid) -> Condition:
    """Fix the first latent frame to (1, C, 1, h, w)."""
    tokens = pack(latents)
    clean = tokens.new_zeros(1, grid.num_tokens, tokens.shape[2])
    given = tokens.new_zeros(1, grid.num_tokens, 1)
    clean[:, : tokens.shape[1]] = tokens
    given[:, : tokens.shape[1]] = 1
    return Condition(clean, given)


def _compressed(picture: Picture) -> Picture:
    """Send a picture through H.264 as hard as the training clips were; without, the model holds it still."""
    frame: Picture = apply_image_conditioning_crf(np.ascontiguousarray(picture), DEFAULT_IMAGE_CRF)
    return frame


def _cover(picture: Picture, height: int, width: int, device: torch.device) -> Tensor:
    """Scale a picture until it covers the frame and crop its middle: (1, 3, 1, height, width) in -1..1."""
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).float().permute(2, 0, 1)[None].to(device)
    scale = max(height / picture.shape[0], width / picture.shape[1])
    size = math.ceil(picture.shape[0] * scale), math.ceil(picture.shape[1] * scale)
    # Without antialiasing, as LTX-2's own code does it.
    pixels = functional.interpolate(pixels, size=size, mode="bilinear", align_corners=False)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    cropped = pixels[:, :, top : top + height, left : left + width]
    return (cropped / 127.5 - 1.0)[:, :, None]


def _keyframe_coords(grid: Grid, vae: VideoVae, fps: float) -> Tensor:
    """Bounds of the last frame's tokens in seconds and pixels, (1, 3, h * w, 2).

    The frame lasts one pixel frame and begins where the last latent frame does.
    """
    rows = torch.arange(grid.height, dtype=torch.float32, device=vae.device) * vae.spatial
    columns = torch.arange(grid.width, dtype=torch.float32, device=vae.device) * vae.spatial
    time = rows.new_tensor([(grid.frames - 2) * vae.temporal + 1])
    starts = torch.cartesian_prod(time, rows, columns).T  # (3, h * w)
    extent = starts.new_tensor([1.0, vae.spatial, vae.spatial])[:, None]
    coords = torch.stack([starts, starts + extent], dim=-1)[None]
    coords[:, 0] = coords[:, 0] / fps
    return coords
