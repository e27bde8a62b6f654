from __future__ import annotations

import vitascope
from vitascope.api import xinference_cluster
from vitascope.config.processes import available_cores

ADDRESS = "127.0.0.1:8000"


def test_the_version_is_the_servers(client):
    assert client.get("/v1/cluster/version").json() == {
        "version": vitascope.__version__, "full-revisionid": None, "dirty": None, "error": None, "date": None
    }  # fmt: skip


def test_the_machine_and_its_gpus_are_told(client, tmp_path, monkeypatch):
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:02:00.0").mkdir()
    monkeypatch.setattr(xinference_cluster, "NVIDIA_GPUS", tmp_path)
    assert client.get("/v1/cluster/devices").json() == 2
    [node] = client.get("/v1/cluster/info").json()
    assert node == {
        "node_type": "Supervisor", "ip_address": ADDRESS, "cpu_count": available_cores(), "gpu_count": 2
    }  # fmt: skip


def test_a_machine_without_a_driver_has_no_gpus(client, tmp_path, monkeypatch):
    monkeypatch.setattr(xinference_cluster, "NVIDIA_GPUS", tmp_path / "nothing")
    assert client.get("/v1/cluster/devices").json() == 0


def test_one_server_is_supervisor_and_worker(client):
    [worker] = client.get("/v1/workers").json()
    assert worker["work-ip"] == ADDRESS
    assert list(worker["models"]) == ["tiny", "words"]
    assert worker["models"]["tiny"] == client.get("/v1/models/tiny").json()
    assert client.get("/v1/supervisor").json() == {"supervisor_ip": ADDRESS}
    assert client.get("/v1/address").json() == ADDRESS
