"""Texts of several lengths in one pass of a joint-attention transformer: padding, if there is any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional


def padded(embeds: Sequence[Tensor]) -> tuple[Tensor, Tensor, bool]:
    """Pad texts, each (1, L, D), to the longest: (B, L, D), their mask (B, L), and whether it is all ones."""
    longest = max(e.shape[1] for e in embeds)
    padding = [longest - e.shape[1] for e in embeds]
    stacked = torch.cat([functional.pad(e, (0, 0, 0, p)) for e, p in zip(embeds, padding, strict=True)])
    mask = stacked.new_ones(stacked.shape[:2])
    for row, pad in enumerate(padding):
        mask[row, longest - pad :] = 0
    return stacked, mask, not any(padding)


class TextMask:
    """Whether the pass that runs now has padded text; one for all layers of a transformer.

    It is known where the texts are joined; asking the mask itself would stop an accelerator at every layer.
    """

    def __init__(self) -> None:
        self.whole = False

    @contextmanager
    def for_pass(self, *, whole: bool) -> Iterator[None]:
        """Say of the pass inside whether every text token is valid."""
        self.whole = whole
        try:
            yield
        finally:
            self.whole = False
