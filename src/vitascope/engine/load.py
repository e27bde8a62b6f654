"""From a folder or hub id to a loaded family on a device."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from vitascope.errors import CheckpointError, ConfigurationError
from vitascope.models.checkpoint import Checkpoint, Placement
from vitascope.models.family import Family
from vitascope.models.registry import load

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WANTED = ["*.json", "*/*.json", "*/*.safetensors", "*/*.model", "*/*.txt"]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_family(
    path_or_id: str | Path, *, device: str = "auto", dtype: str | None = None, name: str | None = None
) -> Family:
    """Load a model folder, or download one from the hub first.

    `device` is auto, cpu, cuda or cuda:N; `dtype` (float32, bfloat16, float16) is bfloat16 on an accelerator
    and float32 on the CPU unless said. The VAE always runs in float32.

    Raises:
        CheckpointError: there is no such model, or it cannot be used.
        ConfigurationError: a device or dtype that is not known or not there.

    """
    where = pick_device(device)
    root = find_model(path_or_id)
    called = name or (str(path_or_id).rsplit("/", 1)[-1] if not Path(path_or_id).exists() else None)
    return load(Checkpoint.open(root, called), Placement(where, _pick_dtype(dtype, where)))


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


def find_model(path_or_id: str | Path) -> Path:
    """Return the folder of a model; a hub id is downloaded (or found in the hub's cache).

    Raises:
        CheckpointError: neither a folder nor an id that the hub can give.

    """
    path = Path(path_or_id).expanduser()
    if path.is_dir():
        return path
    if not _HUB_ID.fullmatch(str(path_or_id)):
        raise CheckpointError(
            f"There is no folder {str(path_or_id)!r}; give a model folder or a hub id owner/name."
        )
    try:
        return Path(snapshot_download(str(path_or_id), allow_patterns=_WANTED))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise CheckpointError(
            f"There is no folder {str(path_or_id)!r}, and the hub cannot be asked for a model of that name "
            f"({type(error).__name__}). Offline, give a folder or a model that was downloaded before."
        ) from error


def _pick_dtype(dtype: str | None, device: torch.device) -> torch.dtype:
    if dtype is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if dtype not in _DTYPES:
        raise ConfigurationError(f"dtype is {dtype!r}; use {', '.join(_DTYPES)}.")
    return _DTYPES[dtype]
