"""One generation's way from noise to latents, and the loop along it.

The loop is a generator: it yields whenever it needs the model's prediction and takes one step when that is
sent in, so whoever drives it owns progress, preview, cancel, pre-emption and checkpoints, and may let several
generations take turns.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

# Latents or predictions by stream: {"video": (1, C, T, H, W)}, for some models also "audio".
Streams = dict[str, Tensor]


class Solver(Protocol):
    """One stream's solver: a fresh one for each generation, since solvers keep history."""

    timesteps: Tensor  # (num_inference_steps,)

    def step(self, prediction: Tensor, index: int, latents: Tensor) -> Tensor:
        """Return the latents after step `index`."""

    def estimate(self, prediction: Tensor, index: int, latents: Tensor) -> Tensor:
        """Return the clean latents that the prediction at step `index` points to."""

    def state(self) -> dict[str, Tensor]:
        """Return all history that the next steps depend on, random state included."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved history, bit-identically; only for a solver that took no step yet."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What the last step was taken from: enough to say where it points, at no cost until asked."""

    prediction: Streams
    latents: Streams
    step: int


@dataclass(slots=True)
class Trajectory:
    """Where one generation stands: its streams, their solvers and how many steps are done."""

    latents: Streams
    solvers: dict[str, Solver]
    step: int = 0
    _last: _Look | None = field(default=None, init=False, repr=False)

    @property
    def num_steps(self) -> int:
        """How many steps there are in all."""
        return len(self.solvers["video"].timesteps)

    @property
    def timestep(self) -> Tensor:
        """The current timestep, a scalar of the solver's own dtype."""
        return self.solvers["video"].timesteps[self.step]

    def advance(self, prediction: Streams) -> None:
        """Take one step in every stream."""
        self._last = _Look(prediction, self.latents, self.step)
        self.latents = {
            stream: solver.step(prediction[stream], self.step, self.latents[stream])
            for stream, solver in self.solvers.items()
        }
        self.step += 1

    def estimate(self, stream: str = "video") -> Tensor | None:
        """Return the clean latents that the last step's prediction points to; None before the first step."""
        if self._last is None:
            return None
        look = self._last
        return self.solvers[stream].estimate(look.prediction[stream], look.step, look.latents[stream])

    def state(self) -> dict[str, Tensor]:
        """Return everything the remaining steps depend on, as flat named tensors."""
        state = {"step": torch.tensor(self.step)}
        for stream, solver in self.solvers.items():
            state[f"{stream}.latents"] = self.latents[stream]
            state |= {f"{stream}.solver.{name}": value for name, value in solver.state().items()}
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved state, bit-identically; only for a trajectory that took no step yet."""
        for stream, solver in self.solvers.items():
            prefix = f"{stream}.solver."
            self.latents[stream] = state[f"{stream}.latents"].to(self.latents[stream].device)
            solver.restore({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        self.step = int(state["step"])


def denoise(trajectory: Trajectory) -> Generator[Trajectory, Streams, None]:
    """Yield the trajectory whenever a prediction is due, until its last step is done."""
    while trajectory.step < trajectory.num_steps:
        prediction = yield trajectory
        trajectory.advance(prediction)
