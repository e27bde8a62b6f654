from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vitascope.api.fields import FIELDS
from vitascope.api.intake import Body, nest
from vitascope.api.reading import read_wish
from vitascope.card import Defaults, ModelCard, Rules, resolve
from vitascope.errors import InvalidRequest

CARD = ModelCard(
    name="tiny",
    family="wan",
    tasks=("t2v",),
    defaults=Defaults(height=32, width=48, num_frames=9, fps=8.0, num_inference_steps=4, guidance_scale=5.0),
    rules=Rules(size_multiple=16, frame_stride=4, max_pixels=4096, max_frames=33),
    identity="0" * 64,
)
ADAPTED = replace(CARD, adapters=("ink", "oil"))


def chosen(fields: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    return resolve(read_wish(Body({"prompt": "a cat", **fields}), ADAPTED).wish, ADAPTED).loras


@pytest.mark.parametrize(
    ("lora", "loras"),
    [
        ({"name": "ink"}, (("ink", 1.0),)),
        ({"lora_name": "ink", "lora_scale": "0.5"}, (("ink", 0.5),)),
        ([{"adapter": "oil", "scale": -2}, {"name": "ink"}], (("oil", -2.0), ("ink", 1.0))),
        ('{"name": "ink", "scale": 0.5}', (("ink", 0.5),)),
        ('[{"name": "ink"}, {"name": "oil"}]', (("ink", 1.0), ("oil", 1.0))),
        ([], ()),
        (None, ()),
    ],
)
def test_adapters_are_chosen_by_name_and_scale(lora: Any, loras: Any) -> None:
    assert chosen({"lora": lora}) == loras


def test_a_form_spells_them_with_brackets() -> None:
    pairs = [("lora[0][name]", "ink"), ("lora[0][scale]", "0.25"), ("lora[1][name]", "oil")]
    assert chosen(nest(pairs)) == (("ink", 0.25), ("oil", 1.0))


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ({"name": "ink", "path": "/etc/passwd"}, "lora.path is a path on the server"),
        ({"name": "ink", "lora_local_path": "x"}, "lora.lora_local_path is a path on the server"),
        ({"name": "sepia"}, "lora 'sepia' is not registered here; the adapters of tiny are 'ink', 'oil'."),
        ({"name": "ink", "scale": 9}, "lora is 9; it must be from -4 to 4."),
        ({"name": "ink", "scale": "much"}, "'lora.scale': 'much' is not a number"),
        ([{"name": "ink"}, {"name": "ink"}], "lora 'ink' is given more than once"),
        ({"name": "ink", "adapter": "oil"}, "lora needs one name"),
        ({"scale": 1}, "lora needs one name"),
        ({"name": "ink", "int_id": 7}, "lora has an unknown entry 'int_id'"),
        ("ink", "lora is not valid JSON"),
        ("[}", "lora is not valid JSON"),
        ('[1], "x": [2]', "lora is not valid JSON"),
        (["ink"], "Invalid type for 'lora'"),
        (3, "Invalid type for 'lora'"),
    ],
)
def test_what_cannot_be_honoured_is_refused_in_words(lora: Any, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chosen({"lora": lora})
    assert said in refused.value.message


def test_a_model_without_adapters_says_so() -> None:
    wish = read_wish(Body({"prompt": "a cat", "lora": {"name": "ink"}}), CARD).wish
    with pytest.raises(InvalidRequest, match="the adapters of tiny are none; the operator registers them"):
        resolve(wish, CARD)


def test_a_path_beside_it_is_refused_with_what_to_use_instead() -> None:
    with pytest.raises(InvalidRequest, match="choose one of the adapters that the model lists"):
        chosen({"lora_path": "/tmp/x"})


def test_the_schema_tells_both_shapes() -> None:
    assert len(FIELDS["lora"].kind.schema["anyOf"]) == 3
