"""The noise levels of a generation: shifted by its number of tokens, or a distilled checkpoint's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES
from torch import Tensor

from vitascope.sampling.solvers import FlowSolver

DISTILLED_STEPS = len(DISTILLED_SIGMA_VALUES)


class EulerSolver(FlowSolver):
    """Euler's method that tells its noise levels: guidance works on clean estimates and needs them."""

    def __init__(self, scheduler: FlowMatchEulerDiscreteScheduler) -> None:
        self.sigmas: Tensor = scheduler.sigmas  # (num_inference_steps + 1,)
        super().__init__(scheduler)


def is_distilled(config: Mapping[str, Any]) -> bool:
    """Whether a scheduler_config.json is a distilled checkpoint's, which takes noise levels as they are."""
    return not config.get("use_dynamic_shifting", False)


def make_euler(
    config: Mapping[str, Any], num_inference_steps: int, num_tokens: int, device: torch.device
) -> EulerSolver:
    """Make a fresh solver for one stream; `num_tokens` counts the video's, also for the sound's solver."""
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(dict(config))
    if is_distilled(config):
        scheduler.set_timesteps(sigmas=DISTILLED_SIGMA_VALUES, device=device)
    else:
        even = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)
        scheduler.set_timesteps(sigmas=even, mu=_shift(scheduler.config, num_tokens), device=device)
    return EulerSolver(scheduler)


def _shift(config: Any, num_tokens: int) -> float:
    """Return the shift's logarithm, on the line through the two lengths whose shifts are given."""
    low, high = config.base_image_seq_len, config.max_image_seq_len
    slope = (config.max_shift - config.base_shift) / (high - low)
    shift: float = num_tokens * slope + (config.base_shift - slope * low)
    return shift
