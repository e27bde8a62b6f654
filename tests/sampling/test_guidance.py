import pytest
import torch

from vitascope.sampling.guidance import classifier_free, guides


@pytest.mark.parametrize(("scale", "expected"), [(0.0, False), (1.0, False), (1.01, True), (5.0, True)])
def test_only_a_scale_above_one_asks_for_a_second_pass(scale: float, expected: bool) -> None:
    assert guides(scale) is expected


def test_guidance_extrapolates_from_the_unconditional_prediction() -> None:
    cond, uncond = torch.tensor([3.0]), torch.tensor([1.0])
    assert classifier_free(cond, uncond, 1.0) == 3.0
    assert classifier_free(cond, uncond, 2.5) == 6.0
