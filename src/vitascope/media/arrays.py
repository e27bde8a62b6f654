"""The arrays that pictures, clips and sound are outside of the networks."""

from __future__ import annotations

from typing import Any

import numpy as np

Picture = np.ndarray[Any, np.dtype[np.uint8]]  # (height, width, 3), RGB
Pixels = np.ndarray[Any, np.dtype[np.uint8]]  # (frames, height, width, 3), RGB
Samples = np.ndarray[Any, np.dtype[np.float32]]  # (channels, samples) in -1..1
