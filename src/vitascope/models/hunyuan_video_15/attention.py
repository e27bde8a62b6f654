"""Joint attention of video and text with no mask where every text token is valid, and a thin one elsewhere.

diffusers builds a mask of all tokens by all tokens in every block, 2.6 GB at 480p and 12.9 GB at 720p, which
also keeps the fastest kernels away.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor
from torch.nn import functional

from vitascope.models.text_padding import TextMask


class JointAttention:
    """Attention processor of one block."""

    def __init__(self, text_mask: TextMask) -> None:
        self._text_mask = text_mask

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor,
        image_rotary_emb: Any = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend from video (B, N, dim) and text (B, L, dim) to both; the mask is the text's, (B, L).

        What padding attends to is nobody's concern: it is masked out wherever it would be read.
        """
        video = _video_heads(attn, hidden_states, image_rotary_emb)
        text = _text_heads(attn, encoder_hidden_states)
        query, key, value = (torch.cat([v, t], dim=1) for v, t in zip(video, text, strict=True))
        mask = None
        if not self._text_mask.whole:
            keys = functional.pad(attention_mask.bool(), (hidden_states.shape[1], 0), value=True)
            mask = keys[:, None, None, :]
        attended = dispatch_attention_fn(query, key, value, attn_mask=mask, dropout_p=0.0, is_causal=False)
        attended = attended.flatten(2, 3).to(query.dtype)
        tokens = hidden_states.shape[1]
        video_out = attn.to_out[1](attn.to_out[0](attended[:, :tokens]))
        return video_out, attn.to_add_out(attended[:, tokens:])


def _video_heads(attn: Any, hidden: Tensor, rotary: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Project to query, key and value, each (B, N, H, D), the first two with their positions."""
    query, key, value = (p(hidden).unflatten(2, (attn.heads, -1)) for p in (attn.to_q, attn.to_k, attn.to_v))
    query = apply_rotary_emb(attn.norm_q(query), rotary, sequence_dim=1)
    key = apply_rotary_emb(attn.norm_k(key), rotary, sequence_dim=1)
    return query, key, value


def _text_heads(attn: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = (
        p(hidden).unflatten(2, (attn.heads, -1)) for p in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
    )
    return attn.norm_added_q(query), attn.norm_added_k(key), value


def use_thin_masks(transformer: Any) -> TextMask:
    """Give every block of one transformer instance this attention; return the switch."""
    text_mask = TextMask()
    for block in transformer.transformer_blocks:
        block.attn.set_processor(JointAttention(text_mask))
    return text_mask
