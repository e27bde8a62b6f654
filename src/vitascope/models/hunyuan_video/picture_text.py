"""The text of HunyuanVideo's image-to-video models: LLaVA reads the prompt and the picture together.

The tokens of the picture take the place of the template's <image>; thinned out, they go before the prompt's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vitascope.errors import InvalidRequest
from vitascope.media.arrays import Picture
from vitascope.models.hunyuan_video.text import (
    PICTURE_TEMPLATE,
    ClipText,
    Text,
    prompt_tokens,
    tokenize,
    trimmed,
)
from vitascope.models.prompts import Extent, PromptCache

_TEMPLATE_TOKENS = 103  # before the prompt, <image> counted as one
_IMAGE_START = 5
_IMAGE_TOKENS = 576
_IMAGE = slice(_IMAGE_START, _IMAGE_START + _IMAGE_TOKENS)
_ASSISTANT_TOKENS = 4  # <|eot_id|> and the assistant's header, left out of the text
_HIDDEN_STATE = -3


@dataclass(frozen=True, slots=True)
class Llava:
    """LLaVA with its tokenizer and image processor."""

    tokenizer: Any
    image_processor: Any
    encoder: Any


class PictureTextEncoder:
    """LLaVA and CLIP, with a cache by prompt, picture, length and thinning."""

    def __init__(self, llava: Llava, clip: ClipText, dtype: torch.dtype) -> None:
        self._llava = llava
        self._clip = clip
        self._dtype = dtype
        self._cache: PromptCache[Text] = PromptCache()

    def __call__(self, prompt: str, picture: Picture, length: int, *, every: int) -> Text:
        """Encode a prompt and a picture, of whose tokens `every` so many-th is kept.

        Raises:
            InvalidRequest: the prompt contains the word that stands for the picture.

        """
        seen = hashlib.sha256(picture.tobytes()).digest()
        return self._cache.get(
            (prompt, seen, picture.shape, length, every),
            lambda: Text(self._embed(prompt, picture, length, every), self._clip(prompt)),
        )

    def extent(self, prompt: str, length: int) -> Extent:
        """Measure a prompt; as many tokens as the assistant's header has are left out of one that is cut."""
        count = prompt_tokens(self._llava.tokenizer, PICTURE_TEMPLATE, _TEMPLATE_TOKENS, prompt)
        return Extent(count, max(length - _ASSISTANT_TOKENS, 0))

    def _embed(self, prompt: str, picture: Picture, length: int, every: int) -> Tensor:
        encoder = self._llava.encoder
        ids, mask = tokenize(
            self._llava.tokenizer, PICTURE_TEMPLATE.format(prompt), length + _TEMPLATE_TOKENS
        )
        expanded = _with_room_for_picture(ids, encoder.config.image_token_index, encoder.config.pad_token_id)
        valid = (expanded != encoder.config.pad_token_id).to(mask.dtype)
        positions = (valid.cumsum(-1) - 1).masked_fill(valid == 0, 1)
        pixels = self._llava.image_processor(Image.fromarray(picture), return_tensors="pt").pixel_values
        states = encoder(
            input_ids=expanded.to(encoder.device),
            attention_mask=valid.to(encoder.device),
            position_ids=positions.to(encoder.device),
            pixel_values=pixels.to(encoder.device, encoder.dtype),
            output_hidden_states=True,
            logits_to_keep=1,  # nobody reads the words that LLaVA would answer
        ).hidden_states[_HIDDEN_STATE]  # (1, L, D)
        end = self._assistant_end(ids)
        shift = _IMAGE_TOKENS - 1
        text = torch.cat(
            [states[:, _TEMPLATE_TOKENS + shift : end - _ASSISTANT_TOKENS + shift], states[:, end + shift :]],
            dim=1,
        )
        text_mask = torch.cat([mask[:, _TEMPLATE_TOKENS : end - _ASSISTANT_TOKENS], mask[:, end:]], dim=1)
        return torch.cat([states[:, _IMAGE][:, ::every], trimmed(text, text_mask)], dim=1).to(self._dtype)

    def _assistant_end(self, ids: Tensor) -> int:
        """Return where the assistant's header ends; where a long prompt pushed it out, the end of all."""
        marker = self._llava.tokenizer.convert_tokens_to_ids("<|end_header_id|>")
        ends = torch.where(ids[0] == marker)[0].tolist()
        cut_off = len(ends) == 2  # the system's and the user's are left
        return ids.shape[1] if cut_off else int(ends[-1]) + 1


def _with_room_for_picture(ids: Tensor, image_token: int, pad_token: int) -> Tensor:
    """Put `_IMAGE_TOKENS` image tokens in the place of the one in (1, L) ids; padding stays at the end."""
    if int((ids == image_token).sum()) != 1:
        raise InvalidRequest(
            "The prompt contains '<image>', which stands for the picture; leave that word out.",
            param="prompt",
        )
    expanded = ids.new_full((1, ids.shape[1] + _IMAGE_TOKENS - 1), pad_token)
    expanded[:, :_IMAGE_START] = ids[:, :_IMAGE_START]
    expanded[:, _IMAGE] = image_token
    expanded[:, _IMAGE.stop :] = ids[:, _IMAGE_START + 1 :]
    return expanded
