"""How a clip lies in latents: its grid, and the token sequences that the transformer reads."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Grid:
    """A clip's size in latents: frames, height and width of the video, and the length of its sound."""

    frames: int
    height: int
    width: int
    audio_frames: int

    @property
    def num_tokens(self) -> int:
        """How many tokens the video has."""
        return self.frames * self.height * self.width


def pack(latents: Tensor) -> Tensor:
    """Lay (1, C, T, H, W) out as tokens, (1, T * H * W, C).

    A view, channels outermost in memory, as in the reference: sums over it then run in the reference's order.
    """
    return latents.flatten(2).transpose(1, 2)


def unpack(tokens: Tensor, grid: Grid) -> Tensor:
    """Put (1, T * H * W, C) tokens back in their places, (1, C, T, H, W)."""
    return tokens.transpose(1, 2).view(1, -1, grid.frames, grid.height, grid.width)


def pack_audio(latents: Tensor) -> Tensor:
    """Lay (1, C, L, M) sound out as tokens, (1, L, C * M)."""
    return latents.transpose(1, 2).flatten(2, 3)


def unpack_audio(tokens: Tensor, channels: int) -> Tensor:
    """Put (1, L, C * M) tokens of sound back in their places, (1, C, L, M)."""
    return tokens.view(1, tokens.shape[1], channels, -1).transpose(1, 2)
