"""Wan's text: prompt cleaning, the UMT5 encoder and its cache, and what a transformer makes of a text once.

Keys and values of the text, and its embedding, are the same at every step of a generation; they are computed
in the first step and kept, where that pays.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import Any

import ftfy
import torch
from torch import Tensor

from vitascope.models.prompts import Extent, PromptCache, extent

KeyValue = tuple[Tensor, Tensor]


@dataclass(slots=True)
class Text:
    """One encoded prompt, (1, length, text_dim), zero after its end as Wan was trained on.

    `kept` maps a module of a transformer to what it made of this text; None where nothing is to be kept.
    """

    embeds: Tensor
    kept: dict[Any, Any] | None = field(default_factory=dict)


def clean(prompt: str) -> str:
    """Mend mojibake, undo HTML entities and fold white space, as the reference does."""
    text = html.unescape(html.unescape(ftfy.fix_text(prompt))).strip()
    return re.sub(r"\s+", " ", text).strip()


class TextEncoder:
    """Tokenizer and encoder with a cache by prompt and length."""

    def __init__(self, tokenizer: Any, encoder: Any, dtype: torch.dtype) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._dtype = dtype
        self._cache: PromptCache[Tensor] = PromptCache()

    def __call__(self, prompt: str, length: int) -> Tensor:
        """Return the (1, length, text_dim) embedding of a prompt; longer ones are cut at `length` tokens."""
        return self._cache.get((prompt, length), lambda: self._encode(prompt, length))

    @property
    def min_length(self) -> int:
        """The shortest length at which anything of a prompt is read."""
        return int(self._tokenizer.num_special_tokens_to_add()) + 1

    def extent(self, prompt: str, length: int) -> Extent:
        """Measure a prompt that is to be encoded at `length` tokens."""
        return extent(self._tokenizer, clean(prompt), length)

    def _encode(self, prompt: str, length: int) -> Tensor:
        tokens = self._tokenizer(
            [clean(prompt)],
            padding="max_length",
            max_length=length,
            truncation=True,
            add_special_tokens=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        device = self._encoder.device
        mask = tokens.attention_mask.to(device)
        embeds = self._encoder(tokens.input_ids.to(device), mask).last_hidden_state  # (1, L, D)
        count = int(mask.gt(0).sum())
        padded = torch.cat([embeds[:, :count], embeds.new_zeros(1, length - count, embeds.shape[2])], dim=1)
        return padded.to(self._dtype)
