from __future__ import annotations

import json
import socket
import sqlite3
from contextlib import closing
from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import pytest
from pydantic import SecretStr

from vitascope.cli import checks
from vitascope.cli.checks import check_all
from vitascope.cli.estimates import PUBLISHED, fits
from vitascope.cli.machine import Device, Machine, look, nearest_folder, usable_memory_bytes
from vitascope.config import BUNDLED_MODEL, Settings
from vitascope.jobs.sql import SqlStore

MACHINE = Machine(
    python="3.11", torch="2.9", torch_cuda=None, has_nvidia_driver=False, cores=2, machine_cores=4,
    memory_bytes=8 * 10**9, devices=(), disk_free_bytes=10**9, encoders=("libx264", "aac"),
)  # fmt: skip


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "data", port=0)


def verdicts(settings, machine=MACHINE):
    return {check.name: check for check in check_all(settings, machine)[0]}


def test_a_machine_that_can_serve_is_told_so_with_status_0_and_nothing_is_left(vitascope, tmp_path):
    ran = vitascope("doctor", "--data-dir", tmp_path / "new" / "data", "--port", 0)
    assert (ran.status, ran.err) == (0, "")
    assert "broken" not in ran.out
    assert "model: vitascope-tiny" in ran.out
    assert "estimated, not measured" in ran.out
    assert list(tmp_path.iterdir()) == []


def test_scripts_get_all_of_it_as_json(vitascope, tmp_path):
    ran = vitascope("doctor", "--data-dir", tmp_path, "--port", 0, "--json")
    told = json.loads(ran.out)
    assert {check["verdict"] for check in told["checks"]} <= {"ok", "note"}
    assert told["model"]["name"] == "vitascope-tiny"
    assert told["machine"]["memory_bytes"] > 10**8
    assert [fit["model"] for fit in told["estimates"]] == [model.name for model in PUBLISHED]


