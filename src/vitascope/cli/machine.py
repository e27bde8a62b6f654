"""What this machine has, as plain data: cores, memory, devices, disk, encoders."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from vitascope.config.processes import available_cores

MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # cgroup v2; "max" where there is none
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_BFLOAT16_SINCE = 8  # compute capability, major
ENCODERS = ("libx264", "aac")  # what clips and their sound are written with


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator. `computes_bfloat16` is false where that is only emulated."""

    name: str
    memory_bytes: int
    computes_bfloat16: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Facts; nothing here is a judgement. `cores` and `memory_bytes` are what this process may use."""

    python: str
    torch: str
    torch_cuda: str | None
    has_nvidia_driver: bool
    cores: int
    machine_cores: int
    memory_bytes: int
    devices: tuple[Device, ...]
    disk_free_bytes: int
    encoders: tuple[str, ...]
    cuda_trouble: str | None = None  # why a torch that is built with CUDA cannot use it


def look(data_dir: Path) -> Machine:
    """Look around; imports torch."""
    import av.codec
    import torch

    from vitascope.engine.cuda import starting_trouble

    trouble = None if torch.version.cuda is None else starting_trouble()
    return Machine(
        python=platform.python_version(),
        torch=str(torch.__version__),
        torch_cuda=torch.version.cuda,
        has_nvidia_driver=NVIDIA_DRIVER.exists(),
        cores=available_cores(),
        machine_cores=os.cpu_count() or 1,
        memory_bytes=usable_memory_bytes(),
        devices=() if trouble is not None else _devices(),
        disk_free_bytes=shutil.disk_usage(nearest_folder(data_dir)).free,
        encoders=tuple(name for name in ENCODERS if _can_encode(name, av.codec.codecs_available)),
        cuda_trouble=trouble,
    )


def _devices() -> tuple[Device, ...]:
    """Look at the CUDA devices, of which there are none where CUDA does not start."""
    import torch

    return tuple(
        Device(
            name=found.name, memory_bytes=found.total_memory, computes_bfloat16=found.major >= _BFLOAT16_SINCE
        )
        for found in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    )


def usable_memory_bytes() -> int:
    """Return the memory of the machine, or of this container if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(total, int(MEMORY_LIMIT.read_text(encoding="ascii")))
    except (OSError, ValueError):
        return total


def nearest_folder(path: Path) -> Path:
    """Return the folder, or what exists of the way to it."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _can_encode(name: str, known: set[str]) -> bool:
    import av.codec

    if name not in known:
        return False
    try:
        av.codec.Codec(name, "w")
    except ValueError:
        return False
    return True
