"""Networks of diffusers and transformers made of weights: by each class's own rules, nothing left over.

Those of diffusers are made without memory and given tensors that already lie where they will run; those of
transformers go through their library's loader, which renames and ties weights, and are then moved.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import ModelMixin
from diffusers.models.modeling_utils import no_init_weights
from torch import Tensor
from transformers.utils import logging as transformers_logging

from vitascope.errors import CheckpointError
from vitascope.weights.layouts import Stored, WeightFile

_log = logging.getLogger(__name__)

Read = Callable[[Mapping[str, torch.dtype], torch.device], dict[str, Tensor]]
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Source:
    """A component's folder (its configuration) and the files of its weights; `name` is the component's."""

    name: str
    folder: Path
    files: Sequence[WeightFile]

    def stored(self) -> dict[str, Stored]:
        """Return every tensor by its name."""
        return {stored.name: stored for file in self.files for stored in file.tensors}

    def shown(self, tensor: str | None = None) -> str:
        """Name the file that holds a tensor; for one that none holds, the component's file or folder."""
        for file in self.files:
            if len(self.files) == 1 or any(stored.name == tensor for stored in file.tensors):
                return file.shown
        return f"{self.name}/"


def outline(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Make a network that has shapes and no weights.

    Raises:
        ValueError, KeyError, TypeError, RuntimeError, OSError: the configuration is not one for this class.

    """
    with torch.device("meta"), default_dtype(dtype):
        if issubclass(kind, ModelMixin):
            return kind.from_config(kind.load_config(folder, local_files_only=True)).eval()
        return kind(kind.config_class.from_pretrained(folder, local_files_only=True)).eval()


def load_network(kind: Any, source: Source, read: Read, device: torch.device, dtype: torch.dtype) -> Any:
    """Make a network for inference; `read` brings the tensors that it is asked for.

    Raises:
        CheckpointError: a tensor that is missing, of another shape or kind, or unknown to the network.
        ValueError, KeyError, TypeError, RuntimeError, OSError: the configuration is not one for this class.

    """
    load = _load_diffusers if issubclass(kind, ModelMixin) else _load_transformers
    return load(kind, source, read, device, dtype).eval().requires_grad_(False).to(device)


def _load_diffusers(kind: Any, source: Source, read: Read, device: torch.device, dtype: torch.dtype) -> Any:
    network, stored = without_weights(kind, source.folder, dtype), source.stored()
    check_fit(source, network, {name: (one.shape, one.dtype) for name, one in stored.items()})
    dtypes = {name: dtype_of(kind, name, stored[name].dtype, dtype) for name in network.state_dict()}
    network.load_state_dict(read(dtypes, device), assign=True)
    return network


def without_weights(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Make a diffusers network whose parameters have no memory; tables that it computes are there."""
    with default_dtype(dtype), no_init_weights(), init_empty_weights():
        return kind.from_config(kind.load_config(folder, local_files_only=True))


def dtype_of(kind: Any, name: str, stored: torch.dtype, dtype: torch.dtype) -> torch.dtype:
    """Say what a diffusers network holds a tensor in: some of its modules stay in float32."""
    kept = kind._keep_in_fp32_modules or ()  # noqa: SLF001  # the class's own list, which has no other name
    if not stored.is_floating_point:
        return stored
    return torch.float32 if any(module in kept for module in name.split(".")) else dtype


def _load_transformers(
    kind: Any, source: Source, read: Read, _device: torch.device, dtype: torch.dtype
) -> Any:
    config = kind.config_class.from_pretrained(source.folder, local_files_only=True)
    stored = source.stored()
    kept = kind._keep_in_fp32_modules or ()  # noqa: SLF001  # whether they are, depends on the dtype there
    dtypes = {
        name: dtype
        if one.dtype.is_floating_point and not any(module in name for module in kept)
        else one.dtype
        for name, one in stored.items()
    }
    with _no_progress_bars():
        network, info = kind.from_pretrained(
            None,
            config=config,
            state_dict=read(dtypes, _CPU),
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, with the tensor's name
            dtype=dtype,
        )
    for name, found, expected in sorted(info["mismatched_keys"]):
        raise _misfit(source, name, found, expected)
    for name in sorted(info["missing_keys"]):
        raise _missing(source, name)
    if info["unexpected_keys"]:
        _log.warning(
            "%s holds tensors that are not used, such as %s", source.shown(), min(info["unexpected_keys"])
        )
    return network


def check_fit(source: Source, network: Any, found: Mapping[str, tuple[Sequence[int], torch.dtype]]) -> None:
    """Compare shapes and kinds of what was found with what a diffusers network has.

    Raises:
        CheckpointError: the first tensor that is unknown to the network, missing, or does not fit.

    """
    expected: dict[str, Tensor] = network.state_dict()
    ignored = network._keys_to_ignore_on_load_unexpected or ()  # noqa: SLF001  # its own list
    for name in found:
        if name not in expected and not any(re.search(pattern, name) for pattern in ignored):
            raise CheckpointError(
                f"{source.shown(name)}: the network of {source.name}/config.json has no tensor {name!r}."
            )
    for name, tensor in expected.items():
        if name not in found:
            raise _missing(source, name)
        shape, dtype = found[name]
        if tuple(shape) != tuple(tensor.shape):
            raise _misfit(source, name, shape, tensor.shape)
        if dtype.is_floating_point != tensor.dtype.is_floating_point:
            raise CheckpointError(
                f"{source.shown(name)}: tensor {name!r} is {_word(dtype)}, where the network has "
                f"{_word(tensor.dtype)}."
            )


def _missing(source: Source, name: str) -> CheckpointError:
    return CheckpointError(f"{source.shown()}: tensor {name!r} is missing.")


def _misfit(source: Source, name: str, found: Sequence[int], expected: Sequence[int]) -> CheckpointError:
    return CheckpointError(
        f"{source.shown(name)}: tensor {name!r} is {tuple(found)} in the file and {tuple(expected)} by "
        f"{source.name}/config.json."
    )


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Let tables that a network computes for itself have the dtype that they would have in its library."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing on a terminal that is not its own."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
