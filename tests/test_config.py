from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

import vitascope
from vitascope.config import (
    BUNDLED_MODEL,
    LISTS,
    AdapterSpec,
    Settings,
    calm_threads,
    changed,
    idle_variables,
    load_settings,
    nearest,
    parse_adapter,
    worker_environment,
)
from vitascope.errors import ConfigurationError


def load(flags=None, *, toml=None, environ=None, folder=None):
    file = None
    if toml is not None:
        file = folder / "settings.toml"
        file.write_text(toml, encoding="utf-8")
    return load_settings(flags, file=file, environ=environ or {})


def test_without_anything_the_bundled_model_is_served_to_this_machine_only():
    settings = load()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.model_path == str(BUNDLED_MODEL)
    settings.check_exposure()


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


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"port": 65536}, "port is 65536: input should be less than or equal to 65535."),
        ({"port": "http"}, "port is 'http': input should be a valid integer"),
        ({"max_queue": 0}, "max_queue is 0: "),
        ({"retention_s": -1}, "retention_s is -1: "),
        ({"insecure": "perhaps"}, "insecure is 'perhaps': "),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(flags, message):
    with pytest.raises(ConfigurationError, match=message):
        load(flags)


@pytest.mark.parametrize("content", ["port =", "\x00", "port = 1\nport = 2"])
def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path, content):
    with pytest.raises(ConfigurationError, match=r"settings.toml"):
        load(toml=content, folder=tmp_path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nothing.toml"):
        load_settings(file=tmp_path / "nothing.toml", environ={})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_alone_needs_no_key(host):
    load({"host": host}).check_exposure()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "video.example", "localhost.example"])
def test_other_machines_are_let_in_only_with_a_key_or_on_insistence(host):
    with pytest.raises(ConfigurationError, match=r"no API key is set.*--api-key.*127.0.0.1.*--insecure"):
        load({"host": host}).check_exposure()
    load({"host": host, "api_key": "k"}).check_exposure()
    load({"host": host, "insecure": True}).check_exposure()


def test_an_empty_key_protects_nothing():
    with pytest.raises(ConfigurationError, match="no API key is set"):
        load({"host": "0.0.0.0", "api_key": ""}).check_exposure()


@pytest.mark.parametrize("key", [" ", "k ", "\nk"])
def test_a_key_that_no_client_could_send_is_refused(key):
    with pytest.raises(ConfigurationError, match=r"^api_key: the key begins or ends with a blank\.$"):
        load({"api_key": key})


def test_the_key_is_never_shown():
    settings = load(environ={"VITASCOPE_API_KEY": "s3cret"})
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in settings.model_dump_json()


def test_a_wrong_value_is_not_repeated_since_it_may_be_a_key():
    with pytest.raises(ConfigurationError) as caught:
        load({"api_key": ["s3cret"]})
    assert "s3cret" not in str(caught.value)


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load().port = 1


def test_every_setting_is_described():
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_a_worker_inherits_no_settings_and_no_key(monkeypatch):
    monkeypatch.setenv("VITASCOPE_API_KEY", "s3cret")
    assert not [name for name in worker_environment(load()) if name.startswith("VITASCOPE_")]


@pytest.mark.parametrize(
    ("name", "known", "advice"),
    [("heights", ["height", "width"], "; did you mean 'height'?"), ("zzz", ["b", "a"], "; known are a, b.")],
)
def test_the_nearest_name_is_suggested_or_all_are_listed(name, known, advice):
    assert nearest(name, known) == advice


def test_config_alone_reads_the_environment():
    package = Path(vitascope.__file__).parent
    for path in package.rglob("*.py"):
        if path == package / "config.py":
            continue
        names = {
            node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
        }
        assert not names & {"environ", "getenv", "putenv"}, path


@pytest.mark.parametrize(
    ("text", "name", "expert", "path", "weight"),
    [
        ("ink=a.safetensors", "ink", None, "a.safetensors", 1.0),
        ("4-step=/x/y.safetensors:0.75", "4-step", None, "/x/y.safetensors", 0.75),
        ("ink.high=a=b:c.safetensors:-2", "ink", "high", "a=b:c.safetensors", -2.0),
        ("ink.low=folder", "ink", "low", "folder", 1.0),
    ],
)
def test_an_adapter_is_a_name_a_path_and_maybe_a_weight_and_an_expert(text, name, expert, path, weight):
    assert parse_adapter(text) == AdapterSpec(name=name, path=Path(path), weight=weight, expert=expert)
    assert load({"lora": (text,)}).adapters == (parse_adapter(text),)


