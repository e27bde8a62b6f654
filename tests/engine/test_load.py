from pathlib import Path

import pytest
import torch

from tiny_models import tiny
from vitascope.engine.load import find_model, load_family, pick_device
from vitascope.errors import CheckpointError, ConfigurationError


def test_auto_picks_a_device_that_is_there() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert pick_device("auto").type == expected


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "", "cpu0"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(ConfigurationError, match="use auto, cpu, cuda or cuda:N"):
        pick_device(device)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="CUDA devices"):
        pick_device("cuda:99")


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"'int8'.*float32"):
        load_family(tiny("wan21_t2v").folder, device="cpu", dtype="int8")


def test_a_folder_is_found_as_it_is(tmp_path: Path) -> None:
    assert find_model(tmp_path) == tmp_path


@pytest.mark.parametrize("name", ["no/such/folder", "missing", "../x"])
def test_neither_folder_nor_hub_id_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="There is no folder"):
        find_model(name)


def test_a_file_and_an_empty_path_are_told_from_a_folder_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "wan.gguf").touch()
    with pytest.raises(CheckpointError, match=r"wan.gguf' is a file, .*transformer_path"):
        find_model(tmp_path / "wan.gguf")
    with pytest.raises(CheckpointError, match="The model's path is empty"):
        find_model("")


def test_a_hub_id_offline_is_refused_with_advice() -> None:
    with pytest.raises(CheckpointError, match="neither a folder nor in the cache, and offline mode is on"):
        find_model("nobody/no-such-model")


def test_the_model_is_called_as_its_folder_or_as_told() -> None:
    folder = tiny("wan21_t2v").folder
    assert load_family(folder, device="cpu").card.name == "wan21_t2v"
    assert load_family(folder, device="cpu", name="mine").card.name == "mine"


def test_the_cpu_runs_in_float32_unless_told() -> None:
    folder = tiny("wan21_t2v").folder
    parts = load_family(folder, device="cpu")._parts
    assert parts.expert.network.dtype == parts.vae.vae.dtype == torch.float32
    parts = load_family(folder, device="cpu", dtype="bfloat16")._parts
    assert parts.expert.network.proj_out.weight.dtype == torch.bfloat16
    assert parts.expert.network.scale_shift_table.dtype == torch.float32
    assert parts.vae.vae.dtype == torch.float32


def test_a_revision_of_a_folder_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is for a hub model; wan21_t2v is a folder"):
        load_family(tiny("wan21_t2v").folder, device="cpu", revision="main")
