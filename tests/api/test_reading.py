"""Whatever a client sends is understood or refused in words, never an error of ours."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vitascope.api.fields import FIELDS, Use
from vitascope.api.intake import Body, nest
from vitascope.api.reading import read_wish
from vitascope.card import Defaults, ModelCard, Rules, resolve
from vitascope.errors import InvalidRequest
from vitascope.request import AttentionCache

CARD = ModelCard(
    name="tiny",
    family="wan",
    tasks=("t2v", "i2v", "flf2v"),
    defaults=Defaults(height=32, width=48, num_frames=9, fps=8.0, num_inference_steps=4, guidance_scale=5.0),
    rules=Rules(size_multiple=16, frame_stride=4, max_pixels=4096, max_frames=33),
    identity="0" * 64,
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
NUMBERS_IN_WORDS = st.sampled_from(["1", "-1", "1e9", "9" * 30, "nan", "0x1", "64x64", "{}", "[1]", "true"])
VALUES = st.recursive(
    SCALARS | NUMBERS_IN_WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(sorted(FIELDS)) | st.text(max_size=12)
KEYS = st.text(alphabet="ab01[]", min_size=1, max_size=12)
FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FUZZ
@given(
    fields=st.dictionaries(NAMES, VALUES, max_size=6),
    files=st.dictionaries(NAMES, st.lists(st.binary(), max_size=2)),
)
@example(fields={"seed": True}, files={})
@example(fields={"prompt": "x", "num_inference_steps": 10**400}, files={})
@example(fields={"prompt": "x", "seed": -(10**400)}, files={})
@example(fields={"size": 5, "width": "x"}, files={})
@example(fields={"input_reference": [[[]]]}, files={})
@example(fields={"extra_params": {"extra_params": {}}}, files={})
def test_any_body_becomes_a_request_or_a_refusal(fields, files):
    refusal = None
    try:
        request = resolve(read_wish(Body(fields, files), CARD).wish, CARD)
    except InvalidRequest as error:
        refusal = error
    if refusal is not None:
        assert 0 < len(refusal.message) < 1000
    else:
        assert request.num_frames in range(1, 34, 4)
        assert request.width * request.height <= 4096


@FUZZ
@given(st.lists(st.tuples(KEYS, st.text(max_size=3)), max_size=8))
def test_any_keys_nest_or_are_refused_and_no_value_is_lost(pairs):
    try:
        tree = nest(pairs)
    except InvalidRequest:
        return

    def leaves(value):
        if isinstance(value, dict):
            return [leaf for item in value.values() for leaf in leaves(item)]
        return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [value]

    assert sorted(leaves(tree)) == sorted(value for _, value in pairs)


def test_every_documented_wish_is_a_field_of_the_wish_itself():
    wishes = [name for name, known in FIELDS.items() if known.use is Use.WISH]
    values = {
        name: "4" if name not in {"prompt", "negative_prompt", "sample_solver"} else "x" for name in wishes
    }
    values["guidance_scale_2"] = "5"  # the same as guidance_scale asks for nothing
    cache = {"start_step": 4, "interval": 4, "end_step": 4}
    assert values.pop("attention_cache") == "4"
    wishes.remove("attention_cache")
    wish = read_wish(Body({**values, "attention_cache": cache}), CARD).wish
    assert wish.attention_cache == AttentionCache(**cache)
    assert {name: getattr(wish, name) for name in wishes} == {
        name: value if value == "x" else int(value) for name, value in values.items()
    }


@pytest.mark.parametrize(
    ("makes_sound", "asked"), [(True, "true"), (True, False), (False, "true"), (False, False)]
)
def test_sound_is_granted_where_it_is_what_the_model_does(makes_sound, asked):
    card, body = replace(CARD, makes_sound=makes_sound), Body({"prompt": "x", "generate_sound": asked})
    if (asked == "true") == makes_sound:
        assert read_wish(body, card).wish.prompt == "x"
    else:
        with pytest.raises(
            InvalidRequest, match="makes sound with every clip" if makes_sound else "makes no sound"
        ):
            read_wish(body, card)


@pytest.mark.parametrize(
    ("given", "continues", "native"),
    [
        ({}, False, 5.0),
        ({"image_reference": {"image_url": "https://pictures.example/a.png"}}, False, 2.0),
        ({"video": {"id": "video_1"}}, True, 2.0),
        ({"video": {"id": "video_1"}}, False, 5.0),
    ],
)
def test_a_second_guidance_like_the_native_one_asks_a_single_transformer_for_nothing(
    given, continues, native
):
    card = replace(CARD, defaults=replace(CARD.defaults, guidance_scale_with_frames=2.0))
    for scale in (5.0, 2.0):
        body = Body({"prompt": "x", **given, "guidance_scale_2": scale})
        wish = read_wish(body, card, continues=continues).wish
        assert wish.guidance_scale_2 == (None if scale == native else scale)
