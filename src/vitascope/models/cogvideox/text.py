"""CogVideoX's text: the T5 encoder and its cache. The model attends to the padding: none is cut."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vitascope.models.prompts import Extent, PromptCache, extent


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

    def extent(self, prompt: str, length: int) -> Extent:
        """Measure a prompt that is to be encoded at `length` tokens."""
        return extent(self._tokenizer, prompt, length)

    def _encode(self, prompt: str, length: int) -> Tensor:
        tokens = self._tokenizer(
            [prompt],
            padding="max_length",
            max_length=length,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        )
        embeds: Tensor = self._encoder(tokens.input_ids.to(self._encoder.device))[0]  # (1, L, D)
        return embeds.to(self._dtype)
