"""Cross-attention that computes the text's keys and values once for a generation instead of at every step.

It replaces modules of one transformer instance, never of a class, and computes what diffusers computes, in
the same order: results are equal to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor, nn

from vitascope.models.wan.text import KeyValue

V = TypeVar("V")

# diffusers fixes the text at 512 tokens where image tokens go before it.
_TEXT_TOKENS_AFTER_IMAGE = 512


class Desk:
    """Where the text that a forward pass attends to lies; outside of `reading` nothing is kept."""

    def __init__(self) -> None:
        self._kept: dict[Any, Any] | None = None

    @contextmanager
    def reading(self, kept: dict[Any, Any] | None) -> Iterator[None]:
        """Use `kept` for the passes inside; None keeps nothing."""
        self._kept = kept
        try:
            yield
        finally:
            self._kept = None

    def get(self, owner: Any, make: Callable[[], V]) -> V:
        """Return what `owner` made of this text before, or let it make it now."""
        if self._kept is None:
            return make()
        if owner not in self._kept:
            self._kept[owner] = make()
        value: V = self._kept[owner]
        return value


class KeptTextProjection(nn.Module):
    """A transformer's text embedder, run once for a text. Names of weights stay those of the original."""

    def __init__(self, original: Any, desk: Desk) -> None:
        super().__init__()
        self.linear_1, self.act_1, self.linear_2 = original.linear_1, original.act_1, original.linear_2
        self._desk = desk

    def forward(self, caption: Tensor) -> Tensor:
        """Embed (B, L, text_dim) as (B, L, dim)."""
        embedded: Tensor = self._desk.get(self, lambda: self.linear_2(self.act_1(self.linear_1(caption))))
        return embedded


class KeptCrossAttention:
    """Attention processor of one cross-attention layer."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        rotary_emb: Any = None,
    ) -> Tensor:
        """Attend from (B, N, dim) to the text, and to image tokens where the layer has keys for them."""
        assert attention_mask is None  # Wan attends to the padding
        assert rotary_emb is None  # positions are the video's alone
        text, image = self._desk.get(self, lambda: _keys_and_values(attn, encoder_hidden_states))
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))  # (B, N, H, D)
        attended = _attend(query, text)
        if image is not None:
            attended = attended + _attend(query, image)
        projected: Tensor = attn.to_out[1](attn.to_out[0](attended))
        return projected


def _keys_and_values(attn: Any, context: Tensor) -> tuple[KeyValue, KeyValue | None]:
    """Project (B, L, dim) to the text's keys and values, and to the image's, each (B, L', H, D)."""
    image = None
    if attn.add_k_proj is not None:
        split = context.shape[1] - _TEXT_TOKENS_AFTER_IMAGE
        tokens, context = context[:, :split], context[:, split:]
        image = _heads(attn, attn.norm_added_k(attn.add_k_proj(tokens)), attn.add_v_proj(tokens))
    return _heads(attn, attn.norm_k(attn.to_k(context)), attn.to_v(context)), image


def _heads(attn: Any, key: Tensor, value: Tensor) -> KeyValue:
    shape = (*key.shape[:2], attn.heads, -1)
    return key.view(shape), value.view(shape)


def _attend(query: Tensor, kv: KeyValue) -> Tensor:
    attended = dispatch_attention_fn(query, *kv, attn_mask=None, dropout_p=0.0, is_causal=False)
    return attended.flatten(2, 3).type_as(query)  # type: ignore[no-any-return]


def keep_text(transformer: Any) -> Desk:
    """Make one transformer instance keep its text; return the desk to lay texts on."""
    desk = Desk()
    embedder = transformer.condition_embedder
    embedder.text_embedder = KeptTextProjection(embedder.text_embedder, desk)
    for block in transformer.blocks:
        block.attn2.set_processor(KeptCrossAttention(desk))
    return desk
