"""The transformer as a function from noisy tokens to clean ones, whole or weakened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vitascope.models.ltx2.latents import Grid
from vitascope.models.ltx2.text import Text
from vitascope.sampling.trajectory import Streams


@dataclass(frozen=True, slots=True)
class Turn:
    """One sample at its current step, as the transformer reads it.

    `video` is (1, tokens, C), `audio` (1, L, D), both float32; `timestep` and its noise level `sigma` are
    scalars. `video_timestep` is the timestep too, or where pictures are given (tokens,): 0 for what they fix.
    Coordinates are (1, 3, tokens, 2) and (1, 1, L, 2).
    """

    grid: Grid
    video: Tensor
    audio: Tensor
    timestep: Tensor
    video_timestep: Tensor
    sigma: Tensor
    video_coords: Tensor
    audio_coords: Tensor

    def clean(self, flow: Streams) -> Streams:
        """Return the clean estimates that a predicted flow points to."""
        return {
            "video": self.video - flow["video"] * self.sigma,
            "audio": self.audio - flow["audio"] * self.sigma,
        }

    def flow(self, clean: Streams) -> Streams:
        """Return the flow that points to given clean estimates."""
        return {
            "video": (self.video - clean["video"]) / self.sigma,
            "audio": (self.audio - clean["audio"]) / self.sigma,
        }


class Denoiser:
    """One transformer. `crossed` (LTX-2.3): a stream's gates to the other follow the other's noise level."""

    def __init__(self, transformer: Any, dtype: torch.dtype, *, crossed: bool) -> None:
        self._transformer = transformer
        self._dtype = dtype
        self._crossed = crossed

    def __call__(
        self,
        turns: Sequence[Turn],
        texts: Sequence[Text],
        *,
        perturbed_block: int | None = None,
        isolated: bool = False,
    ) -> list[Streams]:
        """Return each turn's clean estimates, float32, in one pass over all of them.

        `perturbed_block` is a block to go without self-attention; `isolated` keeps video and sound apart.
        """
        timestep = torch.stack([t.timestep for t in turns])  # (B,)
        mask = _mask(texts)
        grid = turns[0].grid
        video, audio = self._transformer(
            hidden_states=torch.cat([t.video for t in turns]).to(self._dtype),
            audio_hidden_states=torch.cat([t.audio for t in turns]).to(self._dtype),
            encoder_hidden_states=torch.cat([t.video for t in texts]),
            audio_encoder_hidden_states=torch.cat([t.audio for t in texts]),
            timestep=torch.stack([t.video_timestep for t in turns]),
            audio_timestep=timestep,
            sigma=timestep,
            encoder_attention_mask=mask,
            audio_encoder_attention_mask=mask,
            num_frames=grid.frames,
            height=grid.height,
            width=grid.width,
            audio_num_frames=grid.audio_frames,
            video_coords=torch.cat([t.video_coords for t in turns]),
            audio_coords=torch.cat([t.audio_coords for t in turns]),
            isolate_modalities=isolated,
            spatio_temporal_guidance_blocks=None if perturbed_block is None else [perturbed_block],
            use_cross_timestep=self._crossed,
            return_dict=False,
        )
        flows = zip(video.float().split(1), audio.float().split(1), strict=True)
        return [t.clean({"video": v, "audio": a}) for t, (v, a) in zip(turns, flows, strict=True)]


def _mask(texts: Sequence[Text]) -> Tensor | None:
    """Join the texts' masks, (B, L); None when every token of every text counts."""
    masks = [t.mask for t in texts]
    some = next((m for m in masks if m is not None), None)
    if some is None:
        return None
    return torch.cat([torch.ones_like(some) if m is None else m for m in masks])
