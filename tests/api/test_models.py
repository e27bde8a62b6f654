from __future__ import annotations


def test_every_served_model_is_listed_with_its_card(client):
    listing = client.get("/v1/models").json()
    assert listing["object"] == "list"
    assert [model["id"] for model in listing["data"]] == ["tiny", "words"]
    tiny = listing["data"][0]
    assert (tiny["object"], tiny["owned_by"], tiny["model_type"]) == ("model", "vitascope", "video")
    assert isinstance(tiny["created"], int)
    assert tiny["tasks"] == ["t2v", "i2v", "flf2v", "v2v"]
    assert tiny["defaults"]["num_frames"] == 9
    assert tiny["rules"]["frame_stride"] == 4
    assert tiny["prompt_guide"]["examples"] == ["a red circle"]


def test_aliases_are_listed_and_say_what_they_stand_for(open_house):
    _, client = open_house(model_alias=("sora-2", "sora-2-pro=words", "broken=nothing"))
    roots = {model["id"]: model["root"] for model in client.get("/v1/models").json()["data"]}
    assert roots == {"tiny": "tiny", "words": "words", "sora-2": "tiny", "sora-2-pro": "words"}
    assert client.get("/v1/models/sora-2").json()["root"] == "tiny"


def test_an_unknown_model_is_404(client):
    answer = client.get("/v1/models/nope")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_no_model_yet_is_an_empty_list(client, house):
    house.scheduling.served = []
    assert client.get("/v1/models").json() == {"object": "list", "data": []}