@pytest.mark.parametrize("text", ["ink", "=a", "ink=", "a b=c", "ink.middle=a", "-ink=a"])
def test_an_adapter_that_is_written_otherwise_is_refused(text):
    with pytest.raises(ConfigurationError, match="write NAME=PATH or NAME=PATH:WEIGHT"):
        load({"lora": (text,)})


def test_two_adapters_of_one_name_are_refused():
    with pytest.raises(ConfigurationError, match="lora 'ink' is given twice"):
        load(environ={"VITASCOPE_LORA": "ink=a,ink=b"})


def test_idle_threads_sleep_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    calm_threads()
    assert (os.environ.pop("GOMP_SPINCOUNT"), os.environ["OMP_WAIT_POLICY"]) == ("0", "ACTIVE")


@pytest.mark.parametrize(
    "text", ["name", "=path", "na me=path", "-n=path", "name=", "a/b=path", "é=path", f"{'n' * 101}=p"]
)
@pytest.mark.parametrize("setting", ["also", "launchable"])
def test_a_model_beside_the_first_is_written_with_its_name(setting, text):
    if setting == "launchable" and "=" not in text:
        return  # a folder of models
    with pytest.raises(ConfigurationError, match=f"{setting} is .*; write NAME=PATH"):
        load({setting: (text,)})
    assert load({setting: ("Wan2.1=/m/a=b",)})


def test_two_models_beside_the_first_have_two_names():
    with pytest.raises(ConfigurationError, match="also names 'a' twice"):
        load({"also": ("a=/1", "b=/2", "a=/3")})


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        ({}, "any"),
        ({"host": "::1"}, "any"),
        ({"api_key": "k"}, "off"),
        ({"host": "0.0.0.0", "insecure": True}, "off"),
        ({"allowed_hosts": ("video.example",)}, "off"),
        ({"cors_origins": ("https://video.example",)}, "off"),
        ({"api_key": "k", "allow_launch": "registered"}, "registered"),
        ({"allow_launch": "off"}, "off"),
    ],
)
def test_clients_launch_what_they_like_only_where_they_are_the_operator(flags, rule):
    assert load(flags).launch_rule == rule


def test_changed_settings_are_checked_like_any():
    settings = load({"api_key": "k", "port": 5})
    other = changed(settings, device="cpu", dtype="float16")
    assert (other.device, other.asked_dtype, other.port, other.api_key) == (
        "cpu",
        "float16",
        5,
        settings.api_key,
    )
    assert settings.asked_dtype is None
    with pytest.raises(ConfigurationError, match="dtype is "):
        changed(settings, dtype="int8")


DATABASE = "postgresql://vito:p%40ss@db.example:5432/clips?sslmode=require"


def test_jobs_are_kept_in_the_data_folder_or_where_the_operator_says():
    assert load({"data_dir": "/d"}).store_url == "sqlite:////d/jobs.sqlite3"
    assert load({"database_url": DATABASE}).store_url == DATABASE
    assert load({"database_url": DATABASE.replace("postgresql:", "postgres:")}).store_url == DATABASE


@pytest.mark.parametrize("url", ["mysql://vito:p%40ss@h/d", "vito:p%40ss@h/d", "postgresql:/p%40ss"])
def test_another_kind_of_database_is_refused_without_repeating_its_password(url):
    with pytest.raises(ConfigurationError, match=r"^database_url: write it as postgresql://USER") as refused:
        load({"database_url": url})
    assert "p%40ss" not in str(refused.value)


def test_secrets_are_shown_by_no_setting_and_named_for_the_logs():
    settings = load({"database_url": DATABASE, "api_key": "k3y"})
    assert not [secret for secret in ("p%40ss", "k3y") if secret in repr(settings)]
    assert settings.secrets == ["k3y", DATABASE, "p%40ss", "p@ss"]
    assert load({}).secrets == []


def test_an_alias_stands_for_the_model_it_names_or_for_the_default_one():
    assert Settings(model_alias=("sora-2", "veo=wan")).aliases == (("sora-2", None), ("veo", "wan"))
