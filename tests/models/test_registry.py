import json
from importlib import import_module
from pathlib import Path

import pytest

from vitascope.config.model_source import ModelSource
from vitascope.engine.load import load_family
from vitascope.errors import CheckpointError
from vitascope.models.registry import FAMILIES


def test_an_unknown_pipeline_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(CheckpointError, match=r"'StableDiffusionPipeline'.*WanPipeline"):
        load_family(ModelSource(tmp_path), device="cpu")


@pytest.mark.parametrize("package", sorted(set(FAMILIES.values())))
def test_every_line_names_a_package_that_can_load(package: str) -> None:
    assert callable(import_module(package).load)
