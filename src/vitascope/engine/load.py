"""From a folder or hub id to a loaded family on a device."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from vitascope.card import ModelCard
from vitascope.config.named_paths import AdapterSpec
from vitascope.errors import CheckpointError, ConfigurationError
from vitascope.models.family import Family
from vitascope.models.registry import describe, load
from vitascope.weights.checkpoint import Checkpoint, Placement
from vitascope.weights.hub import OnProgress, fetch
from vitascope.weights.reading import OnLoad
from vitascope.weights.single_files import read_single

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_family(
    path_or_id: str | Path,
    *,
    device: str = "auto",
    dtype: str | None = None,
    name: str | None = None,
    revision: str | None = None,
    cache_dir: Path | None = None,
    offline: bool = False,
    on_download: OnProgress | None = None,
    on_load: OnLoad | None = None,
    adapters: Sequence[AdapterSpec] = (),
    replaced: Mapping[str, Path] | None = None,
) -> Family:
    """Load a model folder, or download one from the hub first.

    `device` is auto, cpu, cuda or cuda:N; `dtype` (float32, bfloat16, float16) is bfloat16 on an accelerator
    and float32 on the CPU unless said. The VAE always runs in float32. `adapters` are laid beside the
    weights, for requests to choose. `on_load` is called with the component that is read, the bytes read of
    all and the bytes of all; what it raises stops the loading. `replaced` are components (`transformer`)
    whose weights come from a .safetensors or .gguf file. The rest is for hub ids: see `find_model`.

    Raises:
        CheckpointError: there is no such model, or it cannot be used.
        ConfigurationError: a device or dtype that is not known or not there.

    """
    where = pick_device(device)
    chosen_dtype = pick_dtype(dtype, where)  # before a download of hours
    root = find_model(
        path_or_id,
        revision=revision,
        cache_dir=cache_dir,
        offline=offline,
        on_download=on_download,
        replaced=replaced,
    )
    checkpoint = Checkpoint.open(root, name or name_of(path_or_id), replaced=replaced, on_load=on_load)
    family = load(checkpoint, Placement(where, chosen_dtype))
    for spec in adapters:
        family.adapters.register(spec)
    # The operator's name wins over the one that a folder's manifest gives.
    family.card = replace(family.card, name=name or family.card.name, adapters=family.adapters.names)
    return family


def describe_model(
    path_or_id: str | Path,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    offline: bool = False,
    on_download: OnProgress | None = None,
    replaced: Mapping[str, Path] | None = None,
) -> ModelCard:
    """Tell what a model can do without reading its weights; a hub id is downloaded as by `load_family`.

    `replaced` is as for `load_family`.

    Raises:
        CheckpointError: there is no such model, or it cannot be used.

    """
    root = find_model(
        path_or_id,
        revision=revision,
        cache_dir=cache_dir,
        offline=offline,
        on_download=on_download,
        replaced=replaced,
    )
    return describe(Checkpoint.open(root, name_of(path_or_id), replaced=replaced))


def pick_device(device: str) -> torch.device:
    """Turn the operator's word into a device that is there.

    Raises:
        ConfigurationError: an unknown word, or a device this machine lacks.

    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise ConfigurationError(f"device is {device!r}; use auto, cpu, cuda or cuda:N.")
    where = torch.device(device)
    if where.type == "cuda" and (where.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(
            f"device is {device!r}, but this machine has {torch.cuda.device_count()} CUDA devices; "
            "use cpu or auto."
        )
    return where


def find_model(
    path_or_id: str | Path,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    offline: bool = False,
    on_download: OnProgress | None = None,
    replaced: Mapping[str, Path] | None = None,
) -> Path:
    """Return the folder of a model; a hub id is downloaded, or found in the hub's cache.

    `revision` pins a hub model's branch, tag or commit, `cache_dir` is where hub models are kept (the hub's
    own cache by default), `offline` never asks the hub; `on_download` is called with the bytes that are here
    and all. Weights of components that are `replaced` by files are not downloaded.

    Raises:
        CheckpointError: neither a folder nor an id that the hub can give, or no such file in its place.
        ConfigurationError: a revision of a folder.

    """
    for file in (replaced or {}).values():
        read_single(file)  # before a download of hours
    path = Path(path_or_id).expanduser()
    if not str(path_or_id):
        raise CheckpointError("The model's path is empty; leave it out for the bundled model.")
    if path.is_dir():
        if revision is not None:
            raise ConfigurationError(
                f"The revision {revision!r} is for a hub model; {path.name} is a folder, which has none."
            )
        return path
    if path.is_file():
        raise CheckpointError(
            f"{str(path_or_id)!r} is a file, and a model is a folder; weights in one file go beside their "
            "folder, as transformer_path."
        )
    if not is_hub_id(path_or_id):
        raise CheckpointError(
            f"There is no folder {str(path_or_id)!r}; give a model folder or a hub id owner/name."
        )
    return fetch(
        str(path_or_id),
        revision=revision,
        cache_dir=cache_dir,
        offline=offline,
        on_progress=on_download,
        replaced=list(replaced or ()),
    )


def is_hub_id(path_or_id: str | Path) -> bool:
    """Whether it is written as a hub id (owner/name); a folder of that name goes first."""
    return _HUB_ID.fullmatch(str(path_or_id)) is not None


def name_of(path_or_id: str | Path) -> str | None:
    """Name a hub model by its id; a folder names itself."""
    return None if Path(path_or_id).expanduser().is_dir() else str(path_or_id).rsplit("/", 1)[-1]


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
