"""Several clips in one run, SGLang's own configuration examples, and the times of a clip."""

from __future__ import annotations

import json

import pytest
import yaml

from vitascope.config import BUNDLED_MODEL
from vitascope.media.provenance import read_provenance

QUICK = ["--num-inference-steps", "2", "--num-frames", "5", "--num-threads", "1"]

# The example of SGLang's documentation, its model path changed.
EXAMPLE = {
    "model_path": str(BUNDLED_MODEL),
    "prompt": "A beautiful woman in a red dress walking down a street",
    "output_path": "outputs/",
    "num_gpus": 2,
    "sp_size": 2,
    "tp_size": 1,
    "num_frames": 45,
    "height": 720,
    "width": 1280,
    "num_inference_steps": 6,
    "seed": 1024,
    "fps": 24,
    "precision": "bf16",
    "vae_precision": "fp16",
    "vae_tiling": True,
    "vae_sp": True,
    "vae_config": {
        "load_encoder": False,
        "load_decoder": True,
        "tile_sample_min_height": 256,
        "tile_sample_min_width": 256,
    },
    "text_encoder_precisions": ["fp16", "fp16"],
    "mask_strategy_file_path": None,
    "enable_torch_compile": False,
}
NOT_HERE = (
    "num_gpus", "sp_size", "vae_precision", "vae_tiling", "text_encoder_precisions",
    "load_encoder", "tile_sample_min_height", "tile_sample_min_width",
)  # fmt: skip


@pytest.fixture(params=["json", "yaml"])
def example(request, tmp_path):
    """Write the example without some keys, in one of the two formats."""

    def write(*without):
        content = {key: value for key, value in EXAMPLE.items() if key not in without}
        content["vae_config"] = {k: v for k, v in EXAMPLE["vae_config"].items() if k not in without}
        path = tmp_path / f"config.{request.param}"
        path.write_text(json.dumps(content) if request.param == "json" else yaml.safe_dump(content))
        return path

    return write


def test_sglangs_example_is_refused_with_the_name_of_every_key_that_is_not_here(vitascope, example):
    ran = vitascope("generate", "--config", example())
    assert (ran.status, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert all(f" {name}" in ran.err for name in NOT_HERE)
    granted = {"tp_size", "vae_sp", "load_decoder", "mask_strategy_file_path", "enable_torch_compile"}
    assert not any(name in ran.err for name in granted)


def test_sglangs_example_runs_without_those_keys(vitascope, example, tmp_path):
    """In the size of the bundled model's clips."""
    size = ["--width", 64, "--height", 64, "--num-frames", 5, "--num-threads", 1]
    ran = vitascope("generate", "--config", example(*NOT_HERE), *size)
    assert ran.status == 0, ran.err
    (clip,) = (tmp_path / "outputs").iterdir()
    made = read_provenance(clip).request
    assert (made.seed, made.num_frames, made.fps, made.num_inference_steps) == (1024, 5, 24, 6)
    assert made.prompt == EXAMPLE["prompt"]


def test_prompts_and_seeds_make_numbered_clips(vitascope, tmp_path):
    ran = vitascope(
        "generate", "--prompt", "a red circle", "a blue circle", "--num-outputs-per-prompt", 2, "--seed", 7,
        "--output-file-path", "c.mp4", *QUICK,
    )  # fmt: skip
    assert ran.status == 0, ran.err
    assert [line for line in ran.out.splitlines() if line[0] != " "] == [f"c-{n}.mp4" for n in (1, 2, 3, 4)]
    made = [read_provenance(tmp_path / f"c-{n}.mp4").request for n in (1, 2, 3, 4)]
    assert [(m.prompt, m.seed) for m in made] == [
        ("a red circle", 7), ("a red circle", 8), ("a blue circle", 7), ("a blue circle", 8),
    ]  # fmt: skip


def test_a_file_holds_a_prompt_a_line(vitascope, tmp_path):
    (tmp_path / "p.txt").write_text("a red circle\n\n  a blue square  \n")
    ran = vitascope("generate", "--prompt-path", "p.txt", *QUICK)
    assert ran.status == 0, ran.err
    made = {read_provenance(path).request.prompt for path in (tmp_path / "outputs").iterdir()}
    assert made == {"a red circle", "a blue square"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-p", "a", "--prompt-path", "p.txt"], "There is --prompt and --prompt-path; give one of them."),
        (["--prompt-path", "p.txt"], "p.txt holds no prompt."),
        (["--prompt-path", "none.txt"], "Cannot read none.txt: No such file or directory."),
        (["--prompt-path", "b.txt"], "b.txt is no UTF-8 text."),
        (["-p", "a", "b", "--perf-dump-path", "d"], "--perf-dump-path is for one clip, and this makes 2."),
        (["-p", "a", "--perf-dump-path", "p.txt"], "p.txt exists; choose another name or use --overwrite."),
        (["-p", "a", "--perf-dump-path", "no/d"], "There is no folder 'no'."),
        (["-p", "a", "b", "--output-file-name=c"],
         "outputs/c-2.mp4 exists; choose another name or use --overwrite."),
        (["-p", "a", " "], "The prompt is empty; say what the clip should show."),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_made_whole_is_refused_before_it_begins(vitascope, tmp_path, args, message):
    (tmp_path / "p.txt").write_text(" \n")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "c-2.mp4").touch()
    ran = vitascope("generate", *args)
    assert (ran.status, ran.out, ran.err) == (1, "", f"error: {message}\n")


def test_the_times_of_a_clip_are_written_as_sglangs_tools_read_them(vitascope, tmp_path):
    ran = vitascope("generate", "-p", "a red circle", *QUICK, "--perf-dump-path", "perf.json")
    assert ran.status == 0, ran.err
    told = json.loads((tmp_path / "perf.json").read_text())
    assert {"timestamp", "request_id", "commit_hash", "tag", "memory_checkpoints"} < {*told}
    assert told["meta"] == {"prompt": "a red circle", "model": "vitascope-tiny"}
    times = {step["name"]: step["duration_ms"] for step in told["steps"]}
    assert list(times) == ["load", "encode", "denoise", "decode"]
    assert len(told["denoise_steps_ms"]) == 2
    assert 0 < sum(times.values()) <= told["total_duration_ms"]
    assert all(0 < step < told["total_duration_ms"] for step in told["denoise_steps_ms"])
