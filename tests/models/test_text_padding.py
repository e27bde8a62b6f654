from __future__ import annotations

import torch

from vitascope.models.text_padding import TextMask, padded


def test_equal_lengths_are_joined_without_padding() -> None:
    embeds, mask, whole = padded([torch.ones(1, 3, 2), torch.zeros(1, 3, 2)])
    assert embeds.shape == (2, 3, 2)
    assert mask.all()
    assert whole


def test_shorter_texts_are_padded_at_their_end_and_masked() -> None:
    embeds, mask, whole = padded([torch.ones(1, 1, 2), torch.ones(1, 3, 2), torch.ones(1, 0, 2)])
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 0]]
    assert torch.equal(embeds, mask[..., None].expand(3, 3, 2))
    assert not whole


def test_a_pass_is_taken_to_be_padded_unless_said_otherwise() -> None:
    text_mask = TextMask()
    with text_mask.for_pass(whole=True):
        assert text_mask.whole
    assert not text_mask.whole
