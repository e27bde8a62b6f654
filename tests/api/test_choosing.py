"""Which model a request is about, while models come and go."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitascope.api.choosing import choose_card
from vitascope.card import Defaults, ModelCard, Rules
from vitascope.errors import InvalidRequest, UnknownModel
from vitascope.launch import InstanceState

CARD = ModelCard(
    name="tiny",
    family="wan",
    tasks=("t2v",),
    defaults=Defaults(height=32, width=48, num_frames=9, fps=8.0, num_inference_steps=4, guidance_scale=5.0),
    rules=Rules(size_multiple=16, frame_stride=4, max_pixels=4096, max_frames=33),
    identity="0" * 64,
)
ANYTHING = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.text(), max_size=2)

PROMPT = {"prompt": "a red circle"}
CREATES = {
    "/v1/videos": PROMPT,
    "/v1/videos/sync": PROMPT,
    "/v1/video/generations": PROMPT,
}


@pytest.mark.parametrize("path", CREATES)
def test_a_model_that_is_being_loaded_is_503_with_how_far_it_is_and_the_time_to_wait(client, house, path):
    house.launching.add("new", InstanceState.LOADING, progress=0.42)
    answer = client.post(path, json={**CREATES[path], "model": "new"})
    assert answer.status_code == 503
    assert "new is still being loaded (42%)" in answer.text
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert "x-should-retry" not in answer.headers
    assert house.store.num_waiting() == 0


def test_an_alias_of_a_model_that_is_being_loaded_is_503_too(open_house):
    house, client = open_house(model_alias=("sora-2=new",))
    house.launching.add("new", InstanceState.LOADING)
    assert (
        client.post("/v1/videos", json={**PROMPT, "model": "sora-2"}).json()["error"]["code"]
        == "model_loading"
    )


@pytest.mark.parametrize("state", [InstanceState.ERROR, InstanceState.TERMINATED])
def test_a_model_that_will_not_come_is_unknown(client, house, state):
    house.launching.add("new", state)
    answer = client.post("/v1/videos", json={**PROMPT, "model": "new"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "model_not_found")


def test_without_any_model_the_answer_says_what_is_so(client, house):
    house.scheduling.served = []
    said = client.post("/v1/videos", json=PROMPT).json()["error"]["message"]
    assert said == "No model is served now; launch one first."
    house.launching.add("tiny", InstanceState.LOADING)
    assert "still being loaded" in client.post("/v1/videos", json=PROMPT).json()["error"]["message"]
    house.scheduling.why = "No weights."
    assert "No weights. Try again" in client.post("/v1/videos", json=PROMPT).json()["error"]["message"]


def test_a_remix_of_a_model_that_is_gone_says_so(client, house, submitted):
    house.finish(submitted)
    house.scheduling.served = house.scheduling.served[1:]
    answer = client.post(f"/v1/videos/{submitted}/remix", json=PROMPT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "model_not_found")


@settings(max_examples=300, deadline=None)
@given(ANYTHING, st.lists(st.tuples(st.text(max_size=9), st.none() | st.text(max_size=9)), max_size=3))
def test_any_model_is_found_or_refused(name, aliases):
    chosen, param = CARD, "model"
    try:
        chosen = choose_card(name, [CARD], aliases)
    except InvalidRequest as refusal:  # an unknown model is one too
        param = refusal.param
    assert (chosen, param) == (CARD, "model")


def test_an_alias_of_a_model_that_is_not_served_is_unknown():
    with pytest.raises(UnknownModel):
        choose_card("sora-2", [CARD], [("sora-2", "other")])
