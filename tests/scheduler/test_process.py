"""What a worker process inherits."""

from __future__ import annotations

import pytest

from vitascope import config
from vitascope.config import Settings, available_cores, worker_environment


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), ("9900000 100000", 8)]
)
def test_a_containers_quota_bounds_the_cores(tmp_path, monkeypatch, quota, cores):
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(config, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(config.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(config.sys, "platform", "linux")
    assert available_cores() == cores


def test_a_worker_inherits_the_environment_without_our_settings(monkeypatch):
    monkeypatch.setenv("VITASCOPE_API_KEY", "sk-secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    environment = worker_environment(Settings(num_threads=5))
    assert environment["CUDA_VISIBLE_DEVICES"] == "3"
    assert (environment["OMP_NUM_THREADS"], environment["OMP_WAIT_POLICY"]) == ("5", "PASSIVE")
    assert not [name for name in environment if name.startswith("VITASCOPE_")]
