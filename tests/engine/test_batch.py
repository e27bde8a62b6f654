from __future__ import annotations

from typing import Any

import torch

from tiny_models import tiny
from vitascope.engine.batch import next_group
from vitascope.engine.generation import Generation, Stage

MODEL = "wan21_t2v"


def generation(job_id: str, *, denoising: bool = True, **wishes: Any) -> Generation:
    model = tiny(MODEL)
    made = Generation(job_id, model.request(**wishes), model.case.media)
    if denoising:
        with torch.inference_mode():
            made.encode(model.family)
        assert made.stage is Stage.DENOISE
    return made


def names(waiting: list[Generation], max_batch: int) -> list[str]:
    return [g.job_id for g in next_group(waiting, tiny(MODEL).family, max_batch)]


def test_nobody_waiting_is_nobodys_turn() -> None:
    assert names([], 1) == []


def test_alone_is_the_default_and_the_longest_waiting_goes_first() -> None:
    assert names([generation("a"), generation("b")], 1) == ["a"]


def test_a_batch_takes_those_of_the_same_shape_only_up_to_its_size() -> None:
    waiting = [generation("a"), generation("other", num_frames=5), generation("b", seed=1), generation("c")]
    assert names(waiting, 2) == ["a", "b"]
    assert names(waiting, 4) == ["a", "b", "c"]


def test_guided_and_unguided_do_not_share_a_pass() -> None:
    assert names([generation("a"), generation("plain", guidance_scale=1.0)], 2) == ["a"]


def test_only_denoising_is_shared() -> None:
    assert names([generation("new", denoising=False), generation("a")], 2) == ["new"]
    assert names([generation("a"), generation("new", denoising=False)], 2) == ["a"]
