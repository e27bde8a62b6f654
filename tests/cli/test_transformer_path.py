"""A transformer in one file, from the command line."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import gguf
import pytest
from safetensors.torch import load_file

from vitascope.config import BUNDLED_MODEL, load_settings
from vitascope.errors import ConfigurationError
from vitascope.media.provenance import read_provenance

PROMPT = "a red circle moving right on a blue background"
CLIP = [
    "--prompt",
    PROMPT,
    "--seed",
    5,
    "--num-inference-steps",
    "2",
    "--num-frames",
    "5",
    "--num-threads",
    "1",
]


@pytest.fixture(scope="session")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model's transformer as GGUF."""
    path = tmp_path_factory.mktemp("files") / "tiny-q8.gguf"
    writer = gguf.GGUFWriter(str(path), "wan")
    (source,) = (BUNDLED_MODEL / "transformer").glob("*.safetensors")
    for name, tensor in load_file(source).items():
        kind = "Q8_0" if tensor.ndim == 2 and tensor.shape[-1] % 32 == 0 else "F32"
        quant = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quantize(tensor.float().numpy(), quant), raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_quantised_transformer_makes_a_clip_that_can_be_made_again_with_it_only(vitascope, quantised):
    made = vitascope("generate", *CLIP, "--transformer-path", quantised)
    assert (made.status, made.err) == (0, "")
    clip = made.out.splitlines()[0]
    plain = vitascope("generate", *CLIP).out.splitlines()[0]
    told, other = read_provenance(Path(clip)), read_provenance(Path(plain))
    assert told.identity != other.identity
    assert told.frames_sha256 != other.frames_sha256
    assert vitascope("reproduce", clip, "--transformer-path", quantised).out.startswith("identical")
    refused = vitascope("reproduce", clip)
    assert refused.status != 0
    assert "and its --transformer-path if it had one" in refused.message


def test_a_file_is_shown_with_what_it_holds(vitascope, quantised):
    shown = vitascope("models", "show", "--transformer-path", quantised)
    assert shown.status == 0, shown.err
    assert re.search(r"\n  transformer is tiny-q8\.gguf: \d+ tensors float32, \d+ tensors Q8_0\n", shown.out)
    size = quantised.stat().st_size / 1e6
    assert re.search(rf"\n  transformer +{size:,.1f} MB\n", shown.out)


def test_a_file_that_does_not_fit_is_refused_before_anything_is_loaded(vitascope, quantised, tmp_path):
    cut = tmp_path / "cut.gguf"
    shutil.copy(quantised, cut)
    with cut.open("rb+") as stream:
        stream.truncate(cut.stat().st_size - 1000)
    refused = vitascope("generate", *CLIP, "--transformer-path", cut)
    assert refused.status != 0
    assert re.search(
        r"cut\.gguf is damaged or cut short: tensor '.*' ends at byte \d+ of \d+\.", refused.message
    )


def test_a_setting_names_each_file_once(tmp_path):
    given = (f"{tmp_path}/a=b.gguf", "transformer_2=~/low.gguf")
    settings = load_settings({"transformer_path": given}, environ={})
    assert settings.replaced == {
        "transformer": tmp_path / "a=b.gguf",
        "transformer_2": Path("~/low.gguf").expanduser(),
    }
    with pytest.raises(ConfigurationError, match="two files for transformer; write transformer_2=FILE"):
        load_settings({"transformer_path": ("a.gguf", "transformer=b.gguf")}, environ={})


def test_a_variable_names_several_files():
    settings = load_settings(environ={"VITASCOPE_TRANSFORMER_PATH": "a.gguf,transformer_2=b.gguf"})
    assert settings.replaced == {"transformer": Path("a.gguf"), "transformer_2": Path("b.gguf")}
