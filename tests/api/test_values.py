from __future__ import annotations

import pytest

from vitascope.api.values import ATTENTION_CACHE, FLAG, INTEGER, NUMBER, OBJECT, SIZE, TEXT
from vitascope.errors import InvalidRequest, InvalidType
from vitascope.request import AttentionCache


@pytest.mark.parametrize("given", [5, "5", 5.0, "+5"])
def test_an_integer_may_come_as_a_number_or_a_string(given):
    assert INTEGER.read("n", given) == 5


@pytest.mark.parametrize("given", ["5", 5, 5.0, "5.", "50e-1"])
def test_a_number_may_come_as_a_number_or_a_string(given):
    assert NUMBER.read("seconds", given) == 5.0


@pytest.mark.parametrize(
    "given", ["1_0", " 5", "\u0665", "0x10", "", "5.5", "1" * 400, 5.5, True, None, [], {}]
)
def test_what_is_no_integer_is_refused(given):
    with pytest.raises(InvalidRequest) as caught:
        INTEGER.read("seed", given)
    assert caught.value.param == "seed"
    assert caught.value.code == "invalid_type"
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "given", ["nan", "inf", "1e400", "1_0", "", "one", float("nan"), float("inf"), 10**400, True, [5]]
)
def test_what_is_no_finite_number_is_refused(given):
    with pytest.raises(InvalidType):
        NUMBER.read("fps", given)


def test_flags_are_read_from_words_and_booleans():
    assert [FLAG.read("x", v) for v in (True, "true", "True", "1", False, "false", "0")] == [True] * 4 + [
        False
    ] * 3


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("yes", "'yes' is neither true nor false"),
        ("", "'' is neither"),
        (1, "got an integer"),
        (None, "null"),
    ],
)
def test_what_is_no_flag_is_refused(given, says):
    with pytest.raises(InvalidType, match=says):
        FLAG.read("x", given)


def test_an_object_may_come_as_json_in_a_string():
    assert OBJECT.read("extra_params", '{"a": 1}') == {"a": 1} == OBJECT.read("extra_params", {"a": 1})


@pytest.mark.parametrize(
    "given", ["832*480", "832X480", "832x", "x480", "0x16", "832x480 ", "-1x1", "999999x1", 832]
)
def test_a_size_has_one_spelling(given):
    with pytest.raises(InvalidRequest):
        SIZE.read("size", given)


def test_a_text_must_be_a_string():
    with pytest.raises(InvalidRequest, match="expected a string, but got an object instead"):
        TEXT.read("prompt", {})


@pytest.mark.parametrize(
    "given",
    [
        {"start_step": 1, "interval": 2, "end_step": 3},
        {"start_step": "1", "interval": "2", "end_step": "3"},
        '{"start_step": 1, "interval": 2, "end_step": 3}',
    ],
)
def test_an_attention_cache_is_an_object_of_three_integers(given):
    read = ATTENTION_CACHE.read("attention_cache", given)
    assert read == AttentionCache(start_step=1, interval=2, end_step=3)


@pytest.mark.parametrize(
    "given",
    [
        {"start_step": 1, "interval": 2},
        {"start_step": 1, "interval": 2, "end_step": 3, "ratio": 1.2},
        {"start_step": 1.5, "interval": 2, "end_step": 3},
        {"start_step": 1, "interval": True, "end_step": 3},
        "1:2:3",
        [1, 2, 3],
    ],
)
def test_anything_else_is_no_attention_cache(given):
    with pytest.raises(InvalidRequest):
        ATTENTION_CACHE.read("attention_cache", given)
