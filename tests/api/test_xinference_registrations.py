from __future__ import annotations

import pytest

REGISTRATIONS = "/v1/model_registrations"


def refusal(answer, status):
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"detail"}
    return answer.json()["detail"]


def test_names_that_can_be_launched_are_listed_the_operators_first(open_house):
    _, client = open_house(
        model_name="mine", launchable=("wan=/srv/secret/wan", "Wan2.1-14B=/srv/secret/big")
    )
    told = client.get(f"{REGISTRATIONS}/video")
    listed = {entry["model_name"]: entry["is_builtin"] for entry in told.json()}
    assert {*list(listed)[:3]} == {"mine", "wan", "Wan2.1-14B"}
    assert (listed["Wan2.1-14B"], listed["Wan2.1-1.3B"]) == (False, True)
    assert "Wan2.2-Animate-2-14B" not in listed
    assert set(told.json()[0]) == {"model_name", "is_builtin"}
    assert "secret" not in told.text + client.get(f"{REGISTRATIONS}/video?detailed=true").text


def test_a_built_in_name_is_told_with_its_hub_id(client):
    listed = client.get(f"{REGISTRATIONS}/video", params={"detailed": "true"}).json()
    one = client.get(f"{REGISTRATIONS}/video/Wan2.2-ti2v-5B").json()
    assert one in listed
    assert one == {
        "model_name": "Wan2.2-ti2v-5B",
        "is_builtin": True,
        "model_type": "video",
        "model_family": "wan",
        "model_ability": ["text2video", "image2video", "video2video"],
        "model_hub": "huggingface",
        "model_id": "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
    }


def test_there_are_no_models_of_other_types(client):
    assert client.get(f"{REGISTRATIONS}/LLM").json() == []
    assert "No LLM model" in refusal(client.get(f"{REGISTRATIONS}/LLM/qwen"), 404)


@pytest.mark.parametrize("path", [f"{REGISTRATIONS}/vidoe", "/v1/engines/vidoe/x"])
def test_an_unknown_type_is_refused(client, path):
    assert "Unknown model type 'vidoe'" in refusal(client.get(path), 400)


@pytest.mark.parametrize("path", [f"{REGISTRATIONS}/video/MiniMax-H3", "/v1/engines/video/MiniMax-H3"])
def test_an_unknown_name_is_404(client, path):
    assert "launch others by hub id or folder" in refusal(client.get(path), 404)


def test_there_is_one_engine(client):
    assert client.get("/v1/engines/video/CogVideoX-2b").json() == {
        "vitascope": [
            {"model_name": "CogVideoX-2b", "model_format": "diffusers", "model_ability": ["text2video"]}
        ]
    }
