from __future__ import annotations

import json

import pytest
import typer

from vitascope.api.launch_keys import LAUNCH_KEYS
from vitascope.cli.app import app
from vitascope.cli.launch import _key, _read
from vitascope.cli.launch_syntax import SPELLINGS, _Rewriter

COMMANDS = typer.main.get_command(app).commands


def rewritten(line, command="launch"):
    params = [*COMMANDS[command].params, COMMANDS[command].get_help_option(typer.Context(COMMANDS[command]))]
    return [*_Rewriter(params).rewrite(line.split())]


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        (
            "--model-name Wan2.1-1.3B --model-type video",
            ["--model-name=Wan2.1-1.3B", "--model-type=video"],
        ),
        ("-n wan -t video -u mine", ["--model-name=wan", "--model-type=video", "--model-uid=mine"]),
        ("-mp /m -e http://h:1 -ak KEY", ["--model-path=/m", "--url=http://h:1", "--api-key=KEY"]),
        ("--model_path=/m", ["--model-path=/m"]),
        ("-lm ink /l/ink.safetensors", ["--lora=ink=/l/ink.safetensors"]),
        ("--cpu_offload True", ["--set=cpu_offload=True"]),
        (
            "--group_offload True --use_stream True",
            ["--set=group_offload=True", "--set=use_stream=True"],
        ),
        ("--layerwise_cast", ["--set=layerwise_cast=True"]),
        ("--compile_graph --wait", ["--set=compile_graph=True", "--wait"]),
        ("--n-gpu none --gpu-idx 0,1", ["--set=n_gpu=none", "--set=gpu_idx=0,1"]),
        ("-q int8 -r 2 -en vLLM -f ggufv2 -s 14", [
            "--set=quantization=int8", "--set=replica=2", "--set=model_engine=vLLM",
            "--set=model_format=ggufv2", "--set=model_size_in_billions=14",
        ]),
        ("--n-gpu=-1", ["--set=n_gpu=-1"]),
        ("--enable-virtual-env -vp torch -ev A 1", [
            "--set=enable_virtual_env=True", "--set=virtual_env_packages=torch", '--set=envs={"A": "1"}',
        ]),
        ("--no-wait --json wan --help", ["--no-wait", "--json", "wan", "--help"]),
        ("-- --model-name x", ["--", "--model-name", "x"]),
    ],
)  # fmt: skip
def test_xinferences_flags_become_ours(line, ours):
    assert rewritten(line) == ours


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("--model-uid x --endpoint http://h:1", ["--model-uid=x", "--url=http://h:1"]),
        ("-u x y", ["--model-uid=x", "y"]),
        ("--cpu_offload True", ["--cpu_offload", "True"]),
        ("--cpu_offload=True", ["--cpu_offload=True"]),
        ("-q int8", ["-q", "int8"]),
    ],
)
def test_other_commands_know_their_own_flags_only(line, ours):
    assert rewritten(line, "terminate") == ours


@pytest.mark.parametrize("line", ["--model-name", "-lm ink", "-q"])
def test_a_flag_without_its_value_is_refused(line):
    with pytest.raises(typer.BadParameter, match="needs a value"):
        rewritten(line)


def test_every_spelling_means_something_that_exists():
    options = {spelling for param in COMMANDS["launch"].params for spelling in param.opts}
    for spelling in SPELLINGS.values():
        assert spelling.means in options or spelling.means in LAUNCH_KEYS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("True", True), ("false", False), ("None", None), ("none", None), ("auto", "auto"),
        ("7", 7), ("0.5", 0.5), ('{"a": 1}', {"a": 1}), ("[1]", [1]), ("14B", "14B"), ("NaN", "NaN"),
    ],
)  # fmt: skip
def test_values_are_read_as_xinferences_command_line_reads_them(text, value):
    assert _read("key", text) == value
    assert type(_read("key", text)) is type(value)
    json.dumps(_read("key", text), allow_nan=False)


def test_a_list_of_gpus_is_one():
    assert _key("gpu_idx=0,1") == ("gpu_idx", [0, 1])
    assert _key("gpu-idx=0") == ("gpu_idx", 0)
