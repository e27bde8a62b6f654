from __future__ import annotations

import torch

from vitascope.sampling.even_sigmas import make_even_solver
from vitascope.sampling.solvers import make_solver

EULER = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 7.0, "num_train_timesteps": 1000}


def test_sigmas_are_even_before_the_shift() -> None:
    even = torch.tensor([1.0, 0.75, 0.5, 0.25])
    for shift in (1.0, 7.0):
        expected = 1000 * shift * even / (1 + (shift - 1) * even)
        timesteps = make_even_solver(EULER, None, 4, shift).timesteps
        torch.testing.assert_close(timesteps, expected)


def test_the_native_shift_holds_unless_another_is_asked_for() -> None:
    native, same, other = (make_even_solver(EULER, None, 4, s).timesteps for s in (None, 7.0, 3.0))
    assert torch.equal(native, same)
    assert not torch.equal(native, other)


def test_a_solver_of_another_name_keeps_its_own_schedule() -> None:
    ours, plain = (make(EULER, "unipc", 4, None).timesteps for make in (make_even_solver, make_solver))
    assert torch.equal(ours, plain)


def test_euler_can_be_asked_for_where_it_is_not_native() -> None:
    config = {"_class_name": "UniPCMultistepScheduler", "flow_shift": 7.0, "num_train_timesteps": 1000}
    asked, native = make_even_solver(config, "euler", 4, None), make_even_solver(EULER, None, 4, None)
    assert torch.equal(asked.timesteps, native.timesteps)
