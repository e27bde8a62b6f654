from __future__ import annotations

from dataclasses import replace

import pytest

from vitascope.card import Defaults, ModelCard, PromptGuide, Rules, Wish, request_warnings, resolve
from vitascope.card.advice import cache_warnings, guidance_warnings, prompt_warnings
from vitascope.request import AttentionCache

CARD = ModelCard(
    name="tiny",
    family="wan",
    tasks=("t2v",),
    defaults=Defaults(
        height=64,
        width=64,
        num_frames=9,
        fps=8,
        num_inference_steps=50,
        guidance_scale=5.0,
        negative_prompt="blurry",
    ),
    rules=Rules(size_multiple=16, frame_stride=4, max_pixels=4096, max_frames=33),
    identity="abc",
)
SECOND = replace(CARD, defaults=replace(CARD.defaults, guidance_scale_2=4.0))
DISTILLED = replace(CARD, defaults=replace(CARD.defaults, true_cfg_scale=1.0))
CACHING = replace(CARD, rules=replace(CARD.rules, attention_cache_token_bytes=64))
GUIDED = replace(
    CARD, prompt_guide=PromptGuide(known_words=("a", "red", "circle"), examples=("a red circle",))
)


def ask(card=CARD, **wish):
    return resolve(Wish(**{"prompt": "a cat", **wish}), card)


def cache(start_step, interval, end_step):
    return AttentionCache(start_step=start_step, interval=interval, end_step=end_step)


def test_a_prompt_of_known_words_needs_no_warning():
    assert prompt_warnings("A red, RED circle!", GUIDED) == []
    assert prompt_warnings("anything at all", CARD) == []


def test_unknown_words_are_named_once_with_a_prompt_that_works():
    (warning,) = prompt_warnings("a Blue dog, a blue cat", GUIDED)
    assert warning == (
        "tiny does not know 'blue', 'dog', 'cat'; it makes moving shapes. Prompts that work: 'a red circle'."
    )


@pytest.mark.parametrize(
    ("card", "wishes", "named"),
    [
        (CARD, {"negative_prompt": "rain", "guidance_scale": 1.0}, "guidance_scale is 1,"),
        (CARD, {"negative_prompt": "rain"}, None),
        (CARD, {"guidance_scale": 1.0}, None),
        (CARD, {"negative_prompt": "", "guidance_scale": 1.0}, None),
        (SECOND, {"negative_prompt": "rain", "guidance_scale": 1.0}, None),  # the second one reads it
        (DISTILLED, {"negative_prompt": "rain"}, "true_cfg_scale is 1,"),
        (DISTILLED, {"negative_prompt": "rain", "true_cfg_scale": 4.0}, None),
    ],
)
def test_a_negative_prompt_that_no_guidance_reads_is_told(card, wishes, named):
    told = guidance_warnings(ask(card, **wishes), card)
    assert len(told) == (named is not None)
    assert all(named in warning for warning in told)


def test_a_request_is_told_of_everything_at_once():
    card = replace(CACHING, prompt_guide=GUIDED.prompt_guide)
    wishes = {"negative_prompt": "rain", "guidance_scale": 1.0, "attention_cache": cache(1, 1, 9)}
    assert len(request_warnings(ask(card, **wishes), card)) == 3


def test_an_attention_cache_that_spares_nothing_is_told():
    def told(given):
        return cache_warnings(ask(CACHING, attention_cache=given, num_inference_steps=20))

    assert told(None) == told(cache(12, 4, 37)) == told(cache(18, 2, 19)) == []
    for idle in (cache(19, 4, 37), cache(1, 1, 9), cache(5, 4, 5)):
        assert told(idle)[0].startswith("The attention cache spares none of the 20 steps")
