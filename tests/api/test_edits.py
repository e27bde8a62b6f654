"""Edits and extensions: by id and by upload, what is taken from the clip, and every refusal."""

from __future__ import annotations

import json
import threading
from fractions import Fraction

import pytest

from tiny_clips import encoded, moving
from vitascope.errors import InvalidMedia
from vitascope.media.clips import Clips, load_clip
from vitascope.media.inputs import load_picture
from vitascope.media.video import VideoWriter, read_video

EDITS, EXTENSIONS, CREATE = "/v1/videos/edits", "/v1/videos/extensions", "/v1/videos"
PROMPT = {"prompt": "a circle"}
ASKED = {"prompt": "a red circle", "num_frames": 9, "fps": 12.5, "size": "48x32", "seed": 7}


@pytest.fixture(scope="module")
def mp4(tmp_path_factory):
    """A clip as our worker writes it: nine frames of 48x32."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, width=48, height=32, fps=12.5) as writer:
        writer.write(moving())
    return path


@pytest.fixture
def original(client, house, mp4):
    """The id of a finished video."""
    made = client.post(CREATE, json=ASKED).json()["id"]
    house.finish(made, mp4.read_bytes())
    return made


def refusal(answer) -> tuple:
    error = answer.json()["error"]
    return answer.status_code, error["param"], error["code"]


def request_of(house, answer):
    assert answer.status_code == 200, answer.text
    return house.store.get(answer.json()["id"]).request


def form(**fields):
    return {name: (None, str(value)) for name, value in fields.items()}


# ---- edits


@pytest.mark.parametrize("kind", ["json", "multipart", "urlencoded"])
def test_an_edit_names_its_video_in_each_format(client, house, original, mp4, kind):
    bodies = {
        "json": {"json": {**PROMPT, "video": {"id": original}}},
        "multipart": {"files": form(prompt="a circle", **{"video[id]": original})},
        "urlencoded": {"data": {"prompt": "a circle", "video[id]": original}},
    }
    answer = client.post(EDITS, **bodies[kind])
    video, request = answer.json(), request_of(house, answer)
    assert (video["remixed_from_video_id"], video["warnings"], video["status"]) == (original, [], "queued")
    assert (video["size"], video["num_frames"], video["fps"]) == ("48x32", 9, 12.5)
    assert (request.task, request.strength, request.prompt) == ("v2v", 0.8, "a circle")
    assert (load_clip(house.artifacts, request.video) == read_video(mp4).frames).all()
    assert house.scheduling.wakes > 0


def test_an_edit_of_an_upload_says_what_was_done_to_it(client, house):
    clip = encoded(moving(30, 72, 40), fps=30)
    answer = client.post(EDITS, files={**form(prompt="a circle"), "video": ("any.bin", clip)})
    request = request_of(house, answer)
    assert load_clip(house.artifacts, request.video).shape == (5, 16, 48, 3)
    assert answer.json()["remixed_from_video_id"] is None
    assert answer.json()["warnings"] == [
        "The clip's 30 frames a second were resampled to 8.",
        "The clip's 72x40 were covered and cut to 48x16.",
        "Of the clip's 8 frames tiny makes 5; the last ones are left out.",
    ]


def test_an_edit_takes_the_settings_of_a_create(client, house, original):
    asked = {"strength": 0.5, "seed": 3, "num_inference_steps": 10, "seconds": "0.3", "n": 2}
    answer = client.post(EDITS, json={**PROMPT, "video": {"id": original}, **asked})
    request = request_of(house, answer)
    assert (request.strength, request.seed, request.num_steps, request.num_outputs) == (0.5, 3, 5, 2)
    assert request.num_frames == 5
    assert load_clip(house.artifacts, request.video).shape[0] == 5


def test_a_clip_is_brought_to_a_size_that_is_asked_for(client, house, original):
    asked = {"size": "32x64", "resize_mode": "pad"}
    answer = client.post(EDITS, json={**PROMPT, "video": {"id": original}, **asked})
    frames = load_clip(house.artifacts, request_of(house, answer).video)
    assert frames.shape == (9, 64, 32, 3)
    assert frames[:, :10].max() == 0
    assert answer.json()["warnings"] == ["The clip's 48x32 were padded to 32x64."]


def test_the_clip_outlives_its_original(client, house, original):
    request = request_of(house, client.post(EDITS, json={**PROMPT, "video": {"id": original}}))
    client.delete(f"{CREATE}/{original}")
    assert {request.video} == house.store.keys_in_use() == set(house.artifacts.keys())


def test_an_edit_can_be_remixed_and_edited_again(client, house, original, mp4):
    edited = client.post(EDITS, json={**PROMPT, "video": {"id": original}}).json()["id"]
    house.finish(edited, mp4.read_bytes())
    remix = client.post(f"{CREATE}/{edited}/remix", json={"prompt": "a red circle"})
    before, after = house.store.get(edited).request, request_of(house, remix)
    assert (after.video, after.strength, after.seed) == (before.video, before.strength, before.seed)
    again = client.post(EDITS, json={**PROMPT, "video": {"id": edited}})
    assert request_of(house, again).video == before.video  # the same frames are kept once


def test_an_edit_that_is_sent_twice_makes_one_video(client, house, original):
    key, body = {"Idempotency-Key": "k"}, {**PROMPT, "video": {"id": original}}
    assert len({client.post(EDITS, json=body, headers=key).json()["id"] for _ in range(2)}) == 1
    other = client.post(EXTENSIONS, json={**body, "seconds": 1}, headers=key)
    assert refusal(other) == (400, "Idempotency-Key", "idempotency_key_reused")


def test_an_edit_asks_the_model_that_made_the_video(client, house, mp4):
    made = client.post(CREATE, json={**ASKED, "model": "words"}).json()["id"]
    house.finish(made, mp4.read_bytes())
    answer = client.post(EDITS, json={**PROMPT, "video": {"id": made}})
    assert refusal(answer) == (400, "video", "invalid_value")
    assert answer.json()["error"]["message"] == "words cannot generate from a clip; it does t2v."
    named = client.post(EDITS, json={**PROMPT, "video": {"id": made}, "model": "tiny"})
    assert request_of(house, named).model == "tiny"


EDIT_REFUSALS = [
    ({"prompt": None}, "prompt", "invalid_value", "Missing required parameter"),
    ({"video": None}, "video", "invalid_value", "Missing required parameter"),
    ({"video": {"file_id": "f"}}, "video", "invalid_value", "file_id is not supported; upload the clip"),
    ({"video": {"image_url": "data:"}}, "video", "unknown_parameter", "use video_url or id"),
    ({"video": {"id": "a", "video_url": "data:"}}, "video", "invalid_value", "give one of them"),
    ({"video": {"id": 7}}, "video[id]", "invalid_type", "expected a string"),
    ({"video": {}}, "video[video_url]", "invalid_type", "expected a string"),
    ({"video": 7}, "video", "invalid_type", "expected a file or an object"),
    ({"video": "clip.mp4"}, "video", "invalid_value", "paths are not read"),
    ({"video": "data:video/mp4;base64,bm8="}, "video", "invalid_media", "formats that are read"),
    ({"video": "https://example.com/a.mp4"}, "video", "invalid_media", "fetches no remote media"),
    ({"video_url": "data:video/mp4;base64,bm8="}, "video", "invalid_value", "only one clip"),
    ({"video_path": "/a.mp4"}, "video_path", "invalid_value", "upload the clip as video"),
    ({"input_reference": "data:,"}, "input_reference", "invalid_value", "no pictures beside its clip"),
    ({"last_frame_reference": "data:,"}, "last_frame_reference", "invalid_value", "no pictures beside"),
    ({"size": "32x32"}, "size", "invalid_value", "The clip is 48x32 and 32x32 is asked for"),
    ({"width": 64, "resize_mode": "error"}, "width", "invalid_value", "set resize_mode to 'crop' or 'pad'"),
    ({"size": "40x40", "resize_mode": "crop"}, "size", "invalid_value", "multiple of 16"),
    ({"num_frames": 13}, "num_frames", "invalid_value", "has 9 frames at 12.5 fps, and 13 are asked for"),
    ({"seconds": 2}, "seconds", "invalid_value", "ask for at most that many"),
    ({"num_frames": 8}, "num_frames", "invalid_value", "use 5 or 9"),
    ({"fps": 0}, "fps", "invalid_value", "from 1 to 120"),
    ({"fps": 99}, "num_frames", "invalid_value", "makes at most 33: set num_frames or seconds"),
    ({"strength": 0}, "strength", "invalid_value", "it must be at least 0.25"),
    ({"strength": "much"}, "strength", "invalid_type", "is not a number"),
    ({"task_type": "i2v"}, "task_type", "invalid_value", "makes this v2v"),
    ({"model": "sora"}, "model", "model_not_found", "is not served here"),
    ({"sead": 1}, "sead", "unknown_parameter", "did you mean 'seed'"),
]


@pytest.mark.parametrize(("more", "param", "code", "says"), EDIT_REFUSALS, ids=str)
def test_an_edit_is_refused_with_what_would_do(client, house, original, more, param, code, says):
    answer = client.post(EDITS, json={**PROMPT, "video": {"id": original}, **more})
    assert refusal(answer) == (400, param, code), answer.text
    assert says in answer.json()["error"]["message"]
    assert not house.store.waiting()


@pytest.mark.parametrize(("url", "more"), [(EDITS, {}), (EXTENSIONS, {"seconds": "1"})])
def test_a_source_that_is_not_there_or_not_done_is_told_apart(client, house, original, submitted, url, more):
    def ask(video_id):
        return client.post(url, json={**PROMPT, "video": {"id": video_id}, **more})

    assert refusal(ask("video_0")) == (404, "video", "video_not_found")
    waiting = ask(submitted)
    assert refusal(waiting) == (400, "video", "invalid_value")
    assert "not done yet" in waiting.json()["error"]["message"]
    client.post(f"{CREATE}/{submitted}/cancel")
    assert "failed or was cancelled" in ask(submitted).json()["error"]["message"]
    house.store.expire(original)
    assert refusal(ask(original)) == (404, "video", "video_expired")


def test_a_hostile_upload_is_refused_and_leaves_nothing(client, house):
    for data in (b"no clip", encoded()[:700], encoded(sample_aspect_ratio=Fraction(4, 3))):
        answer = client.post(EDITS, files={**form(prompt="a circle"), "video": ("a.mp4", data)})
        assert refusal(answer) == (400, "video", "invalid_media")
    assert list(house.artifacts.keys()) == []


def test_clips_are_decoded_where_they_hold_nothing_else_up(client, house, monkeypatch):
    threads = []

    def measured(self, source, *, param):
        threads.append(threading.current_thread().name)
        raise InvalidMedia("no clip")

    monkeypatch.setattr(Clips, "measure", measured)
    client.post(EDITS, files={**form(prompt="a circle"), "video": ("a.mp4", b"clip")})
    assert [name.rpartition("_")[0] for name in threads] == ["api-clips"]


def test_the_operator_limits_what_is_decoded(open_house):
    _, client = open_house(max_input_frames=8, max_input_pixels=2000)
    for clip, says in (
        (encoded(), "more than 8 frames"),
        (encoded(moving(3, 64, 48)), "64x48; at most 2000"),
    ):
        answer = client.post(EDITS, files={**form(prompt="a circle"), "video": ("a.mp4", clip)})
        assert says in answer.json()["error"]["message"]


# ---- extensions


def test_an_extension_begins_with_the_last_frame_and_tells_the_whole_length(client, house, original, mp4):
    files = form(prompt="a circle", seconds="1", **{"video[id]": original})
    answer = client.post(EXTENSIONS, files=files)
    video, request, frames = answer.json(), request_of(house, answer), read_video(mp4).frames
    assert (request.task, request.num_frames, request.fps, request.seed >= 0) == ("i2v", 13, 12.5, True)
    assert (load_picture(house.artifacts, request.first_frame) == frames[-1]).all()
    assert (load_clip(house.artifacts, request.continues.clip) == frames).all()
    assert (video["num_frames"], video["seconds"], video["size"]) == (21, "1.68", "48x32")
    assert (video["remixed_from_video_id"], video["warnings"]) == (original, [])
    assert set(request.input_keys) <= house.store.keys_in_use()


def test_an_extension_of_an_extension_begins_with_all_of_it(client, house, original):
    first = client.post(EXTENSIONS, json={**PROMPT, "seconds": 1, "video": {"id": original}}).json()["id"]
    house.finish(first, encoded(moving(21)))
    second = client.post(EXTENSIONS, json={**PROMPT, "num_frames": 5, "video": {"id": first}})
    assert request_of(house, second).continues.num_frames == 21
    assert second.json()["num_frames"] == 25


def test_an_upload_may_be_extended_towards_a_last_frame(client, house, png):
    files = {**form(prompt="a circle", seconds="1"), "video": encoded(), "last_frame_reference": png(48, 32)}
    request = request_of(house, client.post(EXTENSIONS, files=files))
    assert (request.task, request.fps, request.num_frames, request.total_frames) == ("flf2v", 8.0, 9, 17)


def test_an_upload_of_another_size_and_rate_is_brought_to_what_is_asked(client, house):
    clip = encoded(moving(30, 72, 40), fps=30)
    asked = {"seconds": "1", "size": "48x32", "resize_mode": "crop", "fps": "8"}
    answer = client.post(EXTENSIONS, files={**form(prompt="a circle", **asked), "video": clip})
    request = request_of(house, answer)
    assert load_clip(house.artifacts, request.continues.clip).shape == (8, 32, 48, 3)
    assert len(answer.json()["warnings"]) == 2


EXTENSION_REFUSALS = [
    ({"seconds": None}, "seconds", "Missing required parameter: 'seconds', or num_frames"),
    ({"seconds": None, "num_frames": 1}, "num_frames", "the clip's own last one; use 5"),
    ({"seconds": 9}, "seconds", "at 12.5 fps tiny makes at most 2.56 seconds"),
    ({"strength": 0.5}, "strength", "leave strength out"),
    ({"input_reference": "data:image/png;base64,bm8="}, "input_reference", "takes no other"),
    ({"size": "32x32"}, "size", "set resize_mode to 'crop' or 'pad'"),
    ({"model": "words"}, "video", "words cannot continue a clip; it does t2v"),
]


@pytest.mark.parametrize(("more", "param", "says"), EXTENSION_REFUSALS, ids=str)
def test_an_extension_is_refused_with_what_would_do(client, house, original, more, param, says):
    answer = client.post(EXTENSIONS, json={**PROMPT, "seconds": 1, "video": {"id": original}, **more})
    assert refusal(answer)[:2] == (400, param), answer.text
    assert says in answer.json()["error"]["message"]
    assert not house.store.waiting()


@pytest.mark.parametrize(
    ("clip", "param", "says"),
    [
        (encoded(fps=30), "fps", "set fps to 8 to have the clip resampled, or to 30 to keep it"),
        (encoded(moving(9, 72, 40)), "size", "set size, to 48x16 for example, and resize_mode"),
    ],
    ids=["fps", "size"],
)
def test_an_upload_that_the_model_does_not_go_on_from_says_what_would_do(client, clip, param, says):
    answer = client.post(EXTENSIONS, files={**form(prompt="a circle", seconds=1), "video": clip})
    assert refusal(answer) == (400, param, "invalid_value")
    assert says in answer.json()["error"]["message"]


def test_the_joined_clip_has_a_limit(open_house, mp4):
    house, client = open_house(max_input_frames=20)
    made = client.post(CREATE, json=ASKED).json()["id"]
    house.finish(made, mp4.read_bytes())
    answer = client.post(EXTENSIONS, json={**PROMPT, "num_frames": 13, "video": {"id": made}})
    assert refusal(answer)[:2] == (400, "video")
    assert "would have 21 frames; at most 20" in answer.json()["error"]["message"]


# ---- clips on a create, as vLLM-Omni's and SGLang's clients send them


@pytest.mark.parametrize("field", ["video", "video_url", "video_reference", "input_reference"])
def test_a_create_makes_an_uploaded_clip_anew(client, house, field):
    files = {**form(prompt="a circle", task_type="v2v"), field: ("a", encoded())}
    request = request_of(house, client.post(CREATE, files=files))
    assert (request.task, request.num_frames, request.first_frame) == ("v2v", 9, None)


def test_a_create_takes_a_clip_by_reference(client, house, original):
    for given in ({"video_reference": {"id": original}}, {"video_reference": json.dumps({"id": original})}):
        assert request_of(house, client.post(CREATE, json={**PROMPT, **given})).task == "v2v"


def test_a_clip_goes_in_once(client):
    files = [("prompt", (None, "a")), ("video", ("a", encoded())), ("input_reference", ("b", encoded()))]
    assert refusal(client.post(CREATE, files=files))[:2] == (400, "video")


def test_strength_without_a_clip_is_refused(client):
    answer = client.post(CREATE, json={**PROMPT, "strength": 0.5})
    assert refusal(answer) == (400, "strength", "invalid_value")


def test_a_clip_and_pictures_exclude_each_other(client, original, png):
    body = {"prompt": (None, "a"), "video[id]": (None, original), "input_reference": ("a.png", png())}
    answer = client.post(CREATE, files=body)
    assert refusal(answer) == (400, "video", "invalid_value")
    assert "give one of them" in answer.json()["error"]["message"]
