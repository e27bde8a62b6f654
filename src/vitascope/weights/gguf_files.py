"""GGUF files: which tensors they hold and where their bytes lie. Only headers are read here.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Sizes of quantised blocks are those of
the `gguf` package (`pip install 'vitascope[gguf]'`), which diffusers' arithmetic needs too.
"""

from __future__ import annotations

import struct
from importlib import import_module
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import Any

import torch

from vitascope.errors import CheckpointError, ConfigurationError
from vitascope.weights.layouts import Quant, Stored, WeightFile, damaged

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_MAX_DIMS, _MAX_TEXT_BYTES = 8, 1 << 24
_TEXT, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_BLOCKS = "diffusers.quantizers.gguf.utils"  # what diffusers does with quantised blocks; imports gguf
_ALIGNMENT, _DEFAULT_ALIGNMENT = "general.alignment", 32


def read_gguf_layout(path: Path, shown: str) -> WeightFile:
    """Read the header of a GGUF file.

    Raises:
        CheckpointError: it is damaged or cut short, or holds a tensor that diffusers cannot read.
        ConfigurationError: the gguf package is not installed.

    """
    gguf, blocks = _package(shown, "gguf"), _package(shown, _BLOCKS)
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            header = _Header(stream, shown)
            count, alignment = header.begin()
            infos = [header.tensor_info() for _ in range(count)]
            begin = -(-stream.tell() // alignment) * alignment
    except OSError as error:
        raise damaged(shown, error.strerror or type(error).__name__) from None
    tensors = sorted(
        (_stored(gguf, blocks, info, begin, shown) for info in infos), key=lambda s: (s.begin, s.end)
    )
    _check_apart(tensors, size, shown)
    return WeightFile(path, shown, tuple(tensors))


def blocks_of_diffusers() -> Any:
    """Return diffusers' module for tensors of blocks; a GGUF file was read before, so that gguf is there."""
    return import_module(_BLOCKS)


_Info = tuple[str, tuple[int, ...], int, int]  # name, shape, number of its type, offset


class _Header:
    """The fields at the beginning of a file, in their order."""

    def __init__(self, stream: BufferedReader, shown: str) -> None:
        self._stream, self._shown = stream, shown

    def begin(self) -> tuple[int, int]:
        """Read up to the tensors; return how many they are, and to what their bytes are aligned."""
        if self._take(4) != _MAGIC:
            raise CheckpointError(f"{self._shown} is no GGUF file.")
        version = self._number("I")
        if version not in _VERSIONS:
            raise CheckpointError(f"{self._shown} is of GGUF version {version}; 2 and 3 are read.")
        num_tensors, num_values = self._number("Q"), self._number("Q")
        alignment = _DEFAULT_ALIGNMENT
        for _ in range(num_values):
            name, kind = self._text(), self._number("I")
            value = self._value(kind)
            if name == _ALIGNMENT:
                alignment = value
        if not isinstance(alignment, int) or alignment < 1:
            raise damaged(self._shown, f"{_ALIGNMENT} is {alignment!r}")
        return num_tensors, alignment

    def tensor_info(self) -> _Info:
        """Read what is said of one tensor; its shape comes with the fastest side first."""
        name, num_dims = self._text(), self._number("I")
        if num_dims > _MAX_DIMS:
            raise damaged(self._shown, f"tensor {name!r} has {num_dims} dimensions")
        shape = tuple(self._number("Q") for _ in range(num_dims))[::-1]
        return name, shape, self._number("I"), self._number("Q")

    def _value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self._text()
        if kind == _ARRAY:
            return self._skip_array(self._number("I"), self._number("Q"))
        return self._number(self._code(kind))

    def _skip_array(self, kind: int, count: int) -> None:
        if kind == _TEXT:
            for _ in range(count):
                self._text()
        else:
            self._stream.seek(count * struct.calcsize(self._code(kind)), 1)

    def _code(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise damaged(self._shown, f"it has a value of the unknown type {kind}")
        return _SCALARS[kind]

    def _text(self) -> str:
        length = self._number("Q")
        if length > _MAX_TEXT_BYTES:
            raise damaged(self._shown, f"it has a text of {length} bytes")
        return self._take(length).decode("utf-8", "replace")

    def _number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self._take(struct.calcsize(code)))[0]

    def _take(self, num_bytes: int) -> bytes:
        taken = self._stream.read(num_bytes)
        if len(taken) < num_bytes:
            raise damaged(self._shown, "its header does not fit in it")
        return taken


def _stored(gguf: Any, blocks: Any, info: _Info, begin: int, shown: str) -> Stored:
    name, shape, number, offset = info
    try:
        kind = gguf.GGMLQuantizationType(number)
    except ValueError:
        raise CheckpointError(f"{shown}: tensor {name!r} is of the unknown GGML type {number}.") from None
    start = begin + offset
    if kind.name in _PLAIN:
        dtype = _PLAIN[kind.name]
        return Stored(name, dtype, shape, start, start + prod(shape) * dtype.itemsize)
    if kind not in blocks.SUPPORTED_GGUF_QUANT_TYPES:
        raise CheckpointError(
            f"{shown}: tensor {name!r} is of GGML type {kind.name}, which diffusers cannot read."
        )
    values, num_bytes = gguf.GGML_QUANT_SIZES[kind]
    if not shape or shape[-1] % values:
        raise damaged(shown, f"tensor {name!r} of shape {shape} has no whole blocks of {values}")
    packed = (*shape[:-1], shape[-1] // values * num_bytes)
    return Stored(name, torch.uint8, packed, start, start + prod(packed), Quant(kind, values, num_bytes))


def _check_apart(tensors: list[Stored], size: int, shown: str) -> None:
    at, names = 0, set[str]()
    for stored in tensors:
        if stored.end > size:
            raise damaged(shown, f"tensor {stored.name!r} ends at byte {stored.end} of {size}")
        if stored.begin < at:
            raise damaged(shown, f"tensor {stored.name!r} overlaps the one before it")
        if stored.name in names:
            raise damaged(shown, f"tensor {stored.name!r} is there twice")
        at = stored.end
        names.add(stored.name)


def _package(shown: str, name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise ConfigurationError(
            f"Reading {shown} needs the gguf package: pip install 'vitascope[gguf]'."
        ) from None
