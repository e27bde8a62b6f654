"""Attention that can take what it computed before: the text's keys and values, and whole self-attentions.

The text's are computed once for a generation instead of at every step, which changes no bit of the result;
self-attentions are taken from earlier steps only where a request asks for it (`sampling.attention_cache`).
Modules of one transformer instance are replaced, never of a class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor, nn

from vitascope.models.wan.text import KeyValue
from vitascope.sampling.attention_cache import Branch

V = TypeVar("V")

# diffusers fixes the text at 512 tokens where image tokens go before it.
_TEXT_TOKENS_AFTER_IMAGE = 512


class PassMemory:
    """What a forward pass may take from earlier ones; outside of `using` nothing is kept."""

    def __init__(self) -> None:
        self._kept: dict[Any, Any] | None = None
        self._attended: Branch | None = None

    @contextmanager
    def using(self, kept: dict[Any, Any] | None, attended: Branch | None = None) -> Iterator[None]:
        """Use what is `kept` of the text and of self-attention in the passes inside; None keeps nothing."""
        self._kept, self._attended = kept, attended
        try:
            yield
        finally:
            self._kept = self._attended = None

    def get(self, owner: Any, make: Callable[[], V]) -> V:
        """Return what `owner` made of this text before, or let it make it now."""
        if self._kept is None:
            return make()
        if owner not in self._kept:
            self._kept[owner] = make()
        value: V = self._kept[owner]
        return value

    def attended(self, owner: Any, attend: Callable[[], Tensor]) -> Tensor:
        """Return what self-attention `owner` put out at an earlier step, or let it attend now."""
        return attend() if self._attended is None else self._attended.get(owner, attend)


class KeptTextProjection(nn.Module):
    """A transformer's text embedder, run once for a text. Names of weights stay those of the original."""

    def __init__(self, original: Any, memory: PassMemory) -> None:
        super().__init__()
        self.linear_1, self.act_1, self.linear_2 = original.linear_1, original.act_1, original.linear_2
        self._memory = memory

    def forward(self, caption: Tensor) -> Tensor:
        """Embed (B, L, text_dim) as (B, L, dim)."""
        embedded: Tensor = self._memory.get(self, lambda: self.linear_2(self.act_1(self.linear_1(caption))))
        return embedded


class KeptCrossAttention:
    """Attention processor of one cross-attention layer."""

    def __init__(self, memory: PassMemory) -> None:
        self._memory = memory

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
        text, image = self._memory.get(self, lambda: _keys_and_values(attn, encoder_hidden_states))
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))  # (B, N, H, D)
        attended = _attend(query, text)
        if image is not None:
            attended = attended + _attend(query, image)
        projected: Tensor = attn.to_out[1](attn.to_out[0](attended))
        return projected


class KeptSelfAttention(WanAttnProcessor):  # type: ignore[misc]  # diffusers is untyped
    """Attention processor of one self-attention layer: diffusers' own, skipped where its output is known."""

    def __init__(self, memory: PassMemory) -> None:
        super().__init__()
        self._memory = memory

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Any = None,
    ) -> Tensor:
        """Attend from (B, N, dim) to itself."""
        attend = super().__call__
        return self._memory.attended(
            self, lambda: attend(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        )


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


def with_memory(transformer: Any) -> PassMemory:
    """Let one transformer instance take from a memory what earlier passes computed; return that memory."""
    memory = PassMemory()
    embedder = transformer.condition_embedder
    embedder.text_embedder = KeptTextProjection(embedder.text_embedder, memory)
    for block in transformer.blocks:
        block.attn1.set_processor(KeptSelfAttention(memory))
        block.attn2.set_processor(KeptCrossAttention(memory))
    return memory
