from __future__ import annotations

from pathlib import Path

import pytest

from vitascope.config.model_source import ModelSource
from vitascope.errors import CheckpointError, ConfigurationError
from vitascope.weights.find import find_model


def test_a_folder_is_found_as_it_is(tmp_path: Path) -> None:
    assert find_model(ModelSource(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["no/such/folder", "missing", "../x"])
def test_neither_folder_nor_hub_id_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="There is no folder"):
        find_model(ModelSource(name))


def test_a_file_and_an_empty_path_are_told_from_a_folder_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "wan.gguf").touch()
    with pytest.raises(CheckpointError, match=r"wan.gguf' is a file, .*transformer_path"):
        find_model(ModelSource(tmp_path / "wan.gguf"))
    with pytest.raises(CheckpointError, match="The model's path is empty"):
        find_model(ModelSource(""))


def test_a_hub_id_offline_is_refused_with_advice() -> None:
    with pytest.raises(CheckpointError, match="neither a folder nor in the cache, and offline mode is on"):
        find_model(ModelSource("nobody/no-such-model"))


def test_a_revision_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wan").mkdir()
    with pytest.raises(ConfigurationError, match="is for a hub model; wan is a folder"):
        find_model(ModelSource(tmp_path / "wan", revision="main"))
