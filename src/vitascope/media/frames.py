"""Frames as a numpy archive, for those who go on computing with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitascope.media.arrays import Pixels


def write_frames(path: Path, frames: Pixels, fps: float) -> None:
    """Write `frames` and `fps` to an uncompressed npz; the same frames give the same bytes."""
    with path.open("wb") as file:  # given a path, numpy would add a suffix of its own
        np.savez(file, frames=frames, fps=np.float64(fps))


def read_frames(path: Path) -> tuple[Pixels, float]:
    """Return what `write_frames` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        return archive["frames"], float(archive["fps"])
