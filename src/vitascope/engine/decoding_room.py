"""What a decoder works in: it is run on tensors that have a shape and no memory, and their bytes are counted.

The networks' own code says so what is alive at once, whatever the family. Scratch memory of kernels and
fragments between tensors come on top of it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vitascope.models.family import Family

_PIECES = 3  # the first is short, and what is remembered of the past is whole after the second


def decoder_bytes(family: Family) -> int:
    """Return the most bytes that tensors take at once while a clip of native size is decoded.

    `family` is an outline, whose networks have no memory either: weights are not counted.
    """
    native = family.card.defaults
    meter = _Meter()
    with torch.inference_mode(), _WithoutScores(), meter:
        for _ in islice(family.decode_blank(native.num_frames, native.height, native.width), _PIECES):
            pass
    return meter.peak_bytes


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's modes are untyped
    """Counts the bytes of all tensors that are made in its context and not gone yet."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = 0
        self._alive_bytes = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and count what it made."""
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        return out

    def _add(self, storage: UntypedStorage) -> None:
        """Count a storage once, until it is gone; views share theirs."""
        if id(storage) in self._alive:
            return
        self._alive.add(id(storage))
        self._alive_bytes += storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, self._alive_bytes)
        weakref.finalize(storage, self._remove, id(storage), storage.nbytes())

    def _remove(self, key: int, num_bytes: int) -> None:
        self._alive.discard(key)
        self._alive_bytes -= num_bytes


class _WithoutScores(TorchFunctionMode):
    """Lets attention make its result alone, as its kernels do; without memory it would lay out all scores."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run a function, but for attention."""
        if func is functional.scaled_dot_product_attention:
            query, _, value = args[:3]
            return query.new_empty((*query.shape[:-1], value.shape[-1]))
        return func(*args, **(kwargs or {}))
