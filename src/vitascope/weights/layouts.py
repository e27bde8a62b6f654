"""Files of weights: which tensors they hold, where their bytes lie, and which files make a component.

Only headers are read here. A header that lies is refused before a byte of weights is touched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

from vitascope.errors import CheckpointError

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_LENGTH_BYTES = 8
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
UNSAFE = (".bin", ".pt", ".pth", ".ckpt")  # pickles: reading one can run code
_STEMS = ("diffusion_pytorch_model", "model")  # diffusers' and transformers' names

# A whole file of weights or the index of its shards, of a further precision if the name has one more word.
_NAME = re.compile(
    rf"(?:{'|'.join(_STEMS)})"
    r"(?:(?:\.(?P<of_file>(?!.*-\d+-of-)[\w-]+))?\.safetensors|\.safetensors\.index(?:\.(?P<of_index>\w+))?\.json)"
)


@dataclass(frozen=True, slots=True)
class Quant:
    """A GGML type: how many values a block of how many bytes holds."""

    kind: Any  # a gguf.GGMLQuantizationType
    values: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor in a file; `begin` and `end` are offsets from the file's first byte.

    One of quantised blocks is bytes (uint8) by its `dtype` and `shape`, and says so by `quant`.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int
    quant: Quant | None = None

    @property
    def num_values(self) -> int:
        """How many weights it holds."""
        return prod(self.values_shape)

    @property
    def values_shape(self) -> tuple[int, ...]:
        """Its shape in weights, also where blocks hold them."""
        if self.quant is None:
            return self.shape
        return *self.shape[:-1], self.shape[-1] // self.quant.num_bytes * self.quant.values


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file and its tensors in the order of their bytes; `shown` is how messages name it."""

    path: Path
    shown: str
    tensors: tuple[Stored, ...]


def read_layout(path: Path, shown: str) -> WeightFile:
    """Read the header of a safetensors file.

    Raises:
        CheckpointError: it is cut short or no safetensors file, or its tensors do not fill it exactly.

    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            begin = _LENGTH_BYTES + length
            if size < _LENGTH_BYTES or length > _MAX_HEADER_BYTES or begin > size:
                raise damaged(shown, "its header does not fit in it")
            header = json.loads(stream.read(length))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise damaged(shown, _reason(error)) from None
    if not isinstance(header, dict):
        raise damaged(shown, "its header is not a JSON object")
    header.pop("__metadata__", None)
    tensors = sorted(
        (_stored(*entry, begin, shown) for entry in header.items()), key=lambda s: (s.begin, s.end)
    )
    _check_filled(tensors, begin, size, shown)
    return WeightFile(path, shown, tuple(tensors))


def component_files(folder: Path) -> list[Path]:
    """List the files that hold a component's weights: one, or the shards that an index names.

    Weights in a further precision (`model.fp16.safetensors`) are taken where they are the only ones.

    Raises:
        CheckpointError: there are none, a shard is missing, or it cannot be told which files are meant.

    """
    chosen = _chosen(folder)
    if chosen is None:
        raise CheckpointError(_nothing(folder))
    return _shards(chosen) if chosen.suffix == ".json" else [chosen]


def _chosen(folder: Path) -> Path | None:
    """Return a component's one file of weights, or its index; None if there is neither."""
    found: dict[str, list[Path]] = {}  # by precision, "" for the plain one
    for path in sorted(folder.glob("*")):
        if (name := _NAME.fullmatch(path.name)) and path.is_file():
            found.setdefault(name["of_file"] or name["of_index"] or "", []).append(path)
    meant = found.get("") or [path for paths in found.values() for path in paths]
    if len(meant) > 1:
        both = " and ".join(path.name for path in meant)
        raise CheckpointError(
            f"{folder.name}/ holds {both}, which contradict each other; remove what is not meant."
        )
    return meant[0] if meant else None


def _nothing(folder: Path) -> str:
    found = sorted(path.name for path in folder.glob("*") if path.suffix in UNSAFE)
    other = sorted(path.name for path in folder.glob("*.safetensors"))
    if found:
        return (
            f"There is no .safetensors file in {folder.name}/, only {found[0]}: such a file can run code "
            "when it is read, and is not loaded. Look for a converted copy."
        )
    names = " or ".join(f"{stem}.safetensors" for stem in _STEMS)
    beside = f"; {other[0]} is not called so and has no index" if other else ""
    return f"There is no .safetensors file in {folder.name}/ named {names}{beside}."


def check_placed(index: Path, files: Sequence[WeightFile]) -> None:
    """Check that every tensor lies in the shard that the index names, and is in one shard only.

    Raises:
        CheckpointError: the first tensor that does not.

    """
    shown = f"{index.parent.name}/{index.name}"
    held: dict[str, str] = {}
    for file in files:
        for stored in file.tensors:
            if stored.name in held:
                raise CheckpointError(
                    f"{file.shown}: tensor {stored.name!r} is also in {held[stored.name]}; one is wrong."
                )
            held[stored.name] = file.path.name
    for name, shard in sorted(_weight_map(index).items()):
        if held.get(name) != shard:
            raise CheckpointError(f"{shown} says that tensor {name!r} is in {shard}, and it is not there.")


def index_of(folder: Path) -> Path | None:
    """Return the index of a component in several files."""
    chosen = _chosen(folder)
    return chosen if chosen is not None and chosen.suffix == ".json" else None


def _shards(index: Path) -> list[Path]:
    shown = f"{index.parent.name}/{index.name}"
    names = sorted(set(_weight_map(index).values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{shown} names {name!r}; shards are .safetensors files beside it.")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{shown} names {name}, which is missing.")
    return [index.parent / name for name in names]


def _weight_map(index: Path) -> dict[str, str]:
    shown = f"{index.parent.name}/{index.name}"
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(f"{shown} has no weight_map; it is not an index of weights.") from None
    if not (isinstance(found, dict) and found and all(isinstance(name, str) for name in found.values())):
        raise CheckpointError(f"{shown}: weight_map does not name a file for each tensor.")
    return found


def _stored(name: str, entry: Any, base: int, shown: str) -> Stored:
    where = f"{shown}: tensor {name!r}"
    try:
        kind, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{where} has no dtype, shape and data_offsets.") from None
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise CheckpointError(f"{where} has a shape or offsets that are no whole numbers from 0.")
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise CheckpointError(f"{where} is of dtype {kind!r}; known here are {', '.join(_DTYPES)}.")
    dtype = _DTYPES[kind]
    size = prod(shape) * dtype.itemsize
    if end - begin != size:
        raise CheckpointError(f"{where} is {kind} {shape}, {size} bytes, and its offsets span {end - begin}.")
    return Stored(name, dtype, shape, base + begin, base + end)


def _check_filled(tensors: Sequence[Stored], begin: int, size: int, shown: str) -> None:
    at = begin
    for stored in tensors:
        if stored.end > size:
            raise damaged(shown, f"tensor {stored.name!r} ends at byte {stored.end} of {size}")
    for stored in tensors:
        if stored.begin != at:
            fault = "overlaps the one before it" if stored.begin < at else "leaves a gap before it"
            raise damaged(shown, f"tensor {stored.name!r} {fault}")
        at = stored.end
    if at != size:
        raise damaged(shown, f"{size - at} bytes follow the last tensor")


def damaged(shown: str, reason: str) -> CheckpointError:
    """Say that a file cannot be what it says it is, and why."""
    return CheckpointError(f"{shown} is damaged or cut short: {reason}.")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "its header is not JSON"
