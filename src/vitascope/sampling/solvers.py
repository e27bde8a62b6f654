"""Solvers for flow-matching models: diffusers' schedulers, a fresh one for each generation and stream.

Solvers know nothing of models. Their history can be saved and put back, bit-identically, at every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from vitascope.errors import CheckpointError

NAMES = {
    "UniPCMultistepScheduler": "unipc",
    "FlowMatchEulerDiscreteScheduler": "euler",
    "DPMSolverMultistepScheduler": "dpm++",
}
SOLVERS = tuple(NAMES.values())

_CLASSES: dict[str, Any] = {
    "unipc": UniPCMultistepScheduler,
    "euler": FlowMatchEulerDiscreteScheduler,
    "dpm++": DPMSolverMultistepScheduler,
}

# The word that each class has for the shift of the noise schedule towards its noisy end.
_SHIFT = {"unipc": "flow_shift", "euler": "shift", "dpm++": "flow_shift"}

# How each class is told to solve a flow, where the checkpoint's own configuration is another class's.
_FLOW: dict[str, dict[str, Any]] = {
    "unipc": {"prediction_type": "flow_prediction", "use_flow_sigmas": True},
    "euler": {},
    "dpm++": {
        "algorithm_type": "dpmsolver++",
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
    },
}


class FlowSolver:
    """One stream's solver over a diffusers scheduler whose timesteps are set.

    Of these, the last `num_steps` are taken; all of them if it is None.
    """

    def __init__(self, scheduler: Any, num_steps: int | None = None) -> None:
        self._skipped = 0 if num_steps is None else len(scheduler.timesteps) - num_steps
        scheduler.set_begin_index(self._skipped)  # or it is looked up by a timestep that may occur twice
        self.timesteps: Tensor = scheduler.timesteps[self._skipped :]
        self._scheduler = scheduler
        self._fresh = dict(vars(scheduler))

    def step(self, prediction: Tensor, index: int, latents: Tensor) -> Tensor:
        """Return the latents after step `index`; steps are taken in order, each once."""
        timestep = self.timesteps[index]
        stepped: Tensor = self._scheduler.step(prediction, timestep, latents, return_dict=False)[0]
        return stepped

    def estimate(self, prediction: Tensor, index: int, latents: Tensor) -> Tensor:
        """Return the clean latents: the noisy ones less sigma times the predicted flow."""
        sigma = float(self._scheduler.sigmas[self._skipped + index])
        return latents - sigma * prediction.to(latents.dtype)

    def noised(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Return clean latents as they are before the first step: on the straight way to the noise."""
        sigma = self._scheduler.sigmas[self._skipped].to(latents.device, latents.dtype)
        noised: Tensor = (1 - sigma) * latents + sigma * noise
        return noised

    def state(self) -> dict[str, Tensor]:
        """Return every attribute that stepping changed: tensors, numbers and lists of tensors."""
        state: dict[str, Tensor] = {}
        for name, value in vars(self._scheduler).items():
            if isinstance(value, list):
                state |= {f"{name}.{i}": v for i, v in enumerate(value) if isinstance(v, Tensor)}
            elif value is not self._fresh.get(name):
                state |= _packed(name, value)
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Put a saved history into this fresh solver."""
        device = self.timesteps.device
        for key, value in state.items():
            name, _, index = key.partition(".")
            if name.startswith("#"):
                setattr(self._scheduler, name[1:], value.item())
            elif index:
                vars(self._scheduler)[name][int(index)] = value.to(device)
            else:
                setattr(self._scheduler, name, value.to(device))


def _packed(name: str, value: Any) -> dict[str, Tensor]:
    """One attribute as named tensors; numbers are marked with '#' so that they come back as numbers."""
    if isinstance(value, Tensor):
        return {name: value}
    if isinstance(value, bool | int | float):
        return {f"#{name}": torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)}
    raise TypeError(f"a solver keeps {name!r} as {type(value).__name__}, which cannot be saved")


def native_solver(config: Mapping[str, Any]) -> str:
    """Return the name of the solver that a checkpoint's scheduler_config.json asks for.

    Raises:
        CheckpointError: the class is none of ours.

    """
    name = str(config.get("_class_name"))
    if name not in NAMES:
        known = ", ".join(sorted(NAMES))
        raise CheckpointError(
            f"scheduler/scheduler_config.json asks for {name!r}; schedulers known here are {known}."
        )
    return NAMES[name]


def native_shift(config: Mapping[str, Any]) -> float:
    """Return the flow shift that a checkpoint's scheduler_config.json sets (1 is none)."""
    return float(config.get(_SHIFT[native_solver(config)]) or 1.0)


def make_solver(
    config: Mapping[str, Any],
    name: str | None,
    num_inference_steps: int,
    flow_shift: float | None,
    device: torch.device | str = "cpu",
    *,
    num_steps: int | None = None,
) -> FlowSolver:
    """Make a fresh solver for one stream of one generation; it takes the last `num_steps` of the schedule.

    `config` is the checkpoint's scheduler_config.json. Its own class is built from it as diffusers does;
    another `name` (one of `SOLVERS`) takes only the length of the schedule and the shift from it.
    """
    native = native_solver(config)
    name = name or native
    shift = native_shift(config) if flow_shift is None else flow_shift
    if name == native:
        scheduler = _CLASSES[name].from_config(dict(config), **{_SHIFT[name]: shift})
    else:
        num_train = int(config.get("num_train_timesteps", 1000))
        scheduler = _CLASSES[name](num_train_timesteps=num_train, **{_SHIFT[name]: shift}, **_FLOW[name])
    scheduler.set_timesteps(num_inference_steps, device=device)
    return FlowSolver(scheduler, num_steps)
