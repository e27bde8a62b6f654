from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny_cogvideox  # noqa: F401  (adds its cases)
import tiny_hunyuan  # noqa: F401  (adds its cases)
import tiny_ltx2  # noqa: F401  (adds its cases)
from published import PUBLISHED
from tiny_models import tiny
from vitascope.engine.decoding_room import _Meter, decoder_bytes
from vitascope.engine.plan import needs_of
from vitascope.models.registry import outline
from vitascope.weights.checkpoint import Checkpoint, Placement


def test_the_meter_counts_what_is_alive_and_views_not_twice() -> None:
    with _Meter() as meter:
        kept = torch.empty(1000, device="meta")
        for _ in range(3):
            gone = kept + 1
            del gone
        assert kept.view(10, 100).shape == (10, 100)
    assert meter.peak_bytes == 2 * 4000


@pytest.mark.parametrize("name", ["wan21_t2v", "cogvideox_5b", "hunyuan_t2v", "hunyuan15_t2v", "ltx2_t2v"])
def test_a_blank_decode_makes_the_frames_of_a_clip_and_larger_ones_need_more(name: str) -> None:
    made = tiny(name)
    size = made.request()
    family = outline(Checkpoint.open(made.folder), Placement(torch.device("cpu"), torch.float32))
    pieces = list(family.decode_blank(size.num_frames, size.height, size.width))
    assert sum(piece.shape[2] for piece in pieces) == size.num_frames
    assert {tuple(piece.shape[3:]) for piece in pieces} == {(size.height, size.width)}
    native = replace(family.card.defaults, height=size.height, width=size.width, num_frames=size.num_frames)
    family.card = replace(family.card, defaults=native)
    small = decoder_bytes(family)
    family.card = replace(family.card, defaults=replace(native, height=2 * size.height))
    assert 1.5 * small < decoder_bytes(family) < 2.5 * small


def test_the_decoder_of_a_real_shape_takes_gigabytes(tmp_path: Path) -> None:
    """The widest layers of Wan's decoder hold several tensors of four frames, 96 or 192 channels each."""
    checkpoint = Checkpoint.open(PUBLISHED["Wan2.1-T2V-1.3B"](tmp_path / "wan"))
    needs = needs_of(checkpoint, Placement(torch.device("cpu"), torch.bfloat16))
    one = 4 * 192 * 4 * 480 * 832  # float32, whatever the transformer runs in
    assert 4 * one < needs.decoding_bytes < 10 * one
    assert needs.working_bytes == needs.decoding_bytes > needs.denoising_bytes
