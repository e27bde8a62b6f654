import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tiny_models import tiny
from vitascope.card import Defaults, ModelCard, Rules
from vitascope.errors import CheckpointError
from vitascope.models.manifest import build_card
from vitascope.weights.checkpoint import Checkpoint

DEFAULTS = Defaults(
    height=480, width=832, num_frames=81, fps=16.0, num_inference_steps=50, guidance_scale=5.0, flow_shift=3.0
)
RULES = Rules(size_multiple=16, frame_stride=4, max_pixels=1_000_000, max_frames=100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny("wan21_t2v").folder, tmp_path / "my-model"))


def card(folder: Path, manifest: dict[str, Any] | None = None) -> ModelCard:
    if manifest is not None:
        (folder / "vitascope.json").write_text(json.dumps(manifest))
    return build_card(Checkpoint.open(folder), "wan", tasks=("t2v", "i2v"), defaults=DEFAULTS, rules=RULES)


def test_without_a_manifest_the_familys_native_values_hold(folder: Path) -> None:
    made = card(folder)
    assert (made.name, made.tasks, made.defaults, made.rules) == ("my-model", ("t2v", "i2v"), DEFAULTS, RULES)
    assert made.prompt_guide is None


def test_a_manifest_is_laid_over_them(folder: Path) -> None:
    made = card(
        folder,
        {
            "name": "shapes",
            "tasks": ["t2v"],
            "defaults": {"height": 64, "fps": 8},
            "limits": {"height": 128, "width": 64, "num_frames": 33},
            "known_words": ["red"],
            "example_prompts": ["a red circle"],
        },
    )
    assert (made.name, made.tasks) == ("shapes", ("t2v",))
    assert (made.defaults.height, made.defaults.width, made.defaults.fps) == (64, 832, 8)
    assert (made.rules.max_pixels, made.rules.max_frames) == (128 * 64, 33)
    assert made.prompt_guide is not None
    assert made.prompt_guide.examples == ("a red circle",)


@pytest.mark.parametrize(
    ("manifest", "named"),
    [
        ({"nmae": "x"}, "'nmae'"),
        ({"defaults": {"heigth": 64}}, "'heigth'"),
        ({"limits": {"depth": 1}}, "'depth'"),
        ({"tasks": ["x2v"]}, "'x2v'"),
        ({"tasks": ["flf2v"]}, "promises 'flf2v'"),
        ({"defaults": [1]}, "not a JSON object"),
    ],
)
def test_what_is_not_known_is_refused_by_name(folder: Path, manifest: dict[str, Any], named: str) -> None:
    with pytest.raises(CheckpointError, match=named):
        card(folder, manifest)
