"""An accelerator where there is none: tensors that say they lie on a device, while the host has their values.

What a real device refuses is refused, an operation on tensors that lie apart; all else the host computes, so
that results are to the bit the CPU's. What makes the host wait for the device is noted.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

DEVICE = torch.device("privateuseone:0")  # PyTorch's name for devices that it does not know
_HOST = torch.device("cpu")
_aten = torch.ops.aten

_COPIES = {
    _aten._to_copy.default, _aten.copy_.default, _aten.to.dtype_layout, _aten.to.device, _aten.to.other,
}  # fmt: skip
_INDEXED = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default}  # indices may lie anywhere
# The host needs a number, or a result's shape, that only the device knows.
_AWAITED = {
    _aten._local_scalar_dense.default, _aten.item.default, _aten.is_nonzero.default, _aten.equal.default,
    _aten.nonzero.default, _aten.masked_select.default,
}  # fmt: skip
_NOT_NAMED = (__file__, "/torch/")


class _There(Tensor):
    """A tensor on the device."""

    values: Tensor  # on the host

    @staticmethod
    def __new__(cls, values: Tensor) -> Self:
        there: Self = Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=DEVICE,
        )
        there.values = values
        return there

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self) -> str:  # type: ignore[override]
        return repr(self.values)  # torch's own would leave the pretence

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any) -> Any:
        raise AssertionError(f"{func} of a tensor on the pretended device, outside of the pretence")


class Pretence(TorchDispatchMode):
    """While it is entered there is a `DEVICE`; `waits` names the lines in which the host waited for it.

    A line of ours stands behind that of the library which it called, if it called one. Tensors that are made
    before are good within only if they were made in inference mode.
    """

    _mode_key = torch._C._TorchDispatchModeKey.FAKE  # or PyTorch would look for a driver

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __enter__(self) -> Self:
        _register()
        self._lifts_only_host = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # new tensors of Python's numbers are copied in plain view
        super().__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        torch._C._set_only_lift_cpu_tensors(self._lifts_only_host)
        super().__exit__(*raised)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _aten._has_compatible_shallow_copy_type.default:
            return False  # modules that are moved get new parameters
        leaves = list(tree_iter((args, kwargs)))
        given = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        goal = _goal(func, given, next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None))
        if _waits(func, given, goal):
            self.waits.append(f"{func} in {_line()}")
        out = func(*tree_map(_here, args), **tree_map(_here, kwargs or {}))
        if func._schema.is_mutable and isinstance(out, Tensor):
            return next((tensor for tensor in given if _here(tensor) is out), out)
        return tree_map(_there, out) if goal.type == DEVICE.type else out


@functools.cache
def _register() -> None:
    """Give the device the guard that PyTorch asks for it; for good, since it cannot be taken back."""

    class Guard(torch._C._acc.DeviceGuard):  # type: ignore[misc]
        def type_(self) -> Any:
            return torch._C._autograd.DeviceType.PrivateUse1

    torch._C._acc.register_python_privateuseone_device_guard(Guard())


def _goal(func: Any, given: list[Tensor], asked: torch.device | None) -> torch.device:
    """Return where the result lies. Raises `RuntimeError` where tensors lie apart, but for lone numbers."""
    if asked is not None:
        return asked
    if func is _aten.to.other:
        return given[1].device
    if func is _aten.copy_.default or (func in _INDEXED and isinstance(given[0], _There)):
        return given[0].device
    if not any(isinstance(tensor, _There) for tensor in given):
        return _HOST
    apart = [tuple(t.shape) for t in given if t.device.type == "cpu" and t.ndim]
    if apart:
        raise RuntimeError(f"{func} of tensors on the device and, of shapes {apart}, on the host: {_line()}")
    return DEVICE


def _waits(func: Any, given: list[Tensor], goal: torch.device) -> bool:
    if func in _COPIES:
        return any(tensor.device.type != goal.type for tensor in given)
    there = [tensor for tensor in given if isinstance(tensor, _There)]
    by_mask = func in _INDEXED and any(
        tensor.dtype == torch.bool for tensor in there if tensor is not given[0]
    )
    return by_mask or (bool(there) and func in _AWAITED)


def _here(value: Any) -> Any:
    if isinstance(value, torch.device) and value.type == DEVICE.type:
        return _HOST
    return value.values if isinstance(value, _There) else value


def _there(value: Any) -> Any:
    return _There(value) if isinstance(value, Tensor) and not isinstance(value, _There) else value


def _line() -> str:
    """Name the innermost line that is not PyTorch's, and the innermost one of ours if that is another."""
    named, frame = "", sys._getframe(1)
    while frame.f_back is not None:
        file = frame.f_code.co_filename
        if not any(part in file for part in _NOT_NAMED):
            line = f"{file.rpartition('/site-packages/')[2]}:{frame.f_lineno}"
            if "/src/vitascope/" in file:
                return f"{named} < {line}" if named else line
            named = named or line
        frame = frame.f_back
    return named
