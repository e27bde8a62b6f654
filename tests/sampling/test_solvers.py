import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from vitascope.errors import CheckpointError
from vitascope.sampling.solvers import SOLVERS, make_solver, native_shift, native_solver

CONFIG = {
    "_class_name": "UniPCMultistepScheduler",
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "flow_shift": 3.0,
    "num_train_timesteps": 1000,
}
EULER = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 5.0, "num_train_timesteps": 1000}


def flow(clean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """What a perfect model predicts on the straight path from `noise` to `clean`."""
    return noise - clean


@pytest.mark.parametrize("name", SOLVERS)
def test_a_perfect_prediction_leads_to_the_clean_latents(name: str) -> None:
    clean, noise = torch.full((1, 2, 1, 2, 2), 0.5), torch.randn(1, 2, 1, 2, 2)
    solver, latents = make_solver(CONFIG, name, 6, None), noise
    for i in range(6):
        assert torch.allclose(solver.estimate(flow(clean, noise), i, latents), clean, atol=2e-2)
        latents = solver.step(flow(clean, noise), i, latents)
    assert torch.allclose(latents, clean, atol=2e-2)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_history_put_back_at_any_step_goes_on_to_the_bit(name: str) -> None:
    torch.manual_seed(0)
    predictions = torch.randn(6, 1, 2, 1, 2, 2)
    solver, latents, saved = make_solver(CONFIG, name, 6, None), torch.randn(1, 2, 1, 2, 2), []
    for i, prediction in enumerate(predictions):
        saved.append(({k: v.clone() for k, v in solver.state().items()}, latents))
        latents = solver.step(prediction, i, latents)
    for start, (state, then) in enumerate(saved):
        again = make_solver(CONFIG, name, 6, None)
        again.restore(state)
        resumed = then
        for i in range(start, 6):
            resumed = again.step(predictions[i], i, resumed)
        assert torch.equal(resumed, latents), start


def test_a_fresh_solver_has_no_history() -> None:
    assert make_solver(CONFIG, "euler", 4, None).state() == {}


@pytest.mark.parametrize("shift", [1.0, 3.0, 12.0])
@pytest.mark.parametrize("steps", [1, 4, 100])
def test_the_checkpoints_own_scheduler_is_followed_exactly(shift: float, steps: int) -> None:
    reference = UniPCMultistepScheduler.from_config(CONFIG, flow_shift=shift)
    reference.set_timesteps(steps)
    assert torch.equal(make_solver(CONFIG, None, steps, shift).timesteps, reference.timesteps)
    reference = FlowMatchEulerDiscreteScheduler.from_config(EULER, shift=shift)
    reference.set_timesteps(steps)
    assert torch.equal(make_solver(EULER, None, steps, shift).timesteps, reference.timesteps)


def test_a_timestep_that_occurs_twice_does_not_confuse_the_steps() -> None:
    solver = make_solver(CONFIG, "unipc", 100, 12.0)
    assert len(solver.timesteps.unique()) < len(solver.timesteps)
    latents = torch.zeros(1, 1, 1, 1, 1)
    for i in range(100):
        latents = solver.step(torch.ones_like(latents), i, latents)
    assert torch.allclose(latents, torch.tensor(-1.0), atol=1e-3)


def test_native_values_are_read_from_either_class() -> None:
    assert (native_solver(CONFIG), native_shift(CONFIG)) == ("unipc", 3.0)
    assert (native_solver(EULER), native_shift(EULER)) == ("euler", 5.0)


def test_an_unknown_scheduler_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(CheckpointError, match=r"'DDIMScheduler'.*UniPCMultistepScheduler"):
        make_solver({"_class_name": "DDIMScheduler"}, None, 4, None)
