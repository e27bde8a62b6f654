"""What is written as NAME=PATH."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitascope.config import load_settings
from vitascope.config.named_paths import AdapterSpec, parse_adapter
from vitascope.errors import ConfigurationError


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
    assert load_settings({"lora": (text,)}, environ={}).adapters == (parse_adapter(text),)


@pytest.mark.parametrize("text", ["ink", "=a", "ink=", "a b=c", "ink.middle=a", "-ink=a"])
def test_an_adapter_that_is_written_otherwise_is_refused(text):
    with pytest.raises(ConfigurationError, match="write NAME=PATH or NAME=PATH:WEIGHT"):
        load_settings({"lora": (text,)}, environ={})


def test_two_adapters_of_one_name_are_refused():
    with pytest.raises(ConfigurationError, match="lora 'ink' is given twice"):
        load_settings(environ={"VITASCOPE_LORA": "ink=a,ink=b"})


@pytest.mark.parametrize(
    "text", ["name", "=path", "na me=path", "-n=path", "name=", "a/b=path", "é=path", f"{'n' * 101}=p"]
)
@pytest.mark.parametrize("setting", ["also", "launchable"])
def test_a_model_beside_the_first_is_written_with_its_name(setting, text):
    if setting == "launchable" and "=" not in text:
        return  # a folder of models
    with pytest.raises(ConfigurationError, match=f"{setting} is .*; write NAME=PATH"):
        load_settings({setting: (text,)}, environ={})
    assert load_settings({setting: ("Wan2.1=/m/a=b",)}, environ={})


def test_two_models_beside_the_first_have_two_names():
    with pytest.raises(ConfigurationError, match="also names 'a' twice"):
        load_settings({"also": ("a=/1", "b=/2", "a=/3")}, environ={})
