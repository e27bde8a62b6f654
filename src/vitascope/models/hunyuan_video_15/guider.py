"""Classifier-free guidance as a folder's guider configures it: from when to when, rescaled, in which form."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from diffusers.guiders.guider_utils import rescale_noise_cfg
from torch import Tensor

from vitascope.errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class Guider:
    """diffusers' `ClassifierFreeGuidance`, without state: `guidance_scale` is the checkpoint's own.

    Guidance acts from `start` to `stop`, fractions of the steps. The original form (Ho and Salimans 2022)
    counts its scale from 0 where the usual one counts from 1.
    """

    guidance_scale: float = 7.5
    guidance_rescale: float = 0.0
    use_original_formulation: bool = False
    start: float = 0.0
    stop: float = 1.0
    enabled: bool = True

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Guider:
        """Read a guider_config.json.

        Raises:
            CheckpointError: it has a setting that is not known here.

        """
        settings = {k: v for k, v in config.items() if not k.startswith("_")}
        known = {f.name for f in fields(cls)}
        for name in settings:
            if name not in known:
                raise CheckpointError(f"guider/guider_config.json has an unknown setting {name!r}.")
        return cls(**settings)

    def guides(self, scale: float) -> bool:
        """Whether any step takes a second pass."""
        neutral = 0.0 if self.use_original_formulation else 1.0
        return self.enabled and not math.isclose(scale, neutral)

    def guides_step(self, scale: float, step: int, num_steps: int) -> bool:
        """Whether this step takes a second pass."""
        return self.guides(scale) and int(self.start * num_steps) <= step < int(self.stop * num_steps)

    def combine(self, cond: Tensor, uncond: Tensor | None, scale: float) -> Tensor:
        """Make one prediction of the passes; `uncond` is None where there was one pass."""
        combined = cond
        if uncond is not None:
            combined = (cond if self.use_original_formulation else uncond) + scale * (cond - uncond)
        if self.guidance_rescale > 0.0:
            combined = rescale_noise_cfg(combined, cond, self.guidance_rescale)
        return combined
