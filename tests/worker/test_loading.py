"""How a worker comes by its model: measured, halted until there is room, told as it goes."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from vitascope.config import BUNDLED_MODEL, Settings
from vitascope.errors import CheckpointError, ConfigurationError
from vitascope.wire import Loading, Measure, Measured, Proceed, Shutdown
from vitascope.worker.loading import Told, load_model


class Line:
    """A server's side that answers what it hears with the next of its words."""

    def __init__(self, *words) -> None:
        self.words = list(words)
        self.heard: list = []

    def take(self, *, wait: bool) -> list:
        assert wait
        return [self.words.pop(0)]

    def send(self, event) -> None:
        self.heard.append(event)


def test_a_model_is_measured_before_its_weights_are_read_and_told_while_they_are():
    line = Line(Measure(), Proceed())
    family = load_model(Settings(device="cpu"), line)
    assert family.card.name == "vitascope-tiny"
    first, again, *told = line.heard
    assert isinstance(first, Measured)
    assert isinstance(again, Measured)
    on_disk = sum(file.stat().st_size for file in BUNDLED_MODEL.glob("*/*.safetensors"))
    assert first.device == "cpu"
    assert on_disk / 2 <= first.weights_bytes <= 3 * on_disk
    assert 0 < first.working_bytes < first.free_bytes
    assert [event.stage for event in told] == ["load"] * len(told)
    progress = [event.progress for event in told]
    assert progress == sorted(progress)
    assert progress[-1] == 1.0


def test_a_transformer_from_a_file_is_measured_and_loaded(tmp_path):
    (own,) = (BUNDLED_MODEL / "transformer").glob("*.safetensors")
    tensors = load_file(own)
    file = tmp_path / "mine.safetensors"
    save_file({f"diffusion_model.{name}": tensor * 2 for name, tensor in tensors.items()}, file)
    line = Line(Proceed())
    family = load_model(Settings(device="cpu", transformer_path=(str(file),)), line)
    assert family.card.components["transformer"] == file.stat().st_size
    network = family._parts.expert.network
    assert torch.equal(network.proj_out.weight, tensors["proj_out.weight"].float() * 2)


def test_a_worker_that_is_told_to_stop_reads_no_weights():
    line = Line(Shutdown())
    assert load_model(Settings(device="cpu"), line) is None
    assert [type(event) for event in line.heard] == [Measured]


def test_a_model_is_called_as_its_launch_says():
    family = load_model(Settings(device="cpu", model_name="mine", dtype="bfloat16"), Line(Proceed()))
    assert family.card.name == "mine"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"model_path": "/no/such/folder"}, CheckpointError),
        ({"device": "cuda:99"}, ConfigurationError),
    ],
)
def test_what_cannot_be_loaded_is_known_before_anything_is_measured(settings, error):
    line = Line()
    with pytest.raises(error):
        load_model(Settings(**settings), line)
    assert line.heard == []


def test_a_broken_checkpoint_is_known_before_anything_is_measured(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "NoSuchPipeline"}')
    line = Line()
    with pytest.raises(CheckpointError, match="NoSuchPipeline"):
        load_model(Settings(device="cpu", model_path=str(tmp_path)), line)
    assert line.heard == []


def test_each_percent_is_told_once():
    line = Line()
    told = Told(line.send, clock=lambda: 0.0)
    for done in range(2001):
        told("load", done, 2000)
    assert [event.progress for event in line.heard] == [percent / 100 for percent in range(101)]
    assert line.heard[-1] == Loading(stage="load", progress=1.0)
    told("download", 0, 0)  # an empty repository
    assert line.heard[-1] == Loading(stage="download", progress=0.0)


def test_slow_headway_within_a_percent_is_told_now_and_then():
    line, now = Line(), 0.0
    told = Told(line.send, clock=lambda: now)
    for now in range(25):  # noqa: B007  # the clock reads it
        told("download", 1, 1000)
    assert line.heard == [Loading(stage="download", progress=0.0)] * 3
