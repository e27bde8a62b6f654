import pytest
import torch

from tiny_models import tiny
from vitascope.config.model_source import ModelSource
from vitascope.engine.load import load_family, pick_device, pick_placement
from vitascope.errors import ConfigurationError, OutOfMemory
from vitascope.weights.reading import Reading


def test_auto_picks_a_device_that_is_there() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert pick_device("auto").type == expected


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "", "cpu0"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(ConfigurationError, match="use auto, cpu, cuda or cuda:N"):
        pick_device(device)


def test_a_device_that_is_not_there_is_refused() -> None:
    why = "CUDA devices" if torch.cuda.is_available() else "CUDA cannot be used: .*Mend that, or use cpu"
    with pytest.raises(ConfigurationError, match=why):
        pick_device("cuda:99")


def test_a_folder_is_not_blamed_for_the_devices_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhaust(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 26.00 GiB.")

    monkeypatch.setattr(Reading, "tensors", exhaust)
    with pytest.raises(OutOfMemory, match=r"wan21_t2v does not fit .* memory of cpu"):
        load_family(ModelSource(tiny("wan21_t2v").folder), device="cpu")


def test_the_cpu_has_no_vaes_in_16_bits() -> None:
    assert not pick_placement("cpu", "bfloat16").half_vaes


def test_an_unknown_dtype_of_the_vae_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"vae_dtype is 'fp16'; use auto or float32\."):
        pick_placement("cpu", None, "fp16")


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"'int8'.*float32"):
        load_family(ModelSource(tiny("wan21_t2v").folder), device="cpu", dtype="int8")


def test_the_model_is_called_as_its_folder_or_as_told() -> None:
    folder = tiny("wan21_t2v").folder
    assert load_family(ModelSource(folder), device="cpu").card.name == "wan21_t2v"
    assert load_family(ModelSource(folder), device="cpu", name="mine").card.name == "mine"


def test_the_cpu_runs_in_float32_unless_told() -> None:
    folder = tiny("wan21_t2v").folder
    parts = load_family(ModelSource(folder), device="cpu")._parts
    assert parts.expert.network.dtype == parts.vae.vae.dtype == torch.float32
    parts = load_family(ModelSource(folder), device="cpu", dtype="bfloat16")._parts
    assert parts.expert.network.proj_out.weight.dtype == torch.bfloat16
    assert parts.expert.network.scale_shift_table.dtype == torch.float32
    assert parts.vae.vae.dtype == torch.float32
