"""HunyuanVideo's text: LLaMA's hidden states of the prompt in its template, and CLIP's pooled embedding.

The padding that the reference carries along, masked, through every block is cut off here once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vitascope.models.prompts import Extent, PromptCache

_ASPECTS = (
    "1. The main content and theme of the video."
    "2. The color, shape, size, texture, quantity, text, and spatial relationships of the objects."
    "3. Actions, events, behaviors temporal relationships, physical movement changes of the objects."
    "4. background environment, light, style and atmosphere."
    "5. camera angles, movements, and transitions used in the video:<|eot_id|>"
)
TEMPLATE = (
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the following aspects: "
    f"{_ASPECTS}<|start_header_id|>user<|end_header_id|>\n\n{{}}<|eot_id|>"
)
PICTURE_TEMPLATE = (
    "<|start_header_id|>system<|end_header_id|>\n\n<image>\n"
    "Describe the video by detailing the following aspects according to the reference image: "
    f"{_ASPECTS}\n\n<|start_header_id|>user<|end_header_id|>\n\n{{}}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
TEMPLATE_TOKENS = 95  # of the template, before the prompt
MAX_TEXT_TOKENS = 256
_CLIP_TOKENS = 77
_HIDDEN_STATE = -3  # the model was trained on the third-last


@dataclass(frozen=True, slots=True)
class Text:
    """One encoded prompt: `embeds` is (1, tokens, text_dim), every token valid; `pooled` is (1, dim)."""

    embeds: Tensor
    pooled: Tensor


class ClipText:
    """Tokenizer and CLIP encoder, for the embedding of a whole prompt; what is past 77 tokens is not seen."""

    def __init__(self, tokenizer: Any, encoder: Any, dtype: torch.dtype) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._dtype = dtype

    def __call__(self, prompt: str) -> Tensor:
        """Return the (1, dim) embedding of a prompt."""
        tokens = self._tokenizer(
            [prompt], padding="max_length", max_length=_CLIP_TOKENS, truncation=True, return_tensors="pt"
        )
        pooled: Tensor = self._encoder(tokens.input_ids.to(self._encoder.device)).pooler_output
        return pooled.to(self._dtype)


class TextEncoder:
    """LLaMA and CLIP, with a cache by prompt and length."""

    def __init__(self, tokenizer: Any, encoder: Any, clip: ClipText, dtype: torch.dtype) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._clip = clip
        self._dtype = dtype
        self._cache: PromptCache[Text] = PromptCache()

    def __call__(self, prompt: str, length: int) -> Text:
        """Encode a prompt; of a longer one the first `length` tokens are read."""
        return self._cache.get(
            (prompt, length), lambda: Text(self._embed(prompt, length), self._clip(prompt))
        )

    def extent(self, prompt: str, length: int) -> Extent:
        """Measure a prompt as LLaMA reads it; CLIP's few tokens are for its pooled embedding alone."""
        return Extent(prompt_tokens(self._tokenizer, TEMPLATE, TEMPLATE_TOKENS, prompt), length)

    def _embed(self, prompt: str, length: int) -> Tensor:
        ids, mask = tokenize(self._tokenizer, TEMPLATE.format(prompt), length + TEMPLATE_TOKENS)
        device = self._encoder.device
        states = self._encoder(
            input_ids=ids.to(device), attention_mask=mask.to(device), output_hidden_states=True
        ).hidden_states[_HIDDEN_STATE]
        return trimmed(states[:, TEMPLATE_TOKENS:], mask[:, TEMPLATE_TOKENS:]).to(self._dtype)


def tokenize(tokenizer: Any, text: str, length: int) -> tuple[Tensor, Tensor]:
    """Return ids and mask of a text cut or padded to `length` tokens, each (1, length), on the CPU."""
    tokens = tokenizer(
        [text],
        max_length=length,
        padding="max_length",
        padding_side="right",  # what is before the prompt is counted from the start
        truncation=True,
        return_tensors="pt",
        return_attention_mask=True,
    )
    return tokens.input_ids, tokens.attention_mask


def prompt_tokens(tokenizer: Any, template: str, template_tokens: int, prompt: str) -> int:
    """Count a prompt's tokens behind those of its template; what comes after it begins with a special one."""
    before, _ = template.split("{}")
    return len(tokenizer(before + prompt, verbose=False).input_ids) - template_tokens


def trimmed(states: Tensor, mask: Tensor) -> Tensor:
    """Drop the padding of (1, L, D): `mask` is (1, L), ones before zeros."""
    return states[:, : max(int(mask.sum()), 1)]
