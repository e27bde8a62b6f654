"""How much memory is free, as this machine's files say it."""

from __future__ import annotations

import os

import pytest
import torch

from vitascope.engine import free_memory
from vitascope.engine.free_memory import device_name, free_bytes

CPU = torch.device("cpu")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 8 GB available, in no container."""
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable:    8000000 kB\n")
    monkeypatch.setattr(free_memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(free_memory, "CGROUP", tmp_path)
    return tmp_path


def contain(machine, limit: str) -> None:
    (machine / "memory.max").write_text(f"{limit}\n")
    (machine / "memory.current").write_text("3000000000\n")
    (machine / "memory.stat").write_text("anon 1\ninactive_file 500000000\n")


def test_the_machine_has_what_linux_calls_available(machine):
    assert free_bytes(CPU) == 8_000_000 * 1024


def test_a_containers_limit_holds_and_its_cached_files_make_way(machine):
    contain(machine, "4000000000")
    assert free_bytes(CPU) == 1_500_000_000
    contain(machine, "max")
    assert free_bytes(CPU) == 8_000_000 * 1024


def test_elsewhere_the_memory_of_the_machine_is_taken(machine):
    (machine / "meminfo").unlink()
    assert free_bytes(CPU) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_devices_that_share_memory_have_one_name():
    assert device_name(CPU) == "cpu"
    assert device_name(torch.device("cuda:1")) == "cuda:1"
