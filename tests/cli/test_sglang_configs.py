"""The two `generate` configuration files of SGLang's documentation, and those of docs/dialects.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from documents import DIALECTS, blocks
from vitascope.media.provenance import read_provenance

PROMPT = "a red circle moving right on a blue background"

# Its keys and values, but for model and prompt.
DOCUMENTED: dict[str, Any] = {
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
NOT_HERE = {  # what asks for a feature that is not there; a row leaves with its feature
    "num_gpus 2", "sp_size 2", "vae_precision fp16", "vae_tiling", "load_encoder false",
    "tile_sample_min_height 256", "tile_sample_min_width 256", "text_encoder_precisions fp16,fp16",
}  # fmt: skip
FITS_THE_BUNDLED_MODEL = {"width": 64, "height": 64, "num_frames": 17}


def written(content: dict[str, Any], name: str) -> Path:
    path = Path(name)
    path.write_text(json.dumps(content) if name.endswith(".json") else yaml.safe_dump(content))
    return path


def without(content: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    return {
        key: without(value, keys) if isinstance(value, dict) else value
        for key, value in content.items()
        if key not in keys
    }


def made(told) -> Any:
    """Return what the one clip says of its request."""
    assert told.status == 0, told.err
    [clip] = Path("outputs").glob("*.mp4")
    request = read_provenance(clip).request
    assert (request.num_frames, request.width, request.height) == (17, 64, 64)
    assert (request.num_inference_steps, request.seed, request.fps) == (6, 1024, 24)
    return request


@pytest.mark.parametrize("name", ["config.json", "config.yaml"])
def test_its_file_is_refused_with_every_key_that_has_nothing_here(vitascope, name):
    told = vitascope("generate", "--config", written({"prompt": PROMPT, **DOCUMENTED}, name))
    assert told.status != 0
    [listed] = re.findall(r"This version has nothing for (.*); leave them out", told.message)
    assert set(re.sub(r" \([^)]*\)", "", listed).split(", ")) == NOT_HERE


@pytest.mark.parametrize("name", ["config.json", "config.yaml"])
def test_its_file_runs_without_them_in_the_models_size(vitascope, name):
    rest = without(DOCUMENTED, {word.split()[0] for word in NOT_HERE})
    assert rest["precision"] == "bf16"
    made(
        vitascope("generate", "--config", written({"prompt": PROMPT, **rest, **FITS_THE_BUNDLED_MODEL}, name))
    )


@pytest.mark.parametrize("language", ["json", "yaml"])
def test_our_documented_file_runs_as_it_stands(vitascope, language):
    [example] = blocks(DIALECTS, language, section="SGLang")
    Path(f"clip.{language}").write_text(example)
    assert made(vitascope("generate", "--config", f"clip.{language}")).prompt == PROMPT
