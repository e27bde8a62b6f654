from __future__ import annotations

import pytest

from vitascope.config import BUNDLED_MODEL, Settings, changed, load_settings
from vitascope.errors import ConfigurationError


def load(flags=None, *, environ=None):
    return load_settings(flags, environ=environ or {})


def test_without_anything_the_bundled_model_is_served_to_this_machine_only():
    settings = load()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.model_path == str(BUNDLED_MODEL)
    settings.check_exposure()


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
    in_query = "postgresql://db.example/clips?user=vito&password=p%40ss"
    assert load({"database_url": in_query}).secrets == [in_query, "p@ss"]


def test_an_alias_stands_for_the_model_it_names_or_for_the_default_one():
    assert Settings(model_alias=("sora-2", "veo=wan")).aliases == (("sora-2", None), ("veo", "wan"))
