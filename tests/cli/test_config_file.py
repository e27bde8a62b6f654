from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from documents import QUICKSTART, blocks
from vitascope.cli.config_file import ConfigurableCommand, read_config, use_config
from vitascope.cli.flags import taking
from vitascope.errors import ConfigurationError, InvalidType, UnknownField
from vitascope.media.provenance import read_provenance

KNOWN = ["model_path", "num_frames", "guidance_scale", "prompt", "save_output", "image_path"]


@dataclass(frozen=True)
class Source:
    config: Annotated[Path | None, typer.Option(is_eager=True, callback=use_config)] = None


@dataclass(frozen=True)
class Flags:
    prompt: Annotated[str, typer.Option()]
    num_frames: Annotated[int | None, typer.Option()] = None
    guidance_scale: Annotated[float | None, typer.Option()] = None
    save_output: Annotated[bool, typer.Option()] = True
    image_path: Annotated[list[Path] | None, typer.Option()] = None


def parse(*args):
    """Parse a command line as `generate` does; return the flags and the outcome."""
    seen = []
    app = typer.Typer(context_settings={"token_normalize_func": lambda name: name.replace("_", "-")})
    app.command(cls=ConfigurableCommand)(taking(Source, Flags)(lambda _source, flags: seen.append(flags)))
    result = CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200", "NO_COLOR": "1"})
    return (seen[0] if seen else None), result


@pytest.fixture
def file(tmp_path):
    def write(content, name="c.yaml"):
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", ["c.json", "c.yaml", "c.yml"])
def test_json_and_yaml_are_read(file, name):
    path = file({"num_frames": 17, "prompt": "a cat", "save_output": False}, name)
    told = {key: str(value).lower() for key, value in read_config(path, KNOWN).items()}
    assert told == {"num_frames": "17", "prompt": "a cat", "save_output": "false"}


def test_groups_may_be_called_anything_and_lie_in_each_other(file):
    path = file("model:\n  model_path: m\n  more:\n    num-frames: 5\nprompt: a\n")
    assert read_config(path, KNOWN) == {"model_path": "m", "num_frames": "5", "prompt": "a"}


def test_an_empty_value_is_not_said(file):
    assert read_config(file("num_frames: null\nprompt:\n"), KNOWN) == {}


def test_an_unknown_key_is_named_with_its_place_and_the_nearest(file):
    with pytest.raises(UnknownField) as caught:
        read_config(file("sampling:\n  clip:\n    num_framez: 3\n"), KNOWN)
    assert str(caught.value) == (
        "c.yaml: sampling.clip.num_framez: there is no such key; did you mean 'num_frames'?"
    )


def test_keys_of_features_that_are_not_here_are_refused_by_name_all_at_once(file):
    with pytest.raises(UnknownField) as caught:
        read_config(
            file({"num_gpus": 2, "a": {"vae_tiling": True}, "text_encoder_precisions": ["fp16"]}), KNOWN
        )
    assert str(caught.value) == (
        "c.yaml: This version has nothing for num_gpus 2 (several devices for one clip), vae_tiling (working "
        "on the VAE in tiles or slices), text_encoder_precisions fp16 (a precision for each part; "
        "--vae-dtype is float32 or the model's own); leave them out."
    )


def test_a_peers_key_is_a_spelling_of_ours_or_granted_where_it_is_so_anyway(file):
    path = file({"model": "m", "num_gpus": 1, "enable_torch_compile": False, "vae_tiling": "False"})
    assert read_config(path, KNOWN) == {"model_path": "m"}


def test_a_peers_spelling_beside_our_own_is_set_twice(file):
    with pytest.raises(ConfigurationError, match=r"c.yaml: model: this is set twice"):
        read_config(file("model_path: a\nmodel: b\n"), KNOWN)


