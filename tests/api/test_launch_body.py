from __future__ import annotations

import inspect
import re

import pytest
from xinference_client import RESTfulClient

from vitascope.api.builtin_names import BUILT_IN
from vitascope.api.intake import Body
from vitascope.api.launch_body import read_launch, registered_names
from vitascope.api.launch_keys import LAUNCH_KEYS, LaunchUse
from vitascope.config import Settings
from vitascope.errors import InvalidRequest, UnknownField
from vitascope.launch import LaunchSpec
from vitascope.models.registry import RECOGNISED

CLIENTS_OWN = {"self", "kwargs"}


def read(registered=(), **fields):
    return read_launch(Body(fields), registered)


def spec(**fields):
    return read(**{"model_name": "tiny", **fields}).spec


def test_every_key_of_the_client_is_known():
    sent = set(inspect.signature(RESTfulClient.launch_model).parameters) - CLIENTS_OWN
    assert len(sent) == 21
    assert sent <= LAUNCH_KEYS.keys()


def test_nulls_ask_for_nothing():
    said = {name: None for name in LAUNCH_KEYS if name not in {"model_name", "n_gpu"}}
    launch = read(**said, model_name="tiny")
    assert (launch.spec, launch.warnings) == (LaunchSpec(model="tiny", uid="tiny"), ())


@pytest.mark.parametrize(
    ("fields", "model", "uid"),
    [
        ({"model_name": "tiny"}, "tiny", "tiny"),
        ({"model_name": "tiny", "model_uid": "mine"}, "tiny", "mine"),
        ({"model_name": "owner/model"}, "owner/model", None),
        ({"model_path": "/models/wan"}, "/models/wan", None),
        ({"model_name": "Wan2.1-1.3B", "model_path": "/models/wan"}, "/models/wan", "Wan2.1-1.3B"),
        ({"model_name": "Wan2.1-1.3B"}, "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "Wan2.1-1.3B"),
        ({"model_name": "Wan2.1-1.3B", "model_uid": "w"}, "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "w"),
    ],
)
def test_a_name_a_path_and_a_uid_say_what_to_load_and_what_to_call_it(fields, model, uid):
    launch = read(**fields)
    assert (launch.spec.model, launch.spec.uid) == (model, uid)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"model_name": "Wan2.1-1.3B", "model_path": "/models/wan"}, "Wan2.1-1.3B"),
        ({"model_name": "Wan-AI/wan", "model_path": "/models/wan"}, None),
        ({"model_path": "/models/wan"}, None),
        ({"model_name": "Wan2.1-1.3B"}, None),
    ],
)
def test_a_model_from_elsewhere_keeps_the_callers_name(fields, name):
    assert read(**fields).spec.name == name


def test_the_operators_name_comes_before_a_built_in_one():
    name = "Wan2.1-1.3B"
    assert read([name], model_name=name).spec.model == name


def test_the_operators_names_are_read_from_the_settings(tmp_path):
    (tmp_path / "wan").mkdir()
    (tmp_path / "wan" / "model_index.json").write_text("{}")
    (tmp_path / "other").mkdir()
    settings = Settings(model_name="first", also=("second=owner/x",), launchable=("a=/b", str(tmp_path)))
    assert sorted(registered_names(settings)) == ["a", "first", "second", "wan"]


@pytest.mark.parametrize(
    ("fields", "device"),
    [
        ({}, None),
        ({"n_gpu": "auto"}, None),
        ({"n_gpu": None}, "cpu"),
        ({"n_gpu": 0}, "cpu"),
        ({"n_gpu": 1}, "cuda"),
        ({"gpu_idx": 3}, "cuda:3"),
        ({"gpu_idx": [3], "n_gpu": 1}, "cuda:3"),
        ({"gpu_idx": "0", "n_gpu": "auto"}, "cuda:0"),
        ({"device": "cuda", "gpu_idx": 1}, "cuda:1"),
        ({"device": "cpu"}, "cpu"),
        ({"device": "auto"}, "auto"),
    ],
)
def test_three_ways_lead_to_a_device(fields, device):
    assert spec(**fields).device == device


@pytest.mark.parametrize(
    ("fields", "dtype"),
    [
        ({"torch_dtype": "torch.bfloat16"}, "bfloat16"),
        ({"torch_dtype": "float16", "dtype": "fp16"}, "float16"),
        ({"dtype": "auto"}, None),
    ],
)
def test_a_precision_has_two_names(fields, dtype):
    assert spec(**fields).dtype == dtype


def test_adapters_come_as_ours_or_in_xinferences_words():
    peft = {
        "lora_list": [{"lora_name": "ink", "local_path": "/l/ink.safetensors"}],
        "image_lora_load_kwargs": {},
    }
    launch = read(model_name="tiny", lora=["4-step=/l/4.safetensors:0.5"], peft_model_config=peft)
    assert launch.spec.lora == ("4-step=/l/4.safetensors:0.5", "ink=/l/ink.safetensors")
    assert launch.warnings[0].startswith("peft_model_config only offers its adapters")
    assert spec(lora="ink=/x").lora == ("ink=/x",)
    assert spec(peft_model_config={"lora_list": []}).lora == ()


