"""Which CUDA devices are taken; that needs none."""

from __future__ import annotations

import pytest

from vitascope.engine.cuda import runs_on

CUDA_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((7, 5), CUDA_13, True),
        ((7, 0), CUDA_13, False),  # V100: nothing for it in builds for CUDA 13
        ((6, 1), CUDA_13, False),
        ((8, 9), CUDA_13, True),  # by what was built for 8.6
        ((10, 3), CUDA_13, True),
        ((11, 0), CUDA_13, False),  # what was built for 10.0 is of another major number
        ((12, 1), CUDA_13, True),
        ((13, 0), CUDA_13, True),  # from what is still to be translated, compute_120
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_90a"], True),
        ((9, 4), ["gfx942", "gfx1100"], True),  # AMD
        ((8, 0), [], True),
    ],
)
def test_a_device_runs_what_was_built_for_its_kind(
    capability: tuple[int, int], built_for: list[str], runs: bool
) -> None:
    assert runs_on(capability, built_for) is runs
