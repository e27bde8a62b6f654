"""Who may launch what."""

from __future__ import annotations

import pytest

from vitascope.config import Settings
from vitascope.errors import InvalidRequest, LaunchForbidden
from vitascope.launch import LaunchSpec
from vitascope.scheduler.launch_rules import LaunchRules, configured


def settle(spec, **settings) -> Settings:
    return LaunchRules(Settings(**settings)).settle(
        spec if isinstance(spec, LaunchSpec) else LaunchSpec(model=spec)
    )


@pytest.fixture
def shelf(tmp_path):
    """A folder with one model in it, and what is none."""
    (tmp_path / "wan").mkdir()
    (tmp_path / "wan" / "model_index.json").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "-odd").mkdir()
    (tmp_path / "-odd" / "model_index.json").touch()
    return tmp_path


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": "k"},
        {"host": "0.0.0.0", "insecure": True},
        {"allowed_hosts": ("video.example",)},
        {"cors_origins": ("https://page.example",)},
    ],
)
def test_clients_launch_nothing_where_they_may_be_others_than_the_operator(settings):
    with pytest.raises(LaunchForbidden, match="--allow-launch registered"):
        settle("/anything", **settings)
    assert settle("/anything", allow_launch="any", **settings).model_path == "/anything"


def test_on_loopback_alone_any_folder_and_hub_id_may_be_launched():
    assert settle("/models/Wan2.1").model_name == "Wan2.1"
    assert settle("owner/Some.Model-1").model_name == "Some.Model-1"
    assert settle(LaunchSpec(model="/models/x/", uid="mine")).model_name == "mine"


def test_the_options_of_a_launch_reach_its_worker_and_the_others_are_the_servers():
    spec = LaunchSpec(
        model="o/m", revision="v1", device="cuda:1", dtype="float16", lora=("style=/l.safetensors",),
        transformer_path=("/t.gguf",),
    )  # fmt: skip
    its = settle(spec, num_threads=3, device="cpu", model_path="/first", model_revision="r", lora=("a=/a",))
    assert (its.model_path, its.model_revision, its.device, its.dtype) == ("o/m", "v1", "cuda:1", "float16")
    assert (its.lora, its.transformer_path) == (("style=/l.safetensors",), ("/t.gguf",))
    assert its.num_threads == 3
    firsts = {"model_revision": "r", "lora": ("a=/a",), "transformer_path": ("/f.gguf",)}
    plain = settle("o/m", device="cpu", dtype="bfloat16", **firsts)
    assert (plain.device, plain.dtype) == ("cpu", "bfloat16")
    assert (plain.model_revision, plain.lora, plain.transformer_path) == (None, (), ())


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (LaunchSpec(model=" "), "names no model"),
        (LaunchSpec(model="a\0b"), "names no model"),
        (LaunchSpec(model="x" * 5000), "names no model"),
        (LaunchSpec(model="/m", uid="a/b"), "The name 'a/b' will not do"),
        (LaunchSpec(model="/models/été"), "The name 'été' will not do"),
        (LaunchSpec(model="/m", device="tpu"), "device is 'tpu'"),
        (LaunchSpec(model="/m", dtype="int3"), "dtype"),
        (LaunchSpec(model="/m", lora=("nothing",)), "write NAME=PATH"),
    ],
)
def test_what_will_not_do_is_refused_by_name(spec, said):
    with pytest.raises(InvalidRequest, match=said):
        settle(spec)


def test_registered_models_are_launched_by_name_and_nothing_else_is(shelf):
    rule = {"allow_launch": "registered", "launchable": ("big=/elsewhere/Big", "hub=o/m", str(shelf))}
    assert settle("big", **rule).model_path == "/elsewhere/Big"
    assert settle(LaunchSpec(model="hub", uid="h"), **rule).model_name == "h"
    assert settle("wan", **rule).model_path == str(shelf / "wan")
    for other in ("notes", "-odd", "/elsewhere/Big", "o/m", "../wan", str(shelf / "wan"), "nothing"):
        with pytest.raises(LaunchForbidden, match="they may launch big, hub, wan, vitascope-tiny"):
            settle(other, **rule)


@pytest.mark.parametrize(
    "more", [{"lora": ("a=/f",)}, {"transformer_path": ("/f.gguf",)}, {"revision": "v1"}]
)
def test_where_clients_choose_names_they_choose_no_files(more):
    with pytest.raises(LaunchForbidden, match="choose no files and no revision"):
        settle(LaunchSpec(model="big", **more), allow_launch="registered", launchable=("big=/b",))


def test_a_folder_of_models_that_is_not_there_offers_none(tmp_path):
    with pytest.raises(LaunchForbidden, match="may launch vitascope-tiny\\."):
        settle("wan", allow_launch="registered", launchable=(str(tmp_path / "gone"),))


def test_the_models_of_the_settings_may_be_launched_again_by_name_as_they_were():
    both = {
        "model_path": "/models/one", "model_revision": "r", "lora": ("a=/a",), "also": ("two=/models/2",),
        "allow_launch": "registered",
    }  # fmt: skip
    one, two = settle("one", **both), settle(LaunchSpec(model="two", dtype="float16"), **both)
    assert (one.model_path, one.model_revision, one.lora) == ("/models/one", "r", ("a=/a",))
    assert (two.model_path, two.model_revision, two.lora, two.dtype) == ("/models/2", None, (), "float16")


def test_the_settings_name_the_first_model_and_those_beside_it():
    settings = Settings(model_path="/m/one", model_revision="r", lora=("a=/a",), also=("two=o/m",))
    (first, firsts), (second, seconds) = configured(settings)
    assert (first.uid, firsts) == ("one", settings)
    assert (second.uid, seconds.model_name, seconds.model_path) == ("two", "two", "o/m")
    assert (seconds.model_revision, seconds.lora) == (None, ())
