"""What `vitascope models show` tells of a folder, for every family."""

from __future__ import annotations

import json
import re

import pytest

import tiny_families  # noqa: F401  (adds every family's cases)
from tiny_models import Tiny, tiny

KINDS = ["wan21_flf2v", "wan22_t2v", "hunyuan_i2v_concat", "hunyuan15_t2v", "cogvideox_15", "ltx23_t2v"]


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> Tiny:
    return tiny(request.param)


def test_a_folder_is_shown_with_its_values_rules_sizes_and_needs(vitascope, model):
    shown = vitascope("models", "show", model.folder)
    assert shown.status == 0, shown.err
    card = model.family.card
    native, rules = card.defaults, card.rules
    for line in (
        f"{card.name} ({card.family}), ",
        f"tasks    {', '.join(card.tasks)}\n",
        f"native   {native.width}x{native.height}, {native.num_frames} frames at {native.fps:g} fps, ",
        f"{native.num_inference_steps} steps, guidance {native.guidance_scale:g}",
        f"limits   sides multiples of {rules.size_multiple}, ",
        f"{rules.frame_stride}*k+1 frames up to {rules.max_frames}",
        f"solvers  {', '.join(rules.solvers)}\n",
    ):
        assert line in shown.out
    assert all(re.search(rf"\n  {part} +[\d.,]+ MB", shown.out) for part in card.components)
    estimates = re.search(r"memory ([\d.,]+) (MB|GB): weights", shown.out)
    assert estimates is not None
    assert float(estimates[1].replace(",", "")) > 0
    assert re.search(rf"{native.num_inference_steps} steps take [\d.,e+-]+ s at", shown.out)


def test_a_folder_is_shown_whole_as_json(vitascope, model):
    told = json.loads(vitascope("models", "show", model.folder, "--json").out)
    assert (told["family"], told["identity"], told["tasks"]) == (
        model.family.card.family, "", list(model.family.card.tasks),
    )  # fmt: skip
    assert told["components"].keys() == model.family.card.components.keys()
