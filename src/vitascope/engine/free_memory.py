"""How much memory is free for a model: on an accelerator what its driver says, on the CPU the machine's."""

from __future__ import annotations

import os
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # cgroup v2: the container's own limit
_KIB = 1024


def device_name(device: torch.device) -> str:
    """Name the memory of a device: two workers share it if they give the same name."""
    if device.type == "cpu":
        return "cpu"
    return f"{device.type}:{torch.cuda.current_device() if device.index is None else device.index}"


def free_bytes(device: torch.device) -> int:
    """Return the bytes that are free there now, for all processes together."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    left = _container_bytes()
    return _machine_bytes() if left is None else min(_machine_bytes(), left)


def _machine_bytes() -> int:
    """Return what Linux calls available, caches included; elsewhere the memory of the machine."""
    try:
        for line in MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * _KIB
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _container_bytes() -> int | None:
    """Return what is left of the container's limit, if it has one; cached files make way and do not count."""
    try:
        limit = int((CGROUP / "memory.max").read_text(encoding="ascii"))
        used = int((CGROUP / "memory.current").read_text(encoding="ascii"))
        stat = dict(
            line.split() for line in (CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
        )
    except (OSError, ValueError):  # no container, or no limit: "max"
        return None
    return limit - used + int(stat.get("inactive_file", 0))