def test_a_key_that_is_set_twice_is_refused(file):
    with pytest.raises(ConfigurationError, match=r"c.yaml: b.num_frames: this is set twice"):
        read_config(file("num_frames: 5\nb:\n  num_frames: 5\n"), KNOWN)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("{", "c.json", "is not valid JSON: line 1: Expecting property name enclosed in double quotes."),
        ("prompt: a\nb: [\n", "c.yaml", "is not valid YAML: line 3: expected the node content"),
        ("- a\n", "c.yaml", "holds no keys and values"),
        ("", "c.yaml", "holds no keys and values"),
        ("a: !!python/object:os.system {}\n", "c.yaml", "is not valid YAML: line 1: could not determine"),
        ("prompt: a\nprompt: b\n", "c.yaml", "is not valid YAML: line 2: prompt is set twice."),
        ('{"prompt": "a", "prompt": "b"}', "c.json", "is not valid JSON: prompt is set twice."),
        ("prompt: &a [*a]\n", "c.yaml", "line 1: write the value out instead of an alias."),
        ("[" * 3000, "c.json", "is not valid JSON: it is nested too deeply."),
        ("[" * 3000, "c.yaml", "is not valid YAML: it is nested too deeply."),
    ],
)
def test_a_file_that_is_no_plain_mapping_is_refused_with_the_reason(file, content, name, message):
    with pytest.raises(ConfigurationError) as caught:
        read_config(file(content, name), KNOWN)
    assert message in str(caught.value)


def test_words_of_a_yaml_file_are_taken_as_they_stand(file):
    text = "prompt: no\nnum_frames: 007\nguidance_scale: 1e1\nmodel_path: 2026-01-31\nimage_path: [12:4:37]\n"
    assert read_config(file(text), KNOWN) == {
        "prompt": "no",
        "num_frames": "007",
        "guidance_scale": "1e1",
        "model_path": "2026-01-31",
        "image_path": ["12:4:37"],
    }


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigurationError, match=r"Cannot read .*nothing.yaml: No such file"):
        read_config(tmp_path / "nothing.yaml", KNOWN)


def test_a_value_of_no_flags_type_is_refused(file):
    with pytest.raises(InvalidType, match=r"c.yaml: image_path: a list in a list is no value"):
        read_config(file("image_path: [[a.png]]\n"), KNOWN)


def test_flags_win_over_the_file_and_the_file_over_defaults(file):
    path = file({"prompt": "from the file", "num_frames": 5, "guidance_scale": 2, "save_output": False})
    flags, _ = parse("--config", path, "--num_frames", "9")
    assert flags == Flags("from the file", num_frames=9, guidance_scale=2.0, save_output=False)
    flags, _ = parse("--save-output", "--config", path, "--prompt=typed")
    assert flags == Flags("typed", num_frames=5, guidance_scale=2.0, save_output=True)


def test_a_list_in_the_file_is_a_flag_given_several_times(file):
    flags, _ = parse("--config", file({"prompt": "a", "image_path": ["a.png", "b.png"]}))
    assert flags.image_path == [Path("a.png"), Path("b.png")]
    flags, _ = parse("--config", file({"prompt": "a", "image_path": "a.png"}))
    assert flags.image_path == [Path("a.png")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"num_frames": "many"}, "'--num-frames'"),
        ({"num_frames": 17.5}, "'--num-frames'"),
        ({"num_frames": True}, "'--num-frames'"),
        ({"save_output": "perhaps"}, "'--save-output'"),
    ],
)
def test_a_value_in_the_file_is_checked_as_if_it_were_typed(file, content, message):
    flags, result = parse("--config", file({"prompt": "a", **content}))
    assert flags is None
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("spelling", ["--num-frames", "--num_frames"])
@pytest.mark.parametrize("form", ["{} 9", "{}=9"])
def test_both_spellings_of_a_flag_are_known(spelling, form):
    flags, _ = parse("--prompt", "under_score", *form.format(spelling).split())
    assert flags == Flags("under_score", num_frames=9)


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--enable-teacache", "enable_teacache"),
        ("--enable_teacache", "enable_teacache"),
        ("--lora-path=x", "lora_path x"),
    ],
)
def test_a_feature_that_is_absent_is_refused_by_name_on_the_command_line(flag, named):
    _, result = parse("--prompt", "a", flag)
    assert result.exit_code == 2
    assert f"This version has nothing for {named} (" in result.output


def test_the_quickstarts_file_runs_as_it_stands(vitascope, tmp_path):
    [example] = blocks(QUICKSTART, "yaml")
    (tmp_path / "clip.yaml").write_text(example)
    told = vitascope("generate", "--config", "clip.yaml")
    assert told.status == 0, told.err
    [clip] = (tmp_path / "outputs").glob("*.mp4")
    request = read_provenance(clip).request
    assert (request.prompt, request.num_frames, request.seed) == (
        "a big orange circle drifts up over purple", 9, 7
    )  # fmt: skip
