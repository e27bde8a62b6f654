"""Networks as our loading makes them against those of the libraries' own `from_pretrained`."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import diffusers
import diffusers.pipelines.ltx2
import pytest
import torch
import transformers
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import UMT5EncoderModel

import tiny_families  # noqa: F401  (adds every family's cases)
from tiny_models import tiny
from vitascope.errors import CheckpointError
from vitascope.weights.checkpoint import Checkpoint

CPU = torch.device("cpu")
CASES = ["wan21_i2v", "hunyuan_i2v_concat", "hunyuan15_i2v", "cogvideox_5b", "ltx2_t2v", "ltx23_t2v"]
LIBRARIES = (diffusers, transformers, diffusers.pipelines.ltx2)


def _class(name: str) -> Any:
    return next(getattr(library, name) for library in LIBRARIES if hasattr(library, name))


def networks(folder: Path) -> dict[str, Any]:
    """Return the class of every component that has weights."""
    index = json.loads((folder / "model_index.json").read_text())
    parts = {file.parent.name for file in folder.glob("*/*.safetensors")}
    return {part: _class(index[part][1]) for part in parts}


def tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    return dict(network.named_parameters()) | dict(network.named_buffers())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES)
def test_networks_are_those_of_the_libraries_to_the_bit(case: str, dtype: torch.dtype) -> None:
    folder = tiny(case).folder
    for part, kind in networks(folder).items():
        ours = Checkpoint.open(folder).network(part, kind, CPU, dtype)
        theirs = kind.from_pretrained(folder / part, dtype=dtype)
        mine, reference = tensors(ours), tensors(theirs)
        assert mine.keys() == reference.keys()
        for name, tensor in reference.items():
            assert mine[name].dtype == tensor.dtype, (part, name)
            assert torch.equal(mine[name], tensor), (part, name)
        assert not ours.training
        assert not any(parameter.requires_grad for parameter in ours.parameters())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny("wan21_t2v").folder, tmp_path / "model"))


def transformer(folder: Path, dtype: torch.dtype = torch.float32) -> nn.Module:
    network: nn.Module = Checkpoint.open(folder).network("transformer", WanTransformer3DModel, CPU, dtype)
    return network


def change(folder: Path, part: str = "transformer", **tensors: torch.Tensor | None) -> Path:
    """Change or remove tensors of a file of weights."""
    (file,) = (folder / part).glob("*.safetensors")
    changed = load_file(file) | tensors
    save_file({name: t for name, t in changed.items() if t is not None}, file, metadata={"format": "pt"})
    return file


def test_weights_in_shards_are_those_in_one_file(folder: Path) -> None:
    whole = transformer(folder).state_dict()
    shutil.rmtree(folder / "transformer")
    WanTransformer3DModel.from_pretrained(tiny("wan21_t2v").folder / "transformer").save_pretrained(
        folder / "transformer", max_shard_size="30KB"
    )
    assert len(list((folder / "transformer").glob("*-of-*.safetensors"))) > 2
    sharded = transformer(folder).state_dict()
    assert sharded.keys() == whole.keys()
    assert all(torch.equal(sharded[name], whole[name]) for name in whole)


def test_weights_lie_at_the_same_kind_of_address_whatever_the_file(folder: Path) -> None:
    """Kernels round by alignment: without this, another header before the same weights makes other clips."""
    addresses = {tensor.data_ptr() % 64 for tensor in transformer(folder).parameters()}
    assert addresses == {0}


def test_a_tensor_that_the_network_has_no_use_for_is_refused(folder: Path) -> None:
    file = change(folder, **{"blocks.9.ffn.weight": torch.zeros(3)})
    said = (
        f"transformer/{file.name}: the network of transformer/config.json has no tensor 'blocks.9.ffn.weight'"
    )
    with pytest.raises(CheckpointError, match=said):
        transformer(folder)


def test_a_tensor_that_a_class_is_known_to_leave_over_is_not(folder: Path) -> None:
    change(folder, **{"blocks.0.attn2.norm_added_q.weight": torch.zeros(3)})
    transformer(folder)


def test_whole_numbers_in_place_of_weights_are_refused(folder: Path) -> None:
    change(folder, **{"proj_out.bias": torch.zeros(64, dtype=torch.int8)})
    with pytest.raises(CheckpointError, match=r"'proj_out.bias' is int8, where the network has float32"):
        transformer(folder)


def test_what_is_wrong_is_said_before_anything_is_read(folder: Path) -> None:
    change(folder, **{"proj_out.bias": torch.zeros(7)})
    told: list[int] = []
    checkpoint = Checkpoint.open(folder, on_load=lambda _part, done, _total: told.append(done))
    with pytest.raises(CheckpointError, match=r"\(7,\) in the file and \(64,\) by transformer/config.json"):
        checkpoint.network("transformer", WanTransformer3DModel, CPU, torch.float32)
    assert told == []


def test_a_text_encoders_spare_tensors_are_named_in_the_log(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change(folder, "text_encoder", **{"lm_head.weight": torch.zeros(3)})
    with caplog.at_level(logging.WARNING, "vitascope"):
        Checkpoint.open(folder).network("text_encoder", UMT5EncoderModel, CPU, torch.float32)
    assert (
        "text_encoder/model.safetensors holds tensors that are not used, such as lm_head.weight"
        in caplog.text
    )


def test_a_text_encoders_tensor_of_another_shape_is_named(folder: Path) -> None:
    change(folder, "text_encoder", **{"encoder.final_layer_norm.weight": torch.zeros(3)})
    with pytest.raises(
        CheckpointError, match=r"^text_encoder/model.safetensors: tensor .* is \(3,\) in the file"
    ):
        Checkpoint.open(folder).network("text_encoder", UMT5EncoderModel, CPU, torch.float32)