def test_a_key_without_effect_is_told():
    launch = read(model_name="tiny", trust_remote_code=True, model_size_in_billions=14, revision="main")
    assert [warning.split()[0] for warning in launch.warnings] == [
        "trust_remote_code",
        "model_size_in_billions",
    ]
    assert launch.spec.revision == "main"


OFF = [key for key in LAUNCH_KEYS.values() if key.use is LaunchUse.OFF]


@pytest.mark.parametrize("key", OFF, ids=lambda key: key.name)
def test_what_is_not_offered_is_refused_by_name_unless_it_asks_for_what_is_so(key):
    for granted in key.granted:
        spec(**{key.name: granted})
        if not isinstance(granted, list | dict):
            spec(**{key.name: str(granted)})  # a form's text, Python's spelling included
    for asked in (True, "something", 7, ["x"]):
        with pytest.raises(InvalidRequest, match=f"^{key.name} is ") as refusal:
            spec(**{key.name: asked})
        assert (refusal.value.param, refusal.value.status) == (key.name, 400)


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"cpu_ofload": True}, "cpu_ofload", "did you mean 'cpu_offload'"),
        ({"zzz": 1}, "zzz", "docs/flags.md lists"),
        ({"model_type": "LLM"}, "model_type", "model_type='video'"),
        ({"model_type": 3}, "model_type", "expected a string"),
        ({"model_name": None}, "model_name", "Missing required"),
        ({"model_name": " "}, "model_name", "no name"),
        ({"model_name": "MiniMax-H3"}, "model_name", "nothing here can run"),
        ({"model_name": "x" * 101, "model_path": "/m"}, "model_name", "at most 100 characters"),
        ({"model_uid": "instances"}, "model_uid", "taken by a route"),
        ({"model_name": None, "model_path": "/models/instances"}, "model_uid", "taken by a route"),
        ({"model_path": "a\0b"}, "model_path", "no name"),
        ({"n_gpu": 2}, "n_gpu", "one device"),
        ({"n_gpu": "many"}, "n_gpu", "not an integer"),
        ({"gpu_idx": [0, 1]}, "gpu_idx", "lists 2 devices"),
        ({"gpu_idx": -1}, "gpu_idx", "counted from 0"),
        ({"gpu_idx": 0, "n_gpu": None}, "device", "gpu_idx and n_gpu contradict"),
        ({"device": "cpu", "gpu_idx": 1}, "device", "contradict"),
        ({"dtype": "int8"}, "dtype", "float32, bfloat16 or float16"),
        ({"dtype": "fp32", "torch_dtype": "bf16"}, "dtype", "contradicts"),
        ({"lora": {"a": "b"}}, "lora", "expected an array"),
        ({"lora": [3]}, "lora", "expected a string"),
        (
            {"peft_model_config": {"image_lora_fuse_kwargs": {"lora_scale": 1}}},
            "peft_model_config",
            "NAME=PATH",
        ),
        ({"peft_model_config": {"lora_list": ["x"]}}, "peft_model_config.lora_list", "array of objects"),
        ({"peft_model_config": {"lora_list": [{"lora_name": "x"}]}}, None, "local_path"),
    ],
)
def test_what_cannot_be_read_or_done_is_refused_by_name(fields, param, said):
    with pytest.raises(InvalidRequest, match=re.escape(said)) as refusal:
        spec(**fields)
    assert param is None or refusal.value.param == param


def test_an_unknown_key_is_told_apart():
    with pytest.raises(UnknownField):
        spec(cpu_ofload=True)


def test_files_are_no_part_of_a_launch():
    with pytest.raises(InvalidRequest, match="model_path"):
        read_launch(Body({}, {"model_path": [b"x"]}), ())


def test_every_built_in_name_is_of_a_family_that_is_here():
    can = {family: {t for kind in RECOGNISED if kind.family == family for t in kind.tasks}
           for family in {kind.family for kind in RECOGNISED}}  # fmt: skip
    for model in BUILT_IN.values():
        assert {*model.tasks} <= can[model.family]


def test_every_built_in_name_is_its_own():
    assert len({model.model_id for model in BUILT_IN.values()}) == len(BUILT_IN) == 14


def test_files_of_weights_are_said_in_two_ways():
    assert spec(transformer_path="/t.safetensors").transformer_path == ("/t.safetensors",)
    both = spec(transformer_path=["transformer_2=/low.gguf"], gguf_model_path="/high.gguf")
    assert both.transformer_path == ("transformer_2=/low.gguf", "/high.gguf")
    with pytest.raises(InvalidRequest, match="give one as gguf_model_path"):
        spec(gguf_quantization="Q4_K_M")
