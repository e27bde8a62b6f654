"""A model folder in diffusers' layout: what it holds, and its networks, loaded from safetensors only.

Whatever is wrong with a folder is one `CheckpointError` that names the file and, where known, the tensor. No
code from a folder is ever run: each family lists the classes it accepts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vitascope.errors import CheckpointError
from vitascope.weights.layouts import WeightFile, check_placed, component_files, index_of, read_layout
from vitascope.weights.networks import Source, load_network, outline
from vitascope.weights.reading import OnLoad, Reading
from vitascope.weights.single_files import check_single, load_single, read_single

INDEX = "model_index.json"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where networks go, the dtype of the big ones, and that of the smaller ones that need more bits.

    `half_vaes` says whether VAEs that work in 16 bits with their reference do so too: it halves what decoding
    works in, tens of gigabytes at real sizes.
    """

    device: torch.device
    dtype: torch.dtype
    precise_dtype: torch.dtype = torch.float32
    half_vaes: bool = False

    def vae_dtype(self, half: torch.dtype) -> torch.dtype:
        """Return the dtype of a VAE that works in `half` with its reference."""
        return half if self.half_vaes else self.precise_dtype


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One folder. `index` is its model_index.json: component names to [library, class], and settings.

    An `outline` reads configurations alone: its networks have shapes and no weights, its identity is empty.
    `replaced` are components whose weights come from one file instead of the folder. `dtypes` says in what
    each component's network was made, of those that were.
    """

    root: Path
    name: str
    index: dict[str, Any] = field(repr=False)
    replaced: Mapping[str, Path] = field(default_factory=dict)
    outline: bool = False
    reading: Reading = field(default_factory=Reading, repr=False, compare=False)
    dtypes: dict[str, torch.dtype] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(
        cls,
        root: Path,
        name: str | None = None,
        *,
        replaced: Mapping[str, Path] | None = None,
        on_load: OnLoad | None = None,
    ) -> Checkpoint:
        """Read a folder's index; `name` is how the model is called, the folder's name by default.

        `on_load` is called with the component that is read, the bytes read of all and the bytes of all.

        Raises:
            CheckpointError: it is no diffusers folder, or lacks a component that is `replaced`.

        """
        if not root.is_dir():
            raise CheckpointError(f"{root.name} is not a folder; a model is a folder with {INDEX}.")
        if not (root / INDEX).exists():
            shown = root.resolve().name
            raise CheckpointError(
                f"There is no {INDEX} in {shown}; a model is a folder in diffusers' layout."
            )
        index = read_json(root / INDEX)
        if not isinstance(index.get("_class_name"), str):
            raise CheckpointError(f"{INDEX} has no _class_name; it is not a diffusers model folder.")
        checkpoint = cls(
            root, name or root.resolve().name, index, replaced=replaced or {}, reading=Reading(on_load)
        )
        checkpoint._check_replaced()
        checkpoint.reading.total_bytes = sum(checkpoint.component_bytes().values())
        return checkpoint

    @property
    def pipeline(self) -> str:
        """Name of the diffusers pipeline that the folder was saved from."""
        return str(self.index["_class_name"])

    def has(self, part: str) -> bool:
        """Whether the index lists a component of that name."""
        entry = self.index.get(part)
        return isinstance(entry, list) and len(entry) == 2 and entry[1] is not None

    def class_name(self, part: str) -> str:
        """Return the class that the index gives for a component.

        Raises:
            CheckpointError: the index does not list the component.

        """
        if not self.has(part):
            raise CheckpointError(f"{INDEX} of {self.name} lists no {part!r}, which its pipeline needs.")
        return str(self.index[part][1])

    def config(self, part: str, file: str = "config.json") -> dict[str, Any]:
        """Read a component's configuration."""
        return read_json(self.root / part / file)

    def accepted(self, part: str, allowed: Mapping[str, Any]) -> Any:
        """Return the class of a component out of a family's allow-list.

        Raises:
            CheckpointError: another class; the message lists what is known.

        """
        name = self.class_name(part)
        if name not in allowed:
            known = ", ".join(sorted(allowed))
            raise CheckpointError(f"{INDEX}: {part} is a {name!r}; known here for it are {known}.")
        return allowed[name]

    def network(self, part: str, kind: Any, device: torch.device, dtype: torch.dtype) -> Any:
        """Load one diffusers or transformers network for inference, every weight accounted for.

        Raises:
            CheckpointError: a file that is missing or damaged, or a tensor that is missing, of another shape
            or kind, or unknown to the network.

        """
        self.dtypes[part] = dtype
        source = Source(part, self.root / part, self.weight_files(part))
        read = partial(self.reading.tensors, part, source.files)
        load = load_single if part in self.replaced else load_network
        try:
            if not self.outline:
                return load(kind, source, read, device, dtype)
            if part in self.replaced:
                check_single(kind, source, dtype)
            return outline(kind, source.folder, dtype)
        except torch.OutOfMemoryError:
            raise  # no fault of the folder
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise self._unloadable(part, error) from error

    def weight_files(self, part: str) -> list[WeightFile]:
        """Read the headers of a component's files of weights.

        Raises:
            CheckpointError: there are none, one is missing or damaged, or they contradict their index.

        """
        if part in self.replaced:
            return [read_single(self.replaced[part])]
        folder = self.root / part
        files = [read_layout(path, f"{part}/{path.name}") for path in component_files(folder)]
        index = index_of(folder)
        if index is not None:
            check_placed(index, files)
        return files

    def processor(self, part: str, allowed: Mapping[str, Any]) -> Any:
        """Load a tokenizer or an image processor of an accepted class.

        Raises:
            CheckpointError: another class, or files that are missing or damaged.

        """
        kind = self.accepted(part, allowed)
        if not (self.root / part).is_dir():
            raise CheckpointError(f"{self.name} has no folder {part}/, which its {INDEX} lists.")
        try:
            return kind.from_pretrained(self.root / part, local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._unloadable(part, error) from error

    def _unloadable(self, part: str, error: Exception) -> CheckpointError:
        said = _first_line(error).replace(str(self.root), self.name)
        return CheckpointError(f"{part} of {self.name} cannot be loaded: {said}")

    def component_bytes(self) -> dict[str, int]:
        """Return the size of each component's weights in bytes, as they are stored."""
        sizes: dict[str, int] = {}
        for part, file in self._all_weights():
            sizes[part] = sizes.get(part, 0) + file.stat().st_size
        return sizes

    def identity(self) -> str:
        """Return a hash over all weights: equal for equal weights, wherever they lie.

        Files that were loaded are not read again for it.
        """
        if self.outline:
            return ""
        whole = hashlib.sha256()
        for part, file in self._all_weights():
            whole.update(f"{part}/{file.name} {self.reading.digest(part, file)}\n".encode())
        return whole.hexdigest()

    def _all_weights(self) -> list[tuple[str, Path]]:
        """List the files that make the model what it is, each with its component."""
        parts = {file.parent.name for file in self.root.glob("*/*.safetensors")} - self.replaced.keys()
        own = [
            (part, file)
            for part in parts
            if self._is_part(part)
            for file in component_files(self.root / part)
        ]
        return sorted([*own, *self.replaced.items()], key=lambda found: (found[0], found[1].name))

    def _is_part(self, folder: str) -> bool:
        """Whether a folder is a component or a sibling of one (`transformer_i2v`), not just beside them."""
        if folder in self.index:
            return self.has(folder)
        return any(folder.startswith(f"{name}_") for name in self.index if self.has(name))

    def _check_replaced(self) -> None:
        for part, path in self.replaced.items():
            if not self.has(part) or not (self.root / part / "config.json").is_file():
                having = ", ".join(
                    name for name in self.index if name.startswith("transformer") and self.has(name)
                )
                raise CheckpointError(
                    f"{self.name} has no {part}/config.json for {path.name} to be the weights of; "
                    f"its transformers are {having or 'none'}."
                )
            read_single(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model folder.

    Raises:
        CheckpointError: the file is missing or holds something else.

    """
    shown = f"{path.parent.name}/{path.name}"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{shown} is missing.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{shown} cannot be read as JSON: {_first_line(error)}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{shown} does not hold a JSON object.")
    return value


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