def test_a_port_in_use_is_broken_with_status_1(vitascope, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = vitascope("doctor", "--data-dir", tmp_path, "--port", port)
    assert ran.status == 1
    assert f"broken address: 127.0.0.1:{port} cannot be used: Address already in use" in ran.out
    assert "choose another: --port" in ran.out


@pytest.mark.parametrize(
    ("change", "name", "found"),
    [
        ({"data_dir": "/proc/nowhere"}, "data folder", "cannot be written"),
        ({"host": "0.0.0.0"}, "address", "no API key is set"),
        ({"model_path": "no such folder"}, "model", "There is no folder 'no such folder'"),
        ({"model_path": "owner/name", "offline": True}, "model", "owner/name"),
        ({"device": "cuda:99"}, "device", "use cpu"),
    ],
)
def test_what_serve_would_refuse_is_broken(settings, change, name, found):
    check = verdicts(Settings(**settings.model_dump() | change))[name]
    assert check.verdict == "broken"
    assert found in check.found


def test_a_folder_that_is_no_model_is_broken(settings, tmp_path):
    assert verdicts(settings.model_copy(update={"model_path": str(tmp_path)}))["model"].verdict == "broken"


def test_a_hub_model_that_is_not_here_yet_is_no_fault(settings, tmp_path):
    check = verdicts(settings.model_copy(update={"model_path": "owner/name", "model_cache_dir": tmp_path}))[
        "model"
    ]
    assert (check.verdict, check.found.startswith("owner/name is not here")) == ("note", True)


def test_a_missing_encoder_is_broken(settings):
    found = verdicts(settings, replace(MACHINE, encoders=("aac",)))
    assert (found["encoder libx264"].verdict, found["encoder aac"].verdict) == ("broken", "ok")


def test_a_torch_without_cuda_beside_an_nvidia_driver_is_told(settings):
    check = verdicts(settings, replace(MACHINE, has_nvidia_driver=True))["torch"]
    assert (check.verdict, check.remedy) == ("note", "pip install --force-reinstall torch")
    assert "torch" not in verdicts(settings, replace(MACHINE, has_nvidia_driver=True, torch_cuda="12.8"))


def test_a_driver_that_torch_cannot_use_is_told_in_torchs_words(settings):
    old = "The NVIDIA driver on your system is too old (found version 12020)."
    machine = replace(MACHINE, has_nvidia_driver=True, torch_cuda="13.0", cuda_trouble=old)
    check = verdicts(settings, machine)["torch"]
    assert (check.verdict, check.found) == (
        "note", f"torch 2.9 cannot use this machine's NVIDIA driver: {old}",
    )  # fmt: skip
    assert "update the driver" in check.remedy


def test_a_device_that_only_emulates_bfloat16_is_told_once(settings):
    old, new = Device(name="T4", memory_bytes=1, computes_bfloat16=False), Device(name="L4", memory_bytes=1)
    check = verdicts(settings, replace(MACHINE, devices=(old, old, new)))["bfloat16"]
    assert (check.verdict, check.found) == ("note", "T4 only emulates bfloat16, in which models run on it")
    assert "bfloat16" not in verdicts(settings, replace(MACHINE, devices=(new,)))


def test_missing_packages_and_extras_come_with_their_pip_line(settings, monkeypatch):
    wanted = [
        "numpy>=2", "numpy>=99", "surely-not-there>=1", "also-missing>=1; extra == 'cluster'",
        "pytest; extra == 'dev'", "numpy; extra == 'numbers'",
    ]  # fmt: skip
    monkeypatch.setattr(checks, "requires", lambda _: wanted)
    found = verdicts(settings)
    assert found["packages"].verdict == "broken"
    assert found["packages"].remedy == "pip install 'numpy>=99' 'surely-not-there>=1'"
    assert (found["extra cluster"].verdict, found["extra cluster"].remedy) == (
        "note", "pip install 'vitascope[cluster]'",
    )  # fmt: skip
    assert found["extra numbers"].verdict == "ok"
    assert "extra dev" not in found


def test_a_source_tree_that_is_not_installed_is_only_noted(settings, monkeypatch):
    def not_there(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(checks, "requires", not_there)
    assert verdicts(settings)["packages"].verdict == "note"


def test_a_model_fits_if_its_weights_and_a_quarter_more_do():
    wan = PUBLISHED[0]  # 1.4 + 5.7 billion weights, and a VAE of 0.13 in float32
    assert wan.needs_bytes(2) == pytest.approx((7.1 * 2 + 0.13 * 4) * 1.25e9)
    needs = wan.needs_bytes(2)
    assert [fits(room, 2)[0].fits for room in (needs - 1, needs)] == [False, True]


def test_the_largest_accelerator_is_what_a_model_may_fill(vitascope, tmp_path, monkeypatch):
    devices = (Device(name="small", memory_bytes=10**9), Device(name="large", memory_bytes=80 * 10**9))
    monkeypatch.setattr("vitascope.cli.doctor.look", lambda _: replace(MACHINE, devices=devices))
    ran = vitascope("doctor", "--data-dir", tmp_path, "--port", 0)
    assert "2 bytes a weight, 80 GB of memory" in ran.out
    assert "large, 80 GB" in ran.out


def test_the_memory_of_a_container_bounds_the_machines(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr("vitascope.cli.machine.MEMORY_LIMIT", limit)
    whole = usable_memory_bytes()
    limit.write_text("max\n")
    assert usable_memory_bytes() == whole
    limit.write_text("1000000\n")
    assert usable_memory_bytes() == 1_000_000


def test_the_disk_is_looked_at_where_the_data_will_be(tmp_path):
    assert nearest_folder(tmp_path / "a" / "b") == tmp_path
    assert look(tmp_path / "a").disk_free_bytes > 0


def test_every_model_of_the_settings_is_tried(settings, tmp_path):
    both = settings.model_copy(update={"also": (f"again={BUNDLED_MODEL}", f"gone={tmp_path / 'gone'}")})
    found = verdicts(both)
    assert [found[name].verdict for name in ("model", "model again", "model gone")] == ["ok", "ok", "broken"]


def test_a_database_is_reached_or_not_and_its_passwords_stay_hidden(settings, postgresql):
    def check(url):
        (found,) = checks._database(settings.model_copy(update={"database_url": SecretStr(url)}))
        return found

    url = postgresql.new_database()
    assert (check(url).verdict, "`serve` will apply" in check(url).found) == ("ok", True)
    store = SqlStore(url)
    assert (check(url).verdict, "another server uses postgresql://" in check(url).found) == ("broken", True)
    store.close()
    assert (check(url).verdict, "its schema is up to date" in check(url).found) == ("ok", True)
    gone = check(f"{url}&password=s3cret".replace("/of_a", "/gone_of_a"))
    assert (gone.verdict, "does not exist" in gone.found) == ("broken", True)
    assert not [
        secret for secret in ("pa%20ss", "pa ss", "s3cret") if secret in gone.found + check(url).found
    ]


def test_a_database_in_the_data_folder_is_looked_at_if_there_is_one(settings):
    assert not list(checks._database(settings))
    settings.data_dir.mkdir()
    SqlStore(settings.store_url).close()
    (check,) = checks._database(settings)
    assert check.found.endswith("jobs.sqlite3 can be reached; its schema is up to date")
    with closing(sqlite3.connect(settings.database_path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    (check,) = checks._database(settings)
    assert (check.verdict, "kept by a newer version, whose schema 9999" in check.found) == ("broken", True)
    settings.database_path.write_bytes(b"no database, though as long as the head of one would be" * 20)
    (check,) = checks._database(settings)
    assert (check.verdict, "cannot be used: file is not a database" in check.found) == ("broken", True)
    assert verdicts(settings)["database"] == check
