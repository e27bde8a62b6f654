"""A model folder in diffusers' layout: what it holds, and its networks, loaded from safetensors only.

Whatever is wrong with a folder is one `CheckpointError` that names the file and, where known, the tensor. No
code from a folder is ever run: each family lists the classes it accepts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError, safe_open
from transformers.utils import logging as transformers_logging

from vitascope.errors import CheckpointError

INDEX = "model_index.json"
_SHA256_HEX_DIGITS = 64


@dataclass(frozen=True, slots=True)
class Placement:
    """Where networks go, the dtype of the big ones, and that of the VAE, which needs more bits."""

    device: torch.device
    dtype: torch.dtype
    vae_dtype: torch.dtype = torch.float32


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One folder. `index` is its model_index.json: component names to [library, class], and settings.

    An `outline` reads configurations alone: its networks have shapes and no weights, its identity is empty.
    """

    root: Path
    name: str
    index: dict[str, Any] = field(repr=False)
    outline: bool = False

    @classmethod
    def open(cls, root: Path, name: str | None = None) -> Checkpoint:
        """Read a folder's index; `name` is how the model is called, the folder's name by default."""
        if not root.is_dir():
            raise CheckpointError(f"{root.name} is not a folder; a model is a folder with {INDEX}.")
        index = read_json(root / INDEX)
        if not isinstance(index.get("_class_name"), str):
            raise CheckpointError(f"{INDEX} has no _class_name; it is not a diffusers model folder.")
        return cls(root, name or root.resolve().name, index)

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
            CheckpointError: a file that is missing or damaged, or a tensor that is missing or of another
            shape.

        """
        for file in self.weights(part):
            _check_readable(file, f"{part}/{file.name}")
        if self.outline:
            return self._without_weights(part, kind)
        try:
            with _no_progress_bars():
                network, info = kind.from_pretrained(
                    self.root / part,
                    use_safetensors=True,
                    local_files_only=True,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # reported below, with the tensor's name
                    dtype=dtype,
                )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise self._unloadable(part, error) from error
        _check_complete(part, info)
        return network.eval().requires_grad_(False).to(device)

    def _without_weights(self, part: str, kind: Any) -> Any:
        config = self.config(part)
        try:
            with torch.device("meta"):
                if issubclass(kind, ModelMixin):
                    return kind.from_config(config).eval()
                return kind(kind.config_class.from_dict(config)).eval()
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise self._unloadable(part, error) from error

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

    def weights(self, part: str = "") -> list[Path]:
        """List the safetensors files of a component (of all, by default), in a fixed order.

        Raises:
            CheckpointError: there are none.

        """
        pattern = "*.safetensors" if part else "*/*.safetensors"
        files = sorted((self.root / part).glob(pattern))
        if not files:
            where = f"{part}/" if part else "any component"
            raise CheckpointError(
                f"{self.name} has no .safetensors file in {where}; other formats are not read."
            )
        return files

    def component_bytes(self) -> dict[str, int]:
        """Return the size of each component's weights in bytes."""
        sizes: dict[str, int] = {}
        for file in self.weights():
            sizes[file.parent.name] = sizes.get(file.parent.name, 0) + file.stat().st_size
        return sizes

    def identity(self) -> str:
        """Return a hash over all weights: equal for equal weights, wherever they lie."""
        if self.outline:
            return ""
        files = self.weights()
        with ThreadPoolExecutor(max_workers=4) as pool:
            digests = list(pool.map(_digest, files))
        whole = hashlib.sha256()
        for file, digest in zip(files, digests, strict=True):
            whole.update(f"{file.parent.name}/{file.name} {digest}\n".encode())
        return whole.hexdigest()


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing on a terminal that is not its own."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


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
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{shown} cannot be read as JSON: {_first_line(error)}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{shown} does not hold a JSON object.")
    return value


def _digest(file: Path) -> str:
    """SHA-256 of a file's bytes; a hub cache already names its blobs by it, which spares reading them."""
    if file.is_symlink():
        stored = file.readlink().name  # what that links to may have another name, where caches share blobs
        if len(stored) == _SHA256_HEX_DIGITS:
            return stored
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_readable(file: Path, shown: str) -> None:
    try:
        with safe_open(file, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{shown} is damaged or cut short: {_first_line(error)}") from None


def _check_complete(part: str, info: Mapping[str, Any]) -> None:
    mismatched = sorted(info["mismatched_keys"])
    if mismatched:
        name, stored, expected = mismatched[0][:3]
        raise CheckpointError(
            f"{part}: tensor {name!r} is {tuple(stored)} in the file and {tuple(expected)} by config.json."
        )
    missing = sorted(info["missing_keys"])
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(f"{part}: tensor {missing[0]!r}{more} is missing from the weights.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
