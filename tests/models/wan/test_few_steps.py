"""Step-distilled checkpoints and adapters: Euler, no guidance, four steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from tiny_models import Tiny, aligned, ask_wan, tiny
from vitascope.config.model_source import ModelSource
from vitascope.engine.engine import Engine
from vitascope.engine.events import Completed
from vitascope.engine.load import load_family
from vitascope.models.family import Family

FEW = {"num_inference_steps": 4, "guidance_scale": 1.0}
SHIFT = 5.0


def latents(family: Family, model: Tiny, **wishes: Any) -> torch.Tensor:
    engine = Engine(family)
    engine.start("job", model.request(**FEW, **wishes), model.case.media)
    (done,) = [e for _ in range(40) if engine.busy for e in engine.tick() if isinstance(e, Completed)]
    return done.latents


def reference(model: Tiny, **wishes: Any) -> torch.Tensor:
    pipeline = aligned(type(model.pipeline).from_pretrained(model.folder))
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    pipeline.set_progress_bar_config(disable=True)
    return ask_wan(pipeline, model.request(**FEW, **wishes), model.case.media, "latent")


@pytest.mark.parametrize(
    ("case", "more"),
    [("wan21_t2v", {}), ("wan21_i2v", {}), ("wan22_t2v", {"guidance_scale_2": 1.0}), ("wan22_5b_t2v", {})],
)
def test_few_steps_of_euler_without_guidance_are_the_references_to_the_bit(case: str, more: Any) -> None:
    model = tiny(case)
    ours = latents(model.family, model, sample_solver="euler", flow_shift=SHIFT, **more)
    assert torch.equal(ours, reference(model, **more))


def test_a_folder_whose_own_solver_is_euler_needs_no_word(tmp_path: Path) -> None:
    model = tiny("wan21_t2v")
    folder = tmp_path / "distilled"
    folder.mkdir()
    for part in model.folder.iterdir():
        if part.name != "scheduler":
            (folder / part.name).symlink_to(part)
    FlowMatchEulerDiscreteScheduler(shift=SHIFT).save_pretrained(folder / "scheduler")
    family = load_family(ModelSource(folder), device="cpu")
    assert (family.card.defaults.sample_solver, family.card.defaults.flow_shift) == ("euler", SHIFT)
    assert torch.equal(latents(family, replace(model, family=family)), reference(model))
