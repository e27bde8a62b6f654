import torch
from torch import Tensor

from vitascope.sampling.trajectory import Trajectory, denoise


class Halving:
    """A solver with a memory: each step halves the latents and adds all predictions so far."""

    def __init__(self, steps: int) -> None:
        self.timesteps = torch.arange(steps, 0, -1)
        self.total = torch.tensor(0.0)

    def step(self, prediction: Tensor, index: int, latents: Tensor) -> Tensor:
        self.total = self.total + prediction
        return latents / 2 + self.total

    def estimate(self, prediction: Tensor, index: int, latents: Tensor) -> Tensor:
        return latents - index * prediction

    def state(self) -> dict[str, Tensor]:
        return {"total": self.total}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.total = state["total"]


def two_streams(steps: int = 3) -> Trajectory:
    latents = {"video": torch.tensor(8.0), "audio": torch.tensor(4.0)}
    return Trajectory(latents, {"video": Halving(steps), "audio": Halving(steps)})


def drive(trajectory: Trajectory) -> list[int]:
    """Send the current latents back as the prediction; return the timesteps that were asked for."""
    seen, loop = [], denoise(trajectory)
    due = next(loop, None)
    while due is not None:
        seen.append(int(due.timestep))
        try:
            due = loop.send(dict(due.latents))
        except StopIteration:
            break
    return seen


def test_the_loop_asks_once_for_each_step_and_ends() -> None:
    trajectory = two_streams()
    assert drive(trajectory) == [3, 2, 1]
    assert trajectory.step == trajectory.num_steps == 3


def test_a_finished_trajectory_asks_for_nothing() -> None:
    trajectory = two_streams()
    drive(trajectory)
    assert drive(trajectory) == []


def test_a_state_put_back_at_any_step_ends_the_same() -> None:
    whole = two_streams()
    drive(whole)
    for stop in range(4):
        part = two_streams()
        for _ in range(stop):
            part.advance(dict(part.latents))
        resumed = two_streams()
        resumed.restore(part.state())
        assert resumed.step == stop
        drive(resumed)
        assert resumed.latents == whole.latents


def test_the_estimate_is_of_the_last_step_and_none_before_it() -> None:
    trajectory = two_streams()
    assert trajectory.estimate() is None
    trajectory.advance({"video": torch.tensor(1.0), "audio": torch.tensor(1.0)})
    trajectory.advance({"video": torch.tensor(2.0), "audio": torch.tensor(1.0)})
    assert trajectory.estimate() == 5.0 - 1 * 2.0
    assert trajectory.estimate("audio") == 3.0 - 1 * 1.0
