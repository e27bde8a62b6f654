from __future__ import annotations

import re

import pytest
import typer

from vitascope.cli.app import app
from vitascope.cli.peer_flags import _BY_FEATURE, PEER_FLAGS, refusal
from vitascope.cli.peer_syntax import Rewriter

COMMANDS = typer.main.get_command(app).commands
SERVE, GENERATE = (Rewriter(COMMANDS[name].params) for name in ("serve", "generate"))

# What the documents of the two programs give to `serve`.
SERVE_FLAGS = """
omni port boundary_ratio flow_shift cache_backend enable_cache_dit_summary enforce_eager usp ulysses_degree
ring_degree cfg_parallel_size use_hsdp quantization trust_remote_code allowed_local_media_path seed
model_path num_gpus tp_size sp_size text_encoder_cpu_offload pin_cpu_memory served_model_name dit_cpu_offload
host api_key log_level revision
""".split()  # noqa: SIM905  # a list to be read

# SGLang's sampling flags, its own of other models aside.
SAMPLING_FLAGS = """
prompt prompt_path negative_prompt task_type image_path video_path seed num_frames fps height width 4k 2k
1080p 720p num_inference_steps guidance_scale guidance_scale_2 true_cfg_scale guidance_rescale
cfg_normalization boundary_ratio cfg_gate_step num_outputs_per_prompt generator_device adjust_frames
num_frames_round_down enable_sequence_shard diffusers_kwargs sound_duration auto_duration enable_teacache
enable_cache_dit cache_dit_params attention_backend_override enable_spectrum progressive_mode
progressive_levels progressive_delta quality save_output return_frames return_file_paths_only
output_file_name output_path output_quality output_compression x264_preset enable_frame_interpolation
frame_interpolation_exp frame_interpolation_scale frame_interpolation_model_path enable_upscaling
upscaling_scale upscaling_model_path return_trajectory_latents return_trajectory_decoded profile
num_profiled_timesteps profile_all_stages output_file_path perf_dump_path config
""".split()  # noqa: SIM905  # a list to be read


def own(command):
    return {param.name for param in COMMANDS[command].params}


def test_every_serve_flag_of_the_documents_is_known():
    assert {*SERVE_FLAGS} - own("serve") <= {*PEER_FLAGS}


def test_every_sampling_flag_is_known():
    assert {*SAMPLING_FLAGS} - own("generate") <= {*PEER_FLAGS}


def test_every_row_is_there_once_and_well_formed():
    words = [word for names in _BY_FEATURE.values() for word in names.split()]
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*\??(=[^|=]+(\|[^|=]+)*)?", word) for word in words)
    names = [word.partition("=")[0].removesuffix("?") for word in words]
    assert len(names) == len(set(names))


def test_every_spelling_is_one_of_an_option_that_exists():
    targets = {name for row in PEER_FLAGS.values() for name, _ in row.own}
    assert targets <= own("serve") | own("generate")


def test_no_switch_is_granted_anything_but_true_and_false():
    granted = {value for row in PEER_FLAGS.values() if row.is_switch for value in row.granted}
    assert granted <= {"true", "false"}


ALWAYS_SO = {row.name for row in PEER_FLAGS.values() if {*row.granted} == {"true", "false"}}


@pytest.mark.parametrize(
    ("command", "name"),
    [(c, name) for c in ("serve", "generate") for name in sorted({*PEER_FLAGS} - ALWAYS_SO - own(c))],
)
def test_no_flag_is_swallowed(command, name):
    """Asked for what is not so anyway, it becomes options of ours or is refused by name."""
    row = PEER_FLAGS[name]
    value = ("false" if "true" in row.granted else "true") if row.is_switch else "7"
    rewriter = Rewriter(COMMANDS[command].params)
    spelling = f"--{name.replace('_', '-')}={value}"
    if row.own and not row.granted and {target for target, _ in row.own} <= own(command):
        assert rewriter.rewrite([spelling])
    else:
        with pytest.raises(typer.BadParameter, match=f"This version has nothing for {name}"):
            rewriter.rewrite([spelling])


