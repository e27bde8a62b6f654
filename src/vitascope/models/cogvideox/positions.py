"""Rotary positions of CogVideoX: stretched to the trained size in 1.0, counted from the corner in 1.5."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from torch import Tensor

from vitascope.models.cogvideox.vae import Shape

Rotary = tuple[Tensor, Tensor]  # cosines and sines, each (tokens, head_dim)


def rotary_positions(config: Any, shape: Shape, device: torch.device) -> Rotary | None:
    """Return the positions for latents of a shape, (1, T, C, H, W); None where the network has others."""
    if not config.use_rotary_positional_embeddings:
        return None
    _, frames, _, height, width = shape
    patch = config.patch_size
    grid = (height // patch, width // patch)
    trained = (config.sample_height // patch, config.sample_width // patch)
    where: dict[str, Any] = {"embed_dim": config.attention_head_dim, "grid_size": grid, "device": device}
    rotary: Rotary
    if config.patch_size_t is None:
        rotary = get_3d_rotary_pos_embed(crops_coords=_crop(grid, trained), temporal_size=frames, **where)
    else:
        rotary = get_3d_rotary_pos_embed(
            crops_coords=None,
            temporal_size=frames // config.patch_size_t,
            grid_type="slice",
            max_size=trained,
            **where,
        )
    return rotary


def _crop(grid: tuple[int, int], trained: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Fit a grid into the trained one, keeping its shape, and centre it: top left and bottom right."""
    (height, width), (full_height, full_width) = grid, trained
    if height / width > full_height / full_width:
        fit = (full_height, round(full_height / height * width))
    else:
        fit = (round(full_width / width * height), full_width)
    top, left = round((full_height - fit[0]) / 2.0), round((full_width - fit[1]) / 2.0)
    return (top, left), (top + fit[0], left + fit[1])
