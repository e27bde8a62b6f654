"""What the engine asks of a device beside arithmetic: to wait, to give memory back; what its errors mean."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import clear_frames

import torch

from vitascope.errors import DeviceLost, OutOfMemory

# Allocators that have no class of their own for it: the CPU's, the CUDA runtime's, and its libraries'.
_NO_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
)
_OUT_OF_MEMORY = "The device ran out of memory; ask for a smaller size or fewer frames."
_LOST = "The device stopped working; start this process anew to use it again."


class Device:
    """The CPU, which does what it is asked for at once."""

    def wait(self) -> None:
        """Return once all work that was asked for is done."""

    def give_back(self) -> None:
        """Return the memory that no tensor takes any more, so that other processes may have it."""

    def forget_peak(self) -> None:
        """Measure the peak of memory from now on, where that can be done."""

    def peak_memory_bytes(self) -> int:
        """Return the most memory that was taken: here the whole process's, ever."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def answers(self) -> bool:
        """Whether it still works, after an error that may have been its own."""
        return True


class CudaDevice(Device):
    """One CUDA device, which works through what it was asked for while the host goes on."""

    def __init__(self, where: torch.device) -> None:
        self._where = where

    def wait(self) -> None:
        """See `Device.wait`; errors of the work come out here at the latest."""
        torch.cuda.synchronize(self._where)

    def give_back(self) -> None:
        """See `Device.give_back`; PyTorch keeps it for the next tensors otherwise."""
        torch.cuda.empty_cache()

    def forget_peak(self) -> None:
        """See `Device.forget_peak`."""
        torch.cuda.reset_peak_memory_stats(self._where)

    def peak_memory_bytes(self) -> int:
        """Return the most that tensors took at once."""
        return torch.cuda.max_memory_allocated(self._where)

    def answers(self) -> bool:
        """Whether it does what it is asked for: after some errors it never does again in this process."""
        try:
            self.wait()
        except RuntimeError:
            return False
        return True


def device_at(where: torch.device) -> Device:
    """Return the device of a place."""
    return CudaDevice(where) if where.type == "cuda" else Device()


@contextmanager
def errors_of(device: Device) -> Iterator[None]:
    """Turn what is raised into `OutOfMemory` where memory lacks, `DeviceLost` where the device is broken."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if _lacks_memory(error):
            clear_frames(error.__traceback__)  # they hold the tensors of what was begun
            raise OutOfMemory(_OUT_OF_MEMORY) from error
        if isinstance(error, torch.AcceleratorError) or not device.answers():
            raise DeviceLost(_LOST) from error
        raise


def _lacks_memory(error: RuntimeError | MemoryError) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in _NO_MEMORY)
