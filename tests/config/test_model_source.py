"""What is told from the way in which a model is named."""

from __future__ import annotations

import pytest

from vitascope.config import load_settings
from vitascope.config.model_source import ModelSource


@pytest.mark.parametrize(
    ("written", "from_hub", "name"),
    [("owner/model-1.3B", True, "model-1.3B"), ("/no/folder", False, "folder"), ("a/b/c", False, "c")],
)
def test_a_hub_id_is_an_owner_and_a_name(written, from_hub, name):
    source = ModelSource(written)
    assert (source.from_hub, source.name) == (from_hub, name)


def test_a_folder_goes_before_a_hub_id_and_names_itself(tmp_path, monkeypatch):
    (tmp_path / "owner" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    source = ModelSource("owner/model")
    assert (source.from_hub, source.name) == (False, None)


def test_the_settings_say_where_the_model_is_had(tmp_path):
    values = {
        "model_revision": "v1",
        "model_cache_dir": tmp_path,
        "offline": True,
        "transformer_path": ("f",),
    }
    source = load_settings({"model_path": "owner/model", **values}, environ={}).model_source
    (file,) = source.replaced.values()
    assert (source.revision, source.cache_dir, source.offline, file.name) == ("v1", tmp_path, True, "f")
