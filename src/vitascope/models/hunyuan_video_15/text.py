"""HunyuanVideo 1.5's text: Qwen2.5-VL reads the prompt in its template, ByT5 the text between quotes in it.

The reference carries 1000 and 256 tokens through every block, most of them padding behind a mask; here the
padding is cut off once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vitascope.models.prompts import Extent, PromptCache, extent, unread
from vitascope.request import GenerationRequest

_GAP = " " * 9  # the model was trained with its authors' indentation
SYSTEM_MESSAGE = _GAP.join(
    (
        "You are a helpful assistant. Describe the video by detailing the following aspects:",
        "1. The main content and theme of the video.",
        "2. The color, shape, size, texture, quantity, text, and spatial relationships of the objects.",
        "3. Actions, events, behaviors temporal relationships, physical movement changes of the objects.",
        "4. background environment, light, style and atmosphere.",
        "5. camera angles, movements, and transitions used in the video.",
    )
)
TEMPLATE_TOKENS = 108  # before the prompt
MAX_TEXT_TOKENS = 1000
_GLYPH_TOKENS = 256
_HIDDEN_STATE = -3
_QUOTED = re.compile(r"\"(.*?)\"|“(.*?)”")


@dataclass(frozen=True, slots=True)
class Text:
    """One encoded prompt, every token valid: (1, tokens, text_dim) and, for quoted text, (1, glyphs, dim)."""

    embeds: Tensor
    glyphs: Tensor


def glyph_prompt(prompt: str) -> str | None:
    """Return what ByT5 reads of a prompt: the texts between quotes, each once; None where there are none."""
    texts = dict.fromkeys(plain or curly for plain, curly in _QUOTED.findall(prompt))
    return "".join(f'Text "{text}". ' for text in texts) or None


def _chat(prompt: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM_MESSAGE}, {"role": "user", "content": prompt or " "}]


class QwenText:
    """Tokenizer and Qwen2.5-VL's language model."""

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder

    def __call__(self, prompt: str, length: int) -> Tensor:
        """Return the (1, tokens, dim) embedding of the first `length` tokens of a prompt."""
        tokens = self._tokenizer.apply_chat_template(
            [_chat(prompt)],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            padding="max_length",
            tokenizer_kwargs={"padding_side": "right"},  # the template is counted from the start
            max_length=length + TEMPLATE_TOKENS,
            truncation=True,
            return_tensors="pt",
        )
        device = self._encoder.device
        states: Tensor = self._encoder(
            input_ids=tokens.input_ids.to(device),
            attention_mask=tokens.attention_mask.to(device),
            output_hidden_states=True,
        ).hidden_states[_HIDDEN_STATE]
        return states[:, TEMPLATE_TOKENS : int(tokens.attention_mask.sum())]

    def extent(self, prompt: str, length: int) -> Extent:
        """Measure a prompt behind its template."""
        if not prompt.strip():
            return Extent(0, length)  # of nothing the template has no end to be found
        rendered = self._tokenizer.apply_chat_template(
            _chat(prompt), continue_final_message=True, tokenize=False
        )
        tokens = self._tokenizer(rendered, add_special_tokens=False, verbose=False).input_ids
        return Extent(len(tokens) - TEMPLATE_TOKENS, length)


class GlyphText:
    """ByT5, which reads letters; for text that is to be seen in the clip."""

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder

    def __call__(self, prompt: str) -> Tensor:
        """Return the (1, tokens, dim) embedding of what is quoted in a prompt; no tokens if nothing is."""
        encoder, quoted = self._encoder, glyph_prompt(prompt)
        if quoted is None:
            return torch.zeros((1, 0, encoder.config.d_model), device=encoder.device, dtype=encoder.dtype)
        tokens = self._tokenizer(
            [quoted],
            padding="max_length",
            max_length=_GLYPH_TOKENS,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        )
        mask = tokens.attention_mask
        states: Tensor = encoder(
            input_ids=tokens.input_ids.to(encoder.device), attention_mask=mask.float().to(encoder.device)
        ).last_hidden_state
        return states[:, : int(mask.sum())]

    def extent(self, prompt: str) -> Extent:
        """Measure what is quoted in a prompt."""
        return extent(self._tokenizer, glyph_prompt(prompt) or "", _GLYPH_TOKENS)


class TextEncoder:
    """Both encoders, with a cache by prompt and length."""

    def __init__(self, qwen: QwenText, glyphs: GlyphText, dtype: torch.dtype) -> None:
        self._qwen = qwen
        self._glyphs = glyphs
        self._dtype = dtype
        self._cache: PromptCache[Text] = PromptCache()

    def __call__(self, prompt: str, length: int) -> Text:
        """Encode a prompt; of a longer one the first `length` tokens are read."""
        return self._cache.get((prompt, length), lambda: self._encode(prompt, length))

    def unread(self, request: GenerationRequest, length: int, *, guided: bool) -> tuple[str, ...]:
        """Warn of what either encoder does not read of the prompts."""
        told = unread(request, partial(self._qwen.extent, length=length), guided=guided)
        return told + unread(request, self._glyphs.extent, guided=guided, part="quoted text of the ")

    def _encode(self, prompt: str, length: int) -> Text:
        embeds, glyphs = self._qwen(prompt, length), self._glyphs(prompt)
        return Text(embeds.to(self._dtype), glyphs.to(self._dtype))
