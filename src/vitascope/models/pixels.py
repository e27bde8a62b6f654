"""From a VAE's numbers to pictures, and the linear sketch of latents that previews are made of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vitascope.media.arrays import Picture, Pixels

_RIDGE = 1e-3


def to_pixels(video: Tensor) -> Pixels:
    """Turn (1, 3, T, H, W) in -1..1 into uint8 frames (T, H, W, 3), rounded as diffusers' PIL output is."""
    scaled = (video[0].float() * 0.5 + 0.5).clamp(0, 1).mul(255.0).round().to(torch.uint8)  # (3, T, H, W)
    frames: Pixels = scaled.permute(1, 2, 3, 0).contiguous().cpu().numpy()
    return frames


class Sketch:
    """A linear map from one latent position's channels to the `grid` x `grid` colours that it covers.

    Fitted once by ridge regression: a few generated pictures (soft colour fields with hard-edged boxes) go
    through the VAE's encoder, and each latent is matched with the mean colours of its patch. Drawing is then
    one small matrix product, far below a step's cost and without the decoder.
    """

    def __init__(self, weight: Tensor, grid: int) -> None:
        self._weight = weight  # (C + 1, grid * grid * 3)
        self._grid = grid

    @classmethod
    def fit(
        cls, encode: Callable[[Tensor], Tensor], *, spatial: int, num_frames: int, device: torch.device
    ) -> Sketch:
        """Fit to a VAE: `encode` maps (1, 3, T, H, W) in -1..1 to the latents that the model denoises.

        `spatial` is how many pixels a latent covers in height and width; `num_frames` pixels make two latent
        frames.
        """
        grid = max(spatial // 4, 1)
        rows, colours = [], []
        for seed in range(6):
            picture = _training_picture(seed, 8 * spatial).to(device)  # (1, 3, S, S)
            latents = encode(picture[:, :, None].expand(-1, -1, num_frames, -1, -1)).float()
            small = functional.adaptive_avg_pool2d(picture, 8 * grid)  # (1, 3, 8g, 8g)
            patches = functional.pixel_unshuffle(small, grid)[0].permute(1, 2, 0)  # (8, 8, 3gg)
            for frame in range(latents.shape[2]):
                rows.append(latents[0, :, frame].permute(1, 2, 0).flatten(0, 1))
                colours.append(patches.flatten(0, 1))
        x = _with_bias(torch.cat(rows)).double().cpu()
        y = torch.cat(colours).double().cpu()
        normal = x.T @ x + _RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
        return cls(torch.linalg.solve(normal, x.T @ y).float().to(device), grid)

    def draw(self, latents: Tensor) -> Picture:
        """Draw the middle frame of (1, C, T, h, w) latents as an RGB picture of (h * grid, w * grid)."""
        frame = latents[0, :, latents.shape[2] // 2].permute(1, 2, 0).float()  # (h, w, C)
        patches = _with_bias(frame) @ self._weight  # (h, w, 3gg)
        picture = functional.pixel_shuffle(patches.permute(2, 0, 1)[None], self._grid)  # (1, 3, hg, wg)
        drawn: Picture = to_pixels(picture[:, :, None])[0]
        return drawn


def _with_bias(x: Tensor) -> Tensor:
    return torch.cat([x, x.new_ones(*x.shape[:-1], 1)], dim=-1)


def _training_picture(seed: int, size: int) -> Tensor:
    """Paint a soft field of colours with a few flat boxes on it, (1, 3, size, size) in -1..1."""
    rng = np.random.default_rng(seed)
    field = torch.from_numpy(rng.uniform(-1, 1, (1, 3, 4, 4)).astype(np.float32))
    picture = functional.interpolate(field, size=(size, size), mode="bilinear", align_corners=True)
    for _ in range(6):
        top, left = rng.integers(0, size, 2)
        height, width = rng.integers(size // 8, size // 2, 2)
        colour = torch.from_numpy(rng.uniform(-1, 1, (3, 1, 1)).astype(np.float32))
        picture[0, :, top : top + height, left : left + width] = colour
    return picture
