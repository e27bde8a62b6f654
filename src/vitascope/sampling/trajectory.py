"""One generation's way from noise to latents, and the loop along it.

The loop is a generator: it yields whenever it needs the model's prediction and takes one step when that is
sent in, so whoever drives it owns progress, preview, cancel, pre-emption and checkpoints, and may let several
generations take turns.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

Streams = dict[
    str, Tensor
]  # latents or predictions by stream: {"video": (1, C, T, H, W)}, for some models also "audio"


class Solver(Protocol):
    """One stream's solver: a fresh one for each generation, since solvers keep history."""

    timesteps: Tensor  # (num_inference_steps,)

    def step(self, prediction: Tensor, index: int, latents: Tensor) -> Tensor:
        """Return the latents after step `index`."""

    def state(self) -> dict[str, Tensor]:
        """Return all history that the next steps depend on."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved history, bit-identically."""


@dataclass(slots=True)
class Trajectory:
    """Where one generation stands: its streams, their solvers and how many steps are done."""

    latents: Streams
    solvers: dict[str, Solver]
    step: int = 0

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
        for stream, solver in self.solvers.items():
            self.latents[stream] = solver.step(prediction[stream], self.step, self.latents[stream])
        self.step += 1


def denoise(trajectory: Trajectory) -> Generator[Trajectory, Streams, None]:
    """Yield the trajectory whenever a prediction is due, until its last step is done."""
    while trajectory.step < trajectory.num_steps:
        prediction = yield trajectory
        trajectory.advance(prediction)
