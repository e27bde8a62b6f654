"""From a model's source to its folder."""

from __future__ import annotations

from pathlib import Path

from vitascope.config.model_source import ModelSource
from vitascope.errors import CheckpointError, ConfigurationError
from vitascope.weights.hub import OnProgress, fetch
from vitascope.weights.single_files import read_single


def find_model(source: ModelSource, on_download: OnProgress | None = None) -> Path:
    """Return the folder of a model; a hub id is downloaded, or found in the hub's cache.

    `on_download` is called with the bytes that are here and all. Weights of components that are replaced by
    files are not downloaded.

    Raises:
        CheckpointError: neither a folder nor an id that the hub can give, or no such file in its place.
        ConfigurationError: a revision of a folder.

    """
    for file in source.replaced.values():
        read_single(file)  # before a download of hours
    given, path = str(source.path_or_id), source.path
    if not given:
        raise CheckpointError("The model's path is empty; leave it out for the bundled model.")
    if path.is_dir():
        if source.revision is not None:
            raise ConfigurationError(
                f"The revision {source.revision!r} is for a hub model; {path.name} is a folder, which has "
                "none."
            )
        return path
    if path.is_file():
        raise CheckpointError(
            f"{given!r} is a file, and a model is a folder; weights in one file go beside their folder, as "
            "transformer_path."
        )
    if not source.from_hub:
        raise CheckpointError(f"There is no folder {given!r}; give a model folder or a hub id owner/name.")
    return fetch(
        given,
        revision=source.revision,
        cache_dir=source.cache_dir,
        offline=source.offline,
        on_progress=on_download,
        replaced=list(source.replaced),
    )
