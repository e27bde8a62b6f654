"""What our processes may use and inherit."""

from __future__ import annotations

import os

import pytest

from vitascope.config import Settings, processes
from vitascope.config.processes import available_cores, calm_threads, worker_environment


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), ("9900000 100000", 8)]
)
def test_a_containers_quota_bounds_the_cores(tmp_path, monkeypatch, quota, cores):
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(processes, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(processes.sys, "platform", "linux")
    assert available_cores() == cores


def test_a_worker_inherits_the_environment_without_our_settings(monkeypatch):
    monkeypatch.setenv("VITASCOPE_API_KEY", "sk-secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    environment = worker_environment(Settings(num_threads=5))
    assert environment["CUDA_VISIBLE_DEVICES"] == "3"
    assert (environment["OMP_NUM_THREADS"], environment["OMP_WAIT_POLICY"]) == ("5", "PASSIVE")
    assert not [name for name in environment if name.startswith("VITASCOPE_")]


def test_idle_threads_sleep_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    calm_threads()
    assert (os.environ.pop("GOMP_SPINCOUNT"), os.environ["OMP_WAIT_POLICY"]) == ("0", "ACTIVE")
