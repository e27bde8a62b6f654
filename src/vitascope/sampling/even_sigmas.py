"""The Euler schedule of models whose pipelines hand the solver evenly spaced sigmas, from 1 to 1 / steps.

diffusers' own schedule, which `solvers` keeps to, ends at a different smallest sigma.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from vitascope.sampling.solvers import FlowSolver, make_solver, native_shift, native_solver


def make_even_solver(
    config: Mapping[str, Any],
    name: str | None,
    num_inference_steps: int,
    flow_shift: float | None,
    device: torch.device | str = "cpu",
) -> FlowSolver:
    """Make a fresh solver as `solvers.make_solver` does, with even sigmas (before the shift) for Euler's."""
    native = native_solver(config)
    if (name or native) != "euler":
        return make_solver(config, name, num_inference_steps, flow_shift, device)
    shift = native_shift(config) if flow_shift is None else flow_shift
    own = {"num_train_timesteps": int(config.get("num_train_timesteps", 1000))}
    settings = dict(config) if native == "euler" else own
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(settings, shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, num_inference_steps + 1)[:-1], device=device)
    return FlowSolver(scheduler)
