"""Vitascope: an open video-generation server and engine.

import vitascope
model = vitascope.load()
clip = model.generate("a red circle moving right on a blue background", seed=1)
clip.save("circle.mp4")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vitascope.request import AttentionCache

if TYPE_CHECKING:
    from vitascope.library import Clip as Clip
    from vitascope.library import Model as Model
    from vitascope.library import load as load

__version__ = "0.1.0"
__all__ = ["AttentionCache", "Clip", "Model", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import the library on first use, so that `import vitascope` and the control side stay free of torch."""
    if name in {"Clip", "Model", "load"}:
        importlib.import_module("vitascope.config.processes").calm_threads()
        return getattr(importlib.import_module("vitascope.library"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