def test_what_asks_for_what_is_so_anyway_is_granted():
    line = "--omni --enforce-eager --num-gpus 1 --tp-size=1 --pin-cpu-memory --trust_remote_code --usp 1"
    assert SERVE.rewrite([*line.split(), "--text-encoder-cpu-offload", "false", "model"]) == ["model"]


def test_what_does_not_exist_is_refused_all_at_once():
    with pytest.raises(typer.BadParameter) as caught:
        SERVE.rewrite(["m", "--omni", "--usp", "2", "--cache-backend=x", "--dit-cpu-offload", "--seed", "3"])
    assert str(caught.value) == (
        "This version has nothing for usp 2 (several devices for one clip), cache_backend x (reusing "
        "work across steps), dit_cpu_offload (offloading weights), seed 3 (other values than the model's for "
        "every request; each request may name its own); leave them out."
    )


@pytest.mark.parametrize(
    ("given", "done"),
    [
        ("--served-model-name wan", "--model-name=wan"),
        ("--revision main --model x/y", "--model-revision=main --model-path=x/y"),
        ("--port 8091", "--port 8091"),
        ("--transformer-weights-path a.gguf", "--transformer-path=a.gguf"),
        ("--log_json true --offline false", "--log_json --no-offline"),
    ],
)
def test_serve_flags_are_spellings_of_our_options(given, done):
    assert SERVE.rewrite(given.split()) == done.replace("_", "-").split()


@pytest.mark.parametrize(
    ("given", "done"),
    [
        ("--720p", "--width=1280 --height=720"),
        ("--720p=false", ""),
        ("--dit-precision bf16", "--dtype=bfloat16"),
        ("--image-path a b --seed 1", "--image-path a --image-path b --seed 1"),
        ("-p a b --num_frames 5", "-p a --prompt b --num_frames 5"),
        ("--save-output false --return-frames true", "--no-save-output --return-frames"),
        ("--no-save-output=false --overwrite false", "--save-output"),
        ("--prompt --num-gpus", "--prompt --num-gpus"),
        ("--seed -1", "--seed -1"),
        ("--transformer-2-weights-path b.gguf", "--transformer-path=transformer_2=b.gguf"),
        ("--unheard-of 3", "--unheard-of 3"),
        ("-- --num-gpus 8", "-- --num-gpus 8"),
    ],
)
def test_habits_of_sglangs_command_line_are_understood(given, done):
    assert GENERATE.rewrite(given.split()) == done.split()


def test_a_flag_without_its_value_is_told():
    with pytest.raises(typer.BadParameter, match="--num-gpus needs a value"):
        GENERATE.rewrite(["--num-gpus"])


def test_a_switch_with_another_word_is_left_to_the_parser_to_refuse(vitascope):
    ran = vitascope("generate", "--prompt", "a", "--save-output=perhaps")
    assert ran.status == 2
    assert "--save-output" in ran.message


def test_serve_takes_the_model_as_its_first_word(vitascope):
    ran = vitascope("serve", "some/model", "--model-path", "another/model")
    assert ran.err == ("error: MODEL is 'some/model' and --model-path 'another/model'; give one of them.\n")


def test_one_refusal_is_one_sentence():
    row = PEER_FLAGS["vae_precision"]
    assert refusal([(row, "fp16")]) == (
        "This version has nothing for vae_precision fp16 (a precision for each part; --vae-dtype is float32 "
        "or the model's own); leave it out."
    )


def test_a_precision_of_the_vae_that_is_granted_is_asked_for_where_the_command_can():
    row = PEER_FLAGS["vae_precision"]
    assert row.meaning("fp32", {"vae_dtype"}) == {"vae_dtype": "float32"}
    assert row.meaning("fp32", set()) == {}
    assert row.meaning("fp16", {"vae_dtype"}) is None
