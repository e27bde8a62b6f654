"""Which family reads which folder: one line for each diffusers pipeline.

A family is imported when it is needed.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Protocol, cast

import torch

from vitascope.card import ModelCard
from vitascope.errors import CheckpointError
from vitascope.models.checkpoint import INDEX, Checkpoint, Placement
from vitascope.models.family import Family

# The pipeline class in model_index.json, and the package whose `load` makes the family.
FAMILIES = {
    "CogVideoXPipeline": "vitascope.models.cogvideox",
    "CogVideoXImageToVideoPipeline": "vitascope.models.cogvideox",
    "HunyuanVideo15ImageToVideoPipeline": "vitascope.models.hunyuan_video_15",
    "HunyuanVideo15Pipeline": "vitascope.models.hunyuan_video_15",
    "HunyuanVideoImageToVideoPipeline": "vitascope.models.hunyuan_video",
    "HunyuanVideoPipeline": "vitascope.models.hunyuan_video",
    "LTX2ConditionPipeline": "vitascope.models.ltx2",
    "LTX2ImageToVideoPipeline": "vitascope.models.ltx2",
    "LTX2Pipeline": "vitascope.models.ltx2",
    "WanPipeline": "vitascope.models.wan",
    "WanImageToVideoPipeline": "vitascope.models.wan",
}


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
    return load(replace(checkpoint, outline=True), Placement(torch.device("meta"), torch.float32)).card
