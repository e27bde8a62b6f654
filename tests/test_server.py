"""What the composition root refuses, before any process is started."""

from __future__ import annotations

import asyncio
import shutil
import socket

import pytest

from vitascope.config import Settings
from vitascope.errors import ConfigurationError
from vitascope.server import _sole_use, build, serve


def test_a_data_folder_in_use_is_refused(tmp_path):
    settings = Settings(data_dir=tmp_path, port=0)
    with _sole_use(settings), pytest.raises(ConfigurationError, match="Another server uses the data folder"):
        serve(settings)


def test_a_data_folder_is_free_again_once_its_server_is_gone(tmp_path):
    for _ in range(2):
        with _sole_use(Settings(data_dir=tmp_path / "new" / "folder")):
            pass


def test_a_data_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be used"):
        serve(Settings(data_dir=tmp_path / "file" / "data", port=0))


def test_a_port_in_use_is_refused(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"Cannot listen on 127.0.0.1:{port}"):
            serve(Settings(data_dir=tmp_path, port=port))


def test_an_open_address_without_a_key_is_refused_before_anything_is_touched(tmp_path):
    with pytest.raises(ConfigurationError, match="API key"):
        serve(Settings(data_dir=tmp_path / "data", host="0.0.0.0", port=0))
    assert not (tmp_path / "data").exists()


def test_another_systems_variable_that_means_nothing_here_is_named_in_the_log(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("VLLM_OMNI_STORAGE_MAX_CONCURRENCY", "8")
    caplog.set_level("INFO", logger="vitascope.server")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError):
        serve(Settings(data_dir=tmp_path / "file" / "data", port=0))
    assert "VLLM_OMNI_STORAGE_MAX_CONCURRENCY is set and has no effect here" in caplog.text


async def test_a_data_folder_that_vanishes_ends_the_server_in_one_line(tmp_path):
    server = build(Settings(data_dir=tmp_path / "data"))
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(ConfigurationError, match=r"data folder .*data is gone; the server cannot go on"):
        await server._sweep()
    server.close()


async def test_what_is_swept_waits_for_a_database_that_is_down(tmp_path, caplog):
    server = build(Settings(data_dir=tmp_path / "data"))
    (tmp_path / "data" / "jobs.sqlite3").rename(tmp_path / "data" / "elsewhere")
    sweeping = asyncio.create_task(server._sweep())
    while "nothing is swept now" not in caplog.text:
        assert not sweeping.done()
        await asyncio.sleep(0.001)
    sweeping.cancel()
    server.close()
