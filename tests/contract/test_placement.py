"""Every family on a pretended accelerator: all tensors lie where they must, and the clip is the CPU's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny_families  # noqa: F401  (adds every family's cases)
from pretended_device import DEVICE, Pretence
from tiny_models import Tiny, tiny
from vitascope.engine.generation import Generation, Snapshot, Stage
from vitascope.models.family import Chunk, Family
from vitascope.models.registry import load
from vitascope.weights.checkpoint import Checkpoint, Placement
from vitascope.weights.layouts import WeightFile
from vitascope.weights.reading import Reading

CASES = [
    "wan21_i2v",
    "wan22_t2v",
    "hunyuan_t2v",
    "hunyuan_i2v_replace",
    "hunyuan15_i2v",
    "cogvideox_5b_i2v",
    "ltx2_i2v",
]
STEPS = 3  # as many as a solver of the second order needs to take every way there is
# Whose turn it is of two experts is asked before anything of a step is begun.
ALLOWED = {"wan22_t2v": "aten.is_nonzero.default in"}


class ReadHere(Reading):
    """Reads on the host and copies then: the pretence holds for one thread, and files are read in several."""

    def tensors(
        self, part: str, files: Sequence[WeightFile], dtypes: Mapping[str, torch.dtype], device: torch.device
    ) -> dict[str, Tensor]:
        read = super().tensors(part, files, dtypes, torch.device("cpu"))
        return {name: tensor.to(device) for name, tensor in read.items()}


@dataclass
class Made:
    """A clip that is made as the engine makes it, but for what that asks of a device beside arithmetic."""

    family: Family
    generation: Generation
    chunks: list[Chunk]
    waits: list[str] = field(default_factory=list)  # of the host for the device, in the midst of predictions
    first: Snapshot | None = None

    def denoise(self, pretence: Pretence | None = None) -> dict[str, Tensor]:
        """Encode and take all steps; return the latents, on the host."""
        generation = self.generation
        generation.encode(self.family)
        while generation.stage is Stage.DENOISE:
            before = 0 if pretence is None else len(pretence.waits)
            (prediction,) = self.family.predict([generation.sample])
            self.waits += [] if pretence is None else pretence.waits[before:]
            generation.advance(prediction)
            self.first = self.first or generation.save()
        latents = self.family.finish(generation.sample)
        streams = latents if isinstance(latents, dict) else {"video": latents}
        return {name: tensor.cpu() for name, tensor in streams.items()}

    def frames(self) -> np.ndarray:
        """Decode; return the frames."""
        while self.generation.stage is not Stage.DONE:
            self.generation.decode(self.family)
        return np.concatenate([chunk.frames for chunk in self.chunks]).astype(int)


def loaded(model: Tiny, device: torch.device, *, half_vaes: bool = False) -> Family:
    """Load a case in the dtype of accelerators."""
    checkpoint = replace(Checkpoint.open(model.folder), reading=ReadHere())
    return load(checkpoint, Placement(device, torch.bfloat16, half_vaes=half_vaes))


def begun(model: Tiny, family: Family, resume: bytes | None = None) -> Made:
    chunks: list[Chunk] = []
    request, media = model.request(num_inference_steps=STEPS), model.case.media
    return Made(family, Generation("job", request, media, sink=chunks.append, resume=resume), chunks)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(params=CASES)
def model(request: pytest.FixtureRequest) -> Tiny:
    return tiny(request.param)


def test_a_clip_made_on_an_accelerator_is_the_cpus(model: Tiny) -> None:
    with torch.inference_mode():
        expected = begun(model, loaded(model, torch.device("cpu")))
        latents, frames = expected.denoise(), expected.frames()
        with Pretence() as pretence:
            made = begun(model, loaded(model, DEVICE))
            assert equal(made.denoise(pretence), latents)
            # Decoders take another way through convolutions on the CPU; a colour may be rounded differently.
            assert np.abs(made.frames() - frames).max() <= 1
            assert made.family.preview(made.generation.sample) is not None
            assert made.first is not None
            assert equal(begun(model, made.family, made.first.state).denoise(), latents)
    ours = [wait for wait in made.waits if " in /" in wait]  # a library's line stands before one of ours
    assert [wait for wait in ours if not wait.startswith(ALLOWED.get(model.case.name, "nothing"))] == []


@pytest.mark.parametrize("name", ["hunyuan_t2v", "hunyuan15_i2v", "cogvideox_5b_i2v"])
def test_a_vae_of_16_bits_makes_nearly_the_same_clip(name: str) -> None:
    """As it does on an accelerator; kernels of the CPU for a decoder of its own have 32 bits alone."""
    model = tiny(name)
    with torch.inference_mode(), Pretence():
        clips = []
        for half_vaes in (False, True):
            made = begun(model, loaded(model, DEVICE, half_vaes=half_vaes))
            made.denoise()
            clips.append(made.frames())
    assert clips[0].shape == clips[1].shape
    assert 0 < np.abs(clips[0] - clips[1]).mean() < 3  # of 255


def test_the_pretended_device_refuses_what_lies_apart() -> None:
    with Pretence() as pretence:
        there = torch.ones(3, device=DEVICE)
        assert (there + torch.tensor(1.0)).device == DEVICE  # a lone number may come from anywhere
        assert pretence.waits == []
        with pytest.raises(RuntimeError, match="on the device and, of shapes"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="on the device and, of shapes"):
            torch.cat([there, torch.ones(1)])
        assert float(there.sum()) == 3.0
        assert there.cpu().device.type == "cpu"
        torch.tensor([1.0, 2.0], device=DEVICE)
        there[there > 0]
    assert len(pretence.waits) == 4
