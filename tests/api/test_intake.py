from __future__ import annotations

import pytest

from vitascope.api import intake
from vitascope.api.intake import MAX_NESTING, nest, parse_object
from vitascope.errors import InvalidRequest


def test_brackets_with_a_name_are_an_object():
    assert nest([("a[b]", "1"), ("a[c]", "2")]) == {"a": {"b": "1", "c": "2"}}


def test_empty_brackets_are_a_list():
    assert nest([("tags[]", "x"), ("tags[]", "y")]) == {"tags": ["x", "y"]}


def test_numbered_brackets_are_a_list_in_the_order_of_their_numbers():
    assert nest([("lora[1][name]", "b"), ("lora[0][name]", "a")]) == {"lora": [{"name": "a"}, {"name": "b"}]}


def test_a_repeated_key_begins_the_next_object_of_a_list():
    pairs = [("loras[][path]", "p"), ("loras[][w]", "1"), ("loras[][path]", "q"), ("loras[][w]", "2")]
    assert nest(pairs) == {"loras": [{"path": "p", "w": "1"}, {"path": "q", "w": "2"}]}


def test_objects_nest_within_objects():
    assert nest([("a[b][c]", "1"), ("a[b][d][]", "2")]) == {"a": {"b": {"c": "1", "d": ["2"]}}}


@pytest.mark.parametrize(
    "pairs",
    [
        [("seed", "1"), ("seed", "2")],
        [("a[b]", "1"), ("a[b]", "2")],
        [("a", "1"), ("a[b]", "2")],
        [("a[b]", "1"), ("a[]", "2")],
        [("a[0]", "1"), ("a[2]", "2")],
        [("a[999999999]", "1")],
        [("a[" + "][".join("b" * (MAX_NESTING + 1)) + "]", "1")],
        [("a[][][b]", "1")],
        [("[a]", "1")],
        [("a[b", "1")],
        [("a]b", "1")],
        [("", "1")],
    ],
)
def test_keys_that_contradict_each_other_or_cannot_be_read_are_refused(pairs):
    with pytest.raises(InvalidRequest):
        nest(pairs)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        '"x"',
        "{'a': 1}",
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a":' * 100_000,
        '{"a": ' + "9" * 5000 + "}",
        b"\xff\xfe{}",
    ],
)
def test_json_that_is_no_plain_object_is_refused(text):
    with pytest.raises(InvalidRequest):
        parse_object(text)


def test_a_form_that_would_fill_the_memory_with_its_escapes_is_not_read(client, monkeypatch):
    monkeypatch.setattr(intake, "MAX_ESCAPES", 10)
    form = {"content-type": "application/x-www-form-urlencoded"}
    few, many = ("prompt=" + "%41" * count for count in (10, 11))
    assert client.post("/v1/videos", content=few, headers=form).status_code == 200
    refused = client.post("/v1/videos", content=many, headers=form)
    assert refused.status_code == 400
    assert "multipart/form-data or JSON" in refused.json()["error"]["message"]
