"""What our processes may use of the machine, and what they inherit."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vitascope.config.settings import Settings
from vitascope.config.sources import ENV_PREFIX

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2


def available_cores() -> int:
    """Count the cores this process may use, by its affinity and by the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


# Idle OpenMP threads sleep: spinning ones make a step many times slower when others share the cores.
_CALM = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "TOKENIZERS_PARALLELISM": "false"}


def calm_threads() -> None:
    """Let idle threads of this process sleep, unless its environment says otherwise; before torch loads."""
    for name, value in _CALM.items():
        os.environ.setdefault(name, value)


def worker_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a worker process: this one's, without our settings, with threads set."""
    threads = str(settings.num_threads or available_cores())
    return child_environment() | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)


def child_environment() -> dict[str, str]:
    """Return the environment of a process of ours: this one's, without our settings and their secrets."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ENV_PREFIX)}
    return environment | _CALM
