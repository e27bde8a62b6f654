"""Whether a CUDA device is there and can be used by this PyTorch: known before anything is loaded on it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from vitascope.errors import ConfigurationError

_BUILT_FOR = re.compile(r"(sm|compute)_(\d+)(\d)[a-z]*")


def check_usable(where: torch.device) -> None:
    """Start CUDA in this process and look at a device.

    Raises:
        ConfigurationError: CUDA does not start (no driver, one that is too old, a PyTorch without it), there
            is no device of that number, or it is of a kind that this PyTorch was not built for.

    """
    trouble = starting_trouble()
    if trouble is not None:
        raise ConfigurationError(
            f"device is {str(where)!r}, but CUDA cannot be used: {trouble} Mend that, or use cpu."
        )
    count = torch.cuda.device_count()
    if (where.index or 0) >= count:
        raise ConfigurationError(
            f"device is {str(where)!r}, but this machine has {count} CUDA devices; use cpu or auto."
        )
    built_for = torch.cuda.get_arch_list()
    if not runs_on(torch.cuda.get_device_capability(where), built_for):
        name = torch.cuda.get_device_name(where)
        raise ConfigurationError(
            f"device is {str(where)!r}, a {name}, but torch {torch.__version__} is built for "
            f"{', '.join(built_for)} alone; install one for it (https://pytorch.org), or use cpu."
        )


def starting_trouble() -> str | None:
    """Return why CUDA cannot be used in this process, as PyTorch says it; None if it can."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        said = str(error).strip().splitlines()[0].rstrip(".")
        return f"{said}."
    return None


def runs_on(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Whether kernels built for these (`sm_86`: that kind; `compute_90`: it and all after) run on a device.

    A kernel also runs on later devices of the same major number. Builds that do not say it so, as those for
    AMD's devices, are let pass.
    """
    known = [match for name in built_for if (match := _BUILT_FOR.fullmatch(name))]
    if not known:
        return True
    for match in known:
        major, minor = int(match[2]), int(match[3])
        if match[1] == "compute" and (major, minor) <= capability:
            return True
        if match[1] == "sm" and major == capability[0] and minor <= capability[1]:
            return True
    return False
