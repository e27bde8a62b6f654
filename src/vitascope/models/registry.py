"""Which family reads which folder: one line for each diffusers pipeline.

A family is imported when it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from typing import Protocol, cast

import torch

from vitascope.card import ModelCard
from vitascope.errors import CheckpointError
from vitascope.models.family import Family
from vitascope.request import Task
from vitascope.weights.checkpoint import INDEX, Checkpoint, Placement


@dataclass(frozen=True, slots=True)
class Recognised:
    """One diffusers pipeline: the family that reads its folders, what they do, which are published.

    What a single folder does is told from its configurations: the card's `tasks` are some of these.
    """

    pipeline: str  # the class in model_index.json
    family: str  # the folder beside this file whose `load` makes the family
    tasks: tuple[Task, ...]
    checkpoints: str


_FIRST_LAST: tuple[Task, ...] = ("i2v", "flf2v")
_ALL: tuple[Task, ...] = ("t2v", *_FIRST_LAST)

RECOGNISED = (
    Recognised(
        "WanPipeline", "wan", (*_ALL, "v2v"), "Wan2.1 T2V, Wan2.2 T2V-A14B and TI2V-5B, the bundled model"
    ),
    Recognised("WanImageToVideoPipeline", "wan", _FIRST_LAST, "Wan2.1 I2V and FLF2V, Wan2.2 I2V-A14B"),
    Recognised("HunyuanVideoPipeline", "hunyuan_video", ("t2v",), "HunyuanVideo"),
    Recognised("HunyuanVideoImageToVideoPipeline", "hunyuan_video", ("i2v",), "HunyuanVideo-I2V"),
    Recognised("HunyuanVideo15Pipeline", "hunyuan_video_15", ("t2v",), "HunyuanVideo-1.5 T2V"),
    Recognised("HunyuanVideo15ImageToVideoPipeline", "hunyuan_video_15", ("i2v",), "HunyuanVideo-1.5 I2V"),
    Recognised("CogVideoXPipeline", "cogvideox", ("t2v",), "CogVideoX-2b, -5b, CogVideoX1.5-5B"),
    Recognised("CogVideoXImageToVideoPipeline", "cogvideox", ("i2v",), "CogVideoX-5b-I2V, 1.5-5B-I2V"),
    Recognised("LTX2Pipeline", "ltx2", _ALL, "LTX-2, LTX-2.3, distilled ones; with sound"),
    Recognised("LTX2ImageToVideoPipeline", "ltx2", _ALL, "the same"),
    Recognised("LTX2ConditionPipeline", "ltx2", _ALL, "the same"),
)
FAMILIES = {kind.pipeline: f"{__package__}.{kind.family}" for kind in RECOGNISED}


class _Load(Protocol):
    def __call__(self, checkpoint: Checkpoint, placement: Placement) -> Family: ...


def load(checkpoint: Checkpoint, placement: Placement) -> Family:
    """Load a folder with the family that its index asks for.

    Raises:
        CheckpointError: no family reads it, or it cannot be used.

    """
    package = FAMILIES.get(checkpoint.pipeline)
    if package is None:
        known = ", ".join(sorted(FAMILIES))
        raise CheckpointError(f"{INDEX} says {checkpoint.pipeline!r}; pipelines known here are {known}.")
    make = cast("_Load", import_module(package).load)
    return make(checkpoint, placement)


def describe(checkpoint: Checkpoint) -> ModelCard:
    """Tell what a folder can do from its configurations alone; the card's `identity` is empty.

    Raises:
        CheckpointError: as for `load`, as far as it can be seen without reading weights.

    """
    return outline(checkpoint, Placement(torch.device("cpu"), torch.float32)).card


def outline(checkpoint: Checkpoint, placement: Placement) -> Family:
    """Make the family of a folder from its configurations alone: its networks have shapes and no memory.

    They are of the dtypes that they would have by `placement`.

    Raises:
        CheckpointError: as for `describe`.

    """
    return load(replace(checkpoint, outline=True), replace(placement, device=torch.device("meta")))
