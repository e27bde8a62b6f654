import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny_models import tiny
from vitascope.config.model_source import ModelSource
from vitascope.engine.load import load_family
from vitascope.errors import CheckpointError
from vitascope.weights.checkpoint import Checkpoint

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny("wan21_t2v").folder, tmp_path / "model"))


def edit_index(folder: Path, **changes: object) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_family(ModelSource(folder), device="cpu")
    assert "\n" not in str(caught.value)
    assert str(folder.parent) not in str(caught.value)
    return str(caught.value)


def test_a_file_that_was_cut_short_is_named(folder: Path) -> None:
    file = folder / "vae" / WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])
    assert f"vae/{WEIGHTS} is damaged or cut short" in refusal(folder)


def test_a_file_of_garbage_is_named(folder: Path) -> None:
    (folder / "transformer" / WEIGHTS).write_bytes(b"\xff" * 1000)
    assert f"transformer/{WEIGHTS} is damaged" in refusal(folder)


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_a_missing_tensor_is_named(folder: Path, part: str) -> None:
    file = folder / part / WEIGHTS
    tensors = load_file(file)
    name = sorted(tensors)[3]
    del tensors[name]
    save_file(tensors, file, metadata={"format": "pt"})
    assert refusal(folder) == f"{part}/{WEIGHTS}: tensor {name!r} is missing."


def test_a_missing_tensor_of_the_text_encoder_is_named(folder: Path) -> None:
    file = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    del tensors["encoder.final_layer_norm.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    assert "text_encoder/model.safetensors: tensor 'encoder.final_layer_norm.weight' is missing" in refusal(
        folder
    )


def test_a_tensor_of_another_shape_is_named_with_both_shapes(folder: Path) -> None:
    file = folder / "transformer" / WEIGHTS
    tensors = load_file(file)
    tensors["proj_out.bias"] = torch.zeros(7)
    save_file(tensors, file, metadata={"format": "pt"})
    message = refusal(folder)
    assert f"transformer/{WEIGHTS}: tensor 'proj_out.bias'" in message
    assert "(7,)" in message
    assert "(64,)" in message


def test_pickled_weights_are_not_read(folder: Path) -> None:
    file = folder / "transformer" / WEIGHTS
    torch.save(load_file(file), file.with_name("diffusion_pytorch_model.bin"))
    file.unlink()
    message = refusal(folder)
    assert "no .safetensors file in transformer/" in message
    assert "can run code" in message


def test_a_class_off_the_list_is_refused_with_those_that_are_known(folder: Path) -> None:
    edit_index(folder, vae=["diffusers", "AutoencoderKL"])
    assert "vae is a 'AutoencoderKL'; known here for it are AutoencoderKLWan" in refusal(folder)


def test_a_component_that_is_not_listed_is_named(folder: Path) -> None:
    edit_index(folder, vae=[None, None])
    assert "lists no 'vae'" in refusal(folder)


def test_a_config_that_is_no_json_is_named(folder: Path) -> None:
    (folder / "scheduler" / "scheduler_config.json").write_text("{")
    assert "scheduler/scheduler_config.json cannot be read as JSON" in refusal(folder)


def test_a_missing_config_is_named(folder: Path) -> None:
    (folder / "scheduler" / "scheduler_config.json").unlink()
    assert "scheduler/scheduler_config.json is missing" in refusal(folder)


def test_a_missing_tokenizer_is_named(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")
    assert "model has no folder tokenizer/" in refusal(folder)


def test_a_damaged_tokenizer_is_named(folder: Path) -> None:
    (folder / "tokenizer" / "tokenizer.json").write_text("{")
    assert "tokenizer of model cannot be loaded" in refusal(folder)


def test_a_folder_without_an_index_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"There is no model_index\.json in .*; a model is a folder in diffusers"
    ):
        Checkpoint.open(tmp_path)


def test_the_identity_follows_the_weights_and_nothing_else(folder: Path) -> None:
    before = Checkpoint.open(folder).identity()
    edit_index(folder, _diffusers_version="0.0.0")
    assert Checkpoint.open(folder.rename(folder.with_name("moved"))).identity() == before
    moved = folder.with_name("moved")
    file = moved / "vae" / WEIGHTS
    tensors = load_file(file)
    tensors[min(tensors)] += 1e-3
    save_file(tensors, file, metadata={"format": "pt"})
    assert Checkpoint.open(moved).identity() != before


def test_a_hub_caches_blob_names_spare_reading_the_blobs(folder: Path, tmp_path: Path) -> None:
    by_bytes = Checkpoint.open(folder).identity()
    for file in sorted(folder.glob("*/*.safetensors")):
        blob = tmp_path / hashlib.sha256(file.read_bytes()).hexdigest()
        file.rename(blob)
        file.symlink_to(blob)
    assert Checkpoint.open(folder).identity() == by_bytes


def test_a_text_encoder_has_one_embedding_whatever_its_configuration_says(folder: Path) -> None:
    """UMT5's published configuration denies it, and its file holds the tensor once."""
    path = folder / "text_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": False}))
    stored = load_file(folder / "text_encoder" / "model.safetensors")
    assert "encoder.embed_tokens.weight" not in stored
    encoder = load_family(ModelSource(folder), device="cpu")._parts.text._encoder  # type: ignore[attr-defined]
    assert torch.equal(encoder.encoder.embed_tokens.weight, stored["shared.weight"])


def test_what_lies_beside_a_model_is_no_part_of_it(folder: Path) -> None:
    before = Checkpoint.open(folder)
    (folder / "latent_upsampler").mkdir()
    for file in ("latent_upsampler/" + WEIGHTS, "vae/diffusion_pytorch_model.fp16.safetensors"):
        shutil.copy(folder / "vae" / WEIGHTS, folder / file)
    assert Checkpoint.open(folder).component_bytes() == before.component_bytes()
    assert Checkpoint.open(folder).identity() == before.identity()


def test_weights_of_a_further_precision_do_where_there_are_no_plain_ones(folder: Path) -> None:
    before = load_family(ModelSource(folder), device="cpu").card
    file = folder / "vae" / WEIGHTS
    file.rename(file.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert load_family(ModelSource(folder), device="cpu").card.components == before.components
    shutil.copy(folder / "transformer" / WEIGHTS, folder / "vae" / "diffusion_pytorch_model.bf16.safetensors")
    assert "which contradict each other" in refusal(folder)


def test_component_sizes_are_those_of_the_files(folder: Path) -> None:
    sizes = Checkpoint.open(folder).component_bytes()
    assert sizes["vae"] == (folder / "vae" / WEIGHTS).stat().st_size
    assert sizes.keys() == {"transformer", "text_encoder", "vae"}
