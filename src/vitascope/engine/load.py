"""From a folder or hub id to a loaded family on a device."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import torch

from vitascope.card import ModelCard
from vitascope.config.model_source import ModelSource
from vitascope.config.named_paths import AdapterSpec
from vitascope.engine.cuda import check_usable
from vitascope.errors import ConfigurationError, OutOfMemory
from vitascope.models.family import Family
from vitascope.models.registry import describe, load
from vitascope.weights.checkpoint import Checkpoint, Placement
from vitascope.weights.find import find_model
from vitascope.weights.hub import OnProgress
from vitascope.weights.reading import OnLoad

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_family(
    source: ModelSource,
    *,
    device: str = "auto",
    dtype: str | None = None,
    vae_dtype: str = "auto",
    name: str | None = None,
    on_download: OnProgress | None = None,
    on_load: OnLoad | None = None,
    adapters: Sequence[AdapterSpec] = (),
) -> Family:
    """Load a model; one of the hub is downloaded first, which `on_download` hears of as in `find_model`.

    `device` is auto, cpu, cuda or cuda:N; `dtype` (float32, bfloat16, float16) is bfloat16 on an accelerator
    and float32 on the CPU unless said. `vae_dtype` is float32, or auto: 16 bits on an accelerator where the
    reference's VAE has them. `adapters` are laid beside the weights, for requests to choose. `on_load` is
    called with the component that is read, the bytes read of all and the bytes of all; what it raises stops
    the loading.

    Raises:
        CheckpointError: there is no such model, or it cannot be used.
        ConfigurationError: a device or dtype that is not known or not there.
        OutOfMemory: the weights do not fit on the device.

    """
    placement = pick_placement(device, dtype, vae_dtype)  # before a download of hours
    root = find_model(source, on_download)
    checkpoint = Checkpoint.open(root, name or source.name, replaced=source.replaced, on_load=on_load)
    try:
        family = load(checkpoint, placement)
        for spec in adapters:
            family.adapters.register(spec)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(
            f"{checkpoint.name} does not fit into what is free of the memory of {placement.device}; "
            "take another device, or weights of fewer bits (transformer_path)."
        ) from error
    # The operator's name wins over the one that a folder's manifest gives.
    family.card = replace(family.card, name=name or family.card.name, adapters=family.adapters.names)
    return family


def describe_model(source: ModelSource, on_download: OnProgress | None = None) -> ModelCard:
    """Tell what a model can do without reading its weights; a hub id is downloaded as by `load_family`.

    Raises:
        CheckpointError: there is no such model, or it cannot be used.

    """
    root = find_model(source, on_download)
    return describe(Checkpoint.open(root, source.name, replaced=source.replaced))


def pick_placement(device: str, dtype: str | None, vae_dtype: str = "auto") -> Placement:
    """Turn the operator's words into where networks go and what they are held in.

    Raises:
        ConfigurationError: an unknown word; and as `pick_device` does.

    """
    if vae_dtype not in {"auto", "float32"}:
        raise ConfigurationError(f"vae_dtype is {vae_dtype!r}; use auto or float32.")
    where = pick_device(device)
    chosen = pick_dtype(dtype, where)
    return Placement(
        where, chosen, half_vaes=vae_dtype == "auto" and where.type != "cpu" and chosen != torch.float32
    )


def pick_device(device: str) -> torch.device:
    """Turn the operator's word into a device that is there.

    Raises:
        ConfigurationError: an unknown word, or a device that this machine lacks or PyTorch cannot use.

    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise ConfigurationError(f"device is {device!r}; use auto, cpu, cuda or cuda:N.")
    where = torch.device(device)
    if where.type == "cuda":
        check_usable(where)
    return where


def default_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype of the big networks on a device, unless another is asked for."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def pick_dtype(dtype: str | None, device: torch.device) -> torch.dtype:
    """Turn the operator's word, or None, into the dtype of the big networks.

    Raises:
        ConfigurationError: an unknown word.

    """
    if dtype is None:
        return default_dtype(device)
    if dtype not in _DTYPES:
        raise ConfigurationError(f"dtype is {dtype!r}; use {', '.join(_DTYPES)}.")
    return _DTYPES[dtype]
