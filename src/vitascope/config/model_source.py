"""Where a model is had: a folder or a hub id, and what is used in place of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model folder, or a hub id (owner/name); a folder of that name goes first.

    `revision` pins a hub model's branch, tag or commit, `cache_dir` is where hub models are kept (the hub's
    own cache by default), `offline` never asks the hub. `replaced` are components (`transformer`) whose
    weights come from a .safetensors or .gguf file.
    """

    path_or_id: str | Path
    revision: str | None = field(default=None, kw_only=True)
    cache_dir: Path | None = field(default=None, kw_only=True)
    offline: bool = field(default=False, kw_only=True)
    replaced: Mapping[str, Path] = field(default_factory=dict, kw_only=True)

    @property
    def path(self) -> Path:
        """Where the folder would be."""
        return Path(self.path_or_id).expanduser()

    @property
    def from_hub(self) -> bool:
        """Whether there is no such folder and it is written as a hub id."""
        return not self.path.is_dir() and _HUB_ID.fullmatch(str(self.path_or_id)) is not None

    @property
    def name(self) -> str | None:
        """The last part of a hub id; None for a folder, which names itself."""
        return None if self.path.is_dir() else str(self.path_or_id).rsplit("/", 1)[-1]
