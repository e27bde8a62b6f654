"""A file, variables and flags become settings."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import vitascope
from vitascope.config import load_settings
from vitascope.config.sources import LISTS, idle_variables
from vitascope.errors import ConfigurationError


def load(flags=None, *, toml=None, environ=None, folder=None):
    file = None
    if toml is not None:
        file = folder / "settings.toml"
        file.write_text(toml, encoding="utf-8")
    return load_settings(flags, file=file, environ=environ or {})


def test_flags_win_over_variables_and_variables_over_the_file(tmp_path):
    toml = 'port = 1\nhost = "::1"\nmax_queue = 7\n'
    settings = load({"port": 3, "host": None}, toml=toml, environ={"VITASCOPE_PORT": "2"}, folder=tmp_path)
    assert (settings.port, settings.host, settings.max_queue) == (3, "::1", 7)
    assert load(toml=toml, environ={"VITASCOPE_PORT": "2"}, folder=tmp_path).port == 2


def test_a_variable_may_name_the_file(tmp_path):
    (tmp_path / "v.toml").write_text("port = 9\n")
    assert load(environ={"VITASCOPE_CONFIG": str(tmp_path / "v.toml")}).port == 9


@pytest.mark.parametrize("name", sorted(LISTS))
def test_lists_are_separated_by_commas_in_a_variable(name):
    values = getattr(load(environ={f"VITASCOPE_{name.upper()}": "transformer=1,transformer_2=2,"}), name)
    assert values == ("transformer=1", "transformer_2=2")


def test_an_unknown_key_in_the_file_is_named_with_the_nearest(tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"settings.toml: unknown setting 'prot'; did you mean 'port'\?"
    ):
        load(toml="prot = 1\n", folder=tmp_path)


def test_an_unknown_variable_is_named_with_the_nearest():
    with pytest.raises(
        ConfigurationError, match=r"environment: unknown setting 'hots'; did you mean 'host'\?"
    ):
        load(environ={"VITASCOPE_HOTS": "x"})


def test_other_programs_variables_are_none_of_our_business():
    assert load(environ={"VITA": "x", "PORT": "1"}) == load()


@pytest.mark.parametrize("name", ["VLLM_OMNI_STORAGE_PATH", "VLLM_OMNI_SERVER_STORAGE__PATH"])
def test_vllm_omnis_storage_path_is_the_data_folder_unless_ours_is_given(name):
    assert load(environ={name: "/there"}).data_dir == Path("/there")
    assert load(environ={name: "/there", "VITASCOPE_DATA_DIR": "/here"}).data_dir == Path("/here")
    assert load({"data_dir": "/here"}, environ={name: "/there"}).data_dir == Path("/here")
    assert load(environ={name: ""}) == load()


def test_the_newer_spelling_of_a_storage_variable_wins():
    environ = {"VLLM_OMNI_SERVER_STORAGE__PATH": "/new", "VLLM_OMNI_STORAGE_PATH": "/old"}
    assert load(environ=environ).data_dir == Path("/new")


def test_vllm_omnis_time_to_live_is_the_retention():
    name = "VLLM_OMNI_SERVER_STORAGE__FILE_TTL"
    assert load(environ={name: "90"}).retention_s == 90
    with pytest.raises(ConfigurationError, match="retention_s"):
        load(environ={name: "soon"})


def test_a_storage_variable_without_a_counterpart_is_harmless_and_named():
    environ = {"VLLM_OMNI_STORAGE_MAX_CONCURRENCY": "8", "VLLM_OMNI_STORAGE_PATH": "/there"}
    assert load(environ={"VLLM_OMNI_STORAGE_MAX_CONCURRENCY": "8"}) == load()
    assert idle_variables(environ) == ["VLLM_OMNI_STORAGE_MAX_CONCURRENCY"]


def test_an_unknown_flag_is_refused():
    with pytest.raises(ConfigurationError, match="prot"):
        load({"prot": 1})


@pytest.mark.parametrize("content", ["port =", "\x00", "port = 1\nport = 2"])
def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path, content):
    with pytest.raises(ConfigurationError, match=r"settings.toml"):
        load(toml=content, folder=tmp_path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nothing.toml"):
        load_settings(file=tmp_path / "nothing.toml", environ={})


def test_config_alone_reads_the_environment():
    package = Path(vitascope.__file__).parent
    for path in package.rglob("*.py"):
        if path.parent == package / "config":
            continue
        names = {
            node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
        }
        assert not names & {"environ", "getenv", "putenv"}, path
