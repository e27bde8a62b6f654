"""Joint attention without a mask where nothing is masked, so that the fastest kernels may be taken."""

from __future__ import annotations

from typing import Any

from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoAttnProcessor2_0
from torch import Tensor

from vitascope.models.text_padding import TextMask


class JointAttention:
    """diffusers' attention processor; the mask is left out where every token is valid."""

    def __init__(self, text_mask: TextMask) -> None:
        self._text_mask = text_mask
        self._attend = HunyuanVideoAttnProcessor2_0()

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> Any:
        """Attend jointly from video and text to both."""
        mask = None if self._text_mask.whole else attention_mask
        return self._attend(attn, hidden_states, encoder_hidden_states, mask, image_rotary_emb)


def drop_empty_masks(transformer: Any) -> TextMask:
    """Make one transformer instance leave out masks that mask nothing; return the switch."""
    text_mask = TextMask()
    for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
        block.attn.set_processor(JointAttention(text_mask))
    return text_mask
