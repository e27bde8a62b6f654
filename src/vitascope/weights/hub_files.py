"""Which files of a hub repository make a model: weights as safetensors, configurations and tokenizers."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from huggingface_hub import RepoFile

from vitascope.errors import CheckpointError
from vitascope.weights.checkpoint import INDEX
from vitascope.weights.layouts import UNSAFE

_WEIGHTS = ".safetensors"
_TEXTS = (".json", ".model", ".txt", ".jinja")  # configurations and tokenizers

# A file of weights: its stem, a further precision if it is one ("fp16"), its number if it is a shard.
_WEIGHTS_NAME = re.compile(r"(?P<stem>[^.]+?)(?:\.(?P<variant>[^.]+?))?(?:-\d+-of-\d+)?\.safetensors")


def components(root: Path, model_id: str) -> list[str]:
    """Name the parts that the index of a cached model lists.

    Raises:
        CheckpointError: there is no index, or it is none.

    """
    path = root / INDEX
    if not path.is_file():
        raise CheckpointError(f"{model_id} has no {INDEX}; it is not a model in diffusers' layout.")
    try:
        entries = json.loads(path.read_text(encoding="utf-8")).items()
    except (ValueError, AttributeError):
        raise CheckpointError(f"{INDEX} of {model_id} is not a JSON object.") from None
    return [name for name, entry in entries if isinstance(entry, list) and re.fullmatch(r"\w+", name)]


def wanted(
    files: Sequence[RepoFile], parts: Sequence[str], model_id: str, *, replaced: Collection[str] = ()
) -> list[RepoFile]:
    """Choose the files of some parts and their siblings (`transformer_i2v`), and the JSON files at the top.

    Of a part that is `replaced` no weights are chosen: they come from elsewhere.

    Raises:
        CheckpointError: a part has weights in a format that can run code, and no safetensors.

    """
    known = re.compile("|".join(f"{part}(_\\w+)?" for part in parts))
    of_parts = [
        f for f in files if known.fullmatch(_folder(f)) and not (_folder(f) in replaced and _is_of_weights(f))
    ]
    for part in sorted({_folder(f) for f in of_parts}):
        _check_safe(part, {_suffix(f) for f in of_parts if _folder(f) == part}, model_id)
    chosen = [f for f in of_parts if _suffix(f) in (*_TEXTS, _WEIGHTS)]
    top = [f for f in files if _folder(f) == "." and _suffix(f) == ".json"]
    return top + _without_variants(chosen)


def _folder(file: RepoFile) -> str:
    return str(PurePosixPath(file.path).parent)


def _suffix(file: RepoFile) -> str:
    return PurePosixPath(file.path).suffix


def _is_of_weights(file: RepoFile) -> bool:
    """Whether it holds weights, or says in which shards they are."""
    return _suffix(file) in (_WEIGHTS, *UNSAFE) or f"{_WEIGHTS}.index." in file.path


def _check_safe(part: str, suffixes: set[str], model_id: str) -> None:
    unsafe = suffixes.intersection(UNSAFE)
    if unsafe and _WEIGHTS not in suffixes:
        raise CheckpointError(
            f"{model_id} holds the weights of {part} as {min(unsafe)} only, which can run code when read; "
            f"only {_WEIGHTS} is loaded. Look for a converted copy or another revision."
        )


def _without_variants(files: list[RepoFile]) -> list[RepoFile]:
    """Leave out weights in a further precision (`model.fp16.safetensors`) where the plain ones are there."""
    names = {f.path: _WEIGHTS_NAME.fullmatch(PurePosixPath(f.path).name) for f in files}
    plain = {_folder(f) for f in files if (m := names[f.path]) and not m["variant"]}
    return [f for f in files if not ((m := names[f.path]) and m["variant"] and _folder(f) in plain)]
