"""CogVideoX's solvers away from any model: schedules, estimates and saved histories."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

from vitascope.errors import CheckpointError
from vitascope.sampling.cogvideox import SOLVERS, make_solver, native_solver

SHAPE = (1, 3, 4, 2, 2)


def config(kind: Any = CogVideoXDDIMScheduler, **values: Any) -> dict[str, Any]:
    schedule = {"prediction_type": "v_prediction", "timestep_spacing": "trailing"} | values
    return {"_class_name": kind.__name__} | dict(kind(rescale_betas_zero_snr=True, **schedule).config)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def predict(latents: torch.Tensor, index: int) -> torch.Tensor:
    """Stand in for a model."""
    return torch.sin(latents + index)


def walk(solver: Any, latents: torch.Tensor, start: int = 0) -> torch.Tensor:
    for index in range(start, len(solver.timesteps)):
        latents = solver.step(predict(latents, index), index, latents)
    return latents


@pytest.mark.parametrize("steps", [1, 2, 50, 61, 103, 121, 122, 200])
def test_there_are_as_many_timesteps_as_asked_and_none_below_zero(steps: int) -> None:
    for name in SOLVERS:
        timesteps = make_solver(config(), name, steps, seeded()).timesteps
        assert len(timesteps) == steps
        assert timesteps.min() >= 0


def test_the_other_class_is_built_on_the_checkpoints_own_noise_schedule() -> None:
    solver = make_solver(config(snr_shift_scale=1.5, timestep_spacing="linspace"), "dpm", 4, seeded())
    assert isinstance(solver._scheduler, CogVideoXDPMScheduler)
    assert solver._scheduler.config.snr_shift_scale == 1.5
    assert solver.timesteps.tolist() == [999, 749, 499, 249]


def test_dpm_resumed_at_any_step_draws_the_noise_it_would_have_drawn() -> None:
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    whole = walk(make_solver(config(), "dpm", 5, seeded()), noise)
    running, latents = make_solver(config(), "dpm", 5, seeded()), noise
    for index in range(4):
        latents = running.step(predict(latents, index), index, latents)
        state = {name: value.clone() for name, value in running.state().items()}
        resumed = make_solver(config(), "dpm", 5, torch.Generator().manual_seed(99))
        resumed.restore(state)
        assert torch.equal(walk(resumed, latents, index + 1), whole), index


def test_another_seed_changes_dpms_way_and_not_ddims() -> None:
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    for name, same in (("ddim", True), ("dpm", False)):
        ends = [walk(make_solver(config(), name, 4, torch.Generator().manual_seed(s)), noise) for s in (1, 2)]
        assert torch.equal(*ends) is same


@pytest.mark.parametrize("name", SOLVERS)
def test_latents_keep_their_dtype(name: str) -> None:
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert walk(make_solver(config(), name, 3, seeded()), noise).dtype is torch.bfloat16


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_an_estimate_finds_the_clean_latents_of_a_perfect_prediction(prediction_type: str) -> None:
    solver = make_solver(config(prediction_type=prediction_type), None, 4, seeded())
    clean, noise = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    alpha = float(solver._scheduler.alphas_cumprod[solver.timesteps[2]])
    latents = alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise
    velocity = alpha**0.5 * noise - (1 - alpha) ** 0.5 * clean
    prediction = {"epsilon": noise, "sample": clean, "v_prediction": velocity}[prediction_type]
    torch.testing.assert_close(solver.estimate(prediction, 2, latents), clean, rtol=1e-4, atol=1e-4)


def test_an_unknown_scheduler_or_prediction_is_refused_by_name() -> None:
    with pytest.raises(CheckpointError, match="asks for 'LCMScheduler'"):
        native_solver({"_class_name": "LCMScheduler"})
    with pytest.raises(CheckpointError, match="prediction_type is 'score'"):
        native_solver(config() | {"prediction_type": "score"})
