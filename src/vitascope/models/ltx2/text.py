"""LTX-2's text: the hidden states of all of Gemma's layers, and what the connectors make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vitascope.models.prompts import Extent, PromptCache, extent

TEXT_TOKENS = 1024  # the reference's length; connectors fill it up with learned registers

# Each entry takes some 15 MB of a real model's device.
_KEPT_PROMPTS = 8


@dataclass(frozen=True, slots=True)
class Text:
    """One encoded prompt, (1, TEXT_TOKENS, dim) for each stream.

    `mask`, (1, TEXT_TOKENS), is None when every token counts, as always with learned registers: attention is
    faster without one.
    """

    video: Tensor
    audio: Tensor
    mask: Tensor | None


class TextEncoder:
    """Tokenizer, Gemma and connectors, with a cache by prompt."""

    def __init__(self, tokenizer: Any, encoder: Any, connectors: Any) -> None:
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._connectors = connectors
        self._cache: PromptCache[Text] = PromptCache(_KEPT_PROMPTS)

    def __call__(self, prompt: str) -> Text:
        """Encode a prompt; longer ones are cut at TEXT_TOKENS."""
        prompt = prompt.strip()
        return self._cache.get(prompt, lambda: self._encode(prompt))

    def extent(self, prompt: str) -> Extent:
        """Measure a prompt."""
        return extent(self._tokenizer, prompt.strip(), TEXT_TOKENS)

    def _encode(self, prompt: str) -> Text:
        tokens = self._tokenizer(
            [prompt],
            padding="max_length",
            max_length=TEXT_TOKENS,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        ).to(self._encoder.device)
        # The model below the language head: its logits over the whole vocabulary would be thrown away.
        layers = self._encoder.model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, output_hidden_states=True
        ).hidden_states
        stacked = torch.stack(layers, dim=-1).flatten(2, 3)  # (1, L, D * layers)
        video, audio, mask = self._connectors(
            stacked, tokens.attention_mask, padding_side=self._tokenizer.padding_side
        )
        return Text(video, audio, None if bool(mask.all()) else mask)
