"""CogVideoX's solvers: its DDIM, and its DPM-Solver++ (2M), which is an SDE and draws noise at every step.

Both are diffusers' schedulers over discrete timesteps of a variance-preserving process, a fresh one for each
generation. They know nothing of models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler
from torch import Generator, Tensor

from vitascope.errors import CheckpointError

NAMES = {"CogVideoXDDIMScheduler": "ddim", "CogVideoXDPMScheduler": "dpm"}
SOLVERS = tuple(NAMES.values())

_CLASSES: dict[str, Any] = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}
_PREDICTIONS = ("epsilon", "sample", "v_prediction")
_CONFIG = "scheduler/scheduler_config.json"


class _Discrete:
    """What both solvers share: a schedule of timesteps, and where a prediction points."""

    def __init__(self, scheduler: Any, num_inference_steps: int) -> None:
        scheduler.set_timesteps(num_inference_steps)
        # "trailing" spacing has one step too many for some counts (61 is the first), at a timestep below 0.
        # They stay on the CPU, where looking up a step's coefficients waits for no device.
        self.timesteps: Tensor = scheduler.timesteps[:num_inference_steps]
        self._scheduler = scheduler

    def estimate(self, prediction: Tensor, index: int, latents: Tensor) -> Tensor:
        """Return the clean latents that a prediction (of velocity, noise or themselves) points to."""
        alpha = float(self._scheduler.alphas_cumprod[self.timesteps[index]])
        share, noise_share = math.sqrt(alpha), math.sqrt(1 - alpha)
        prediction = prediction.to(latents.dtype)
        match self._scheduler.config.prediction_type:
            case "v_prediction":
                return share * latents - noise_share * prediction
            case "epsilon":
                return (latents - noise_share * prediction) / max(share, 1e-4)  # at full noise it is 0
            case _:
                return prediction


class DdimSolver(_Discrete):
    """DDIM without added noise: a step depends on nothing but the latents."""

    def step(self, prediction: Tensor, index: int, latents: Tensor) -> Tensor:
        """Return the latents after step `index`, in the dtype they came in."""
        t = self.timesteps[index]
        stepped: Tensor = self._scheduler.step(prediction, t, latents, return_dict=False)[0]
        return stepped.to(latents.dtype)

    def state(self) -> dict[str, Tensor]:
        """Return nothing: there is no history."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take nothing back."""
        assert not state


class DpmSolver(_Discrete):
    """DPM-Solver++ (2M) as an SDE: looks back one step, draws its noise from the generation's generator."""

    def __init__(self, scheduler: Any, num_inference_steps: int, generator: Generator) -> None:
        super().__init__(scheduler, num_inference_steps)
        self._generator = generator
        self._clean: Tensor | None = None

    def step(self, prediction: Tensor, index: int, latents: Tensor) -> Tensor:
        """Return the latents after step `index`, in the dtype they came in; steps are taken in order."""
        stepped: Tensor
        stepped, self._clean = self._scheduler.step(
            prediction,
            None if self._clean is None else self._clean.to(latents.device),
            self.timesteps[index],
            self.timesteps[index - 1] if index else None,
            latents,
            generator=self._generator,
        )
        return stepped.to(latents.dtype)

    def state(self) -> dict[str, Tensor]:
        """Return the last clean estimate and where the generator stands."""
        state = {"generator": self._generator.get_state()}
        return state if self._clean is None else state | {"clean": self._clean}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Put a saved history into this fresh solver, and the generator where it stood."""
        self._generator.set_state(state["generator"])
        self._clean = state.get("clean")


def native_solver(config: Mapping[str, Any]) -> str:
    """Return the name of the solver that a checkpoint's scheduler_config.json asks for.

    Raises:
        CheckpointError: the class is none of ours, or predicts what it cannot step from.

    """
    name = str(config.get("_class_name"))
    if name not in NAMES:
        raise CheckpointError(f"{_CONFIG} asks for {name!r}; CogVideoX's are {', '.join(NAMES)}.")
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in _PREDICTIONS:
        known = ", ".join(_PREDICTIONS)
        raise CheckpointError(f"{_CONFIG}: prediction_type is {prediction!r}; known are {known}.")
    return NAMES[name]


def make_solver(
    config: Mapping[str, Any], name: str | None, num_inference_steps: int, generator: Generator
) -> DdimSolver | DpmSolver:
    """Make a fresh solver for one generation, whose noise, if it needs any, comes from `generator`.

    `config` is the checkpoint's scheduler_config.json; another solver than its own (`name`, one of `SOLVERS`)
    takes its noise schedule, with the "trailing" spacing that the authors recommend.
    """
    native = native_solver(config)
    name = name or native
    changes = {} if name == native else {"timestep_spacing": "trailing"}
    scheduler = _CLASSES[name].from_config(dict(config), **changes)
    if name == "dpm":
        return DpmSolver(scheduler, num_inference_steps, generator)
    return DdimSolver(scheduler, num_inference_steps)
