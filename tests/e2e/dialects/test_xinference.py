"""The unmodified xinference-client, sync and async, against a real server with the bundled model."""

from __future__ import annotations

import asyncio
import base64
import threading

import pytest
from xinference_client import AsyncRESTfulClient, RESTfulClient

PROMPT = "a red circle moving right on a blue background"
QUICK = {"num_inference_steps": 2, "num_frames": 5, "seed": 1}
MANY_STEPS = 50


@pytest.fixture
def client(shared_server):
    client = RESTfulClient(shared_server.url)
    yield client
    client.close()


@pytest.fixture
def name(client):
    return next(iter(client.list_models()))


@pytest.fixture
def model(client, name):
    return client.get_model(name)


@pytest.fixture
def native(client, name, draw):
    """Draw a picture in the model's native size."""
    defaults = client.describe_model(name)["defaults"]
    return lambda *colour: draw(defaults["width"], defaults["height"], *colour)


def clips(answer) -> list[bytes]:
    assert isinstance(answer["created"], int)
    assert all(item["url"] is None for item in answer["data"])
    made = [base64.b64decode(item["b64_json"]) for item in answer["data"]]
    assert all(data[4:8] == b"ftyp" for data in made)
    return made


def jobs_of(server) -> list[str]:
    return [video["id"] for video in server.client.get("/v1/videos?limit=100").json()["data"]]


def test_models_are_listed_and_described(client, name):
    listed = client.list_models()[name]
    assert (listed["model_type"], listed["model_name"], listed["model_engine"]) == (
        "video",
        name,
        "vitascope",
    )
    assert client.describe_model(name) == listed
    with pytest.raises(RuntimeError, match="'nope' does not exist"):
        client.get_model("nope")


def test_text_to_video_makes_n_clips_with_following_seeds(model, shared_server):
    before = jobs_of(shared_server)
    first, second = clips(model.text_to_video(PROMPT, n=2, **QUICK))
    assert first != second
    assert clips(model.text_to_video(PROMPT, **{**QUICK, "seed": 2})) == [second]
    assert jobs_of(shared_server) == before


def test_image_to_video_and_flf_to_video(model, native, draw):
    plain = clips(model.text_to_video(PROMPT, **QUICK))
    from_image = clips(model.image_to_video(native(), PROMPT, negative_prompt="a star", **QUICK))
    between = clips(model.flf_to_video(native(), native((200, 30, 30)), PROMPT, **QUICK))
    assert len({*plain, *from_image, *between}) == 3
    odd = model.image_to_video(draw(200, 90), PROMPT, **QUICK)
    assert len(clips(odd)) == 1
    assert "200x90" in odd["warnings"][0]


def test_a_url_can_be_downloaded(model, shared_server):
    [item] = model.text_to_video(PROMPT, response_format="url", **QUICK)["data"]
    assert item["b64_json"] is None
    downloaded = shared_server.client.get(item["url"])
    assert downloaded.status_code == 200
    assert [downloaded.content] == clips(model.text_to_video(PROMPT, **QUICK))
    assert shared_server.client.delete(item["url"].removesuffix("/content")).status_code == 200


def test_progress_is_shown_and_an_abort_stops_the_work(client, name, model, shared_server, holds):
    before = jobs_of(shared_server)
    holds.at(3)
    said: list[str] = []

    def call() -> None:
        with pytest.raises(RuntimeError, match="cancelled") as refusal:
            model.text_to_video(PROMPT, request_id="long", num_inference_steps=MANY_STEPS)
        said.append(str(refusal.value))

    with pytest.raises(RuntimeError, match="There is no request 'long'"):
        client.get_progress("long")
    assert client.abort_request(name, "long") == {"msg": "NOT_FOUND"}
    caller = threading.Thread(target=call)
    caller.start()
    progress = None
    while progress is None or progress["progress"] < 3 / MANY_STEPS:  # it comes there, and no further
        answer = shared_server.client.get("/v1/requests/long/progress")
        progress = answer.json() if answer.status_code == 200 else None
    assert progress["progress"] < 1
    assert progress["elapsed_seconds"] > 0
    assert progress["eta_seconds"] >= 0
    assert client.abort_request(name, "long", block_duration=0) == {"msg": "DONE"}
    caller.join()
    holds.release()
    assert said == ["Failed to create the video, detail: The request has been cancelled."]
    assert client.abort_request(name, "long") == {"msg": "NO_OP"}
    assert jobs_of(shared_server) == before
    assert len(clips(model.text_to_video(PROMPT, **QUICK))) == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"num_framse": 5}, "did you mean 'num_frames'"),
        ({"num_frames": 6}, "num_frames"),
        ({"height": 33}, "height"),
        ({"n": 11}, "n is 11"),
        ({"response_format": "mp4"}, "'b64_json' and 'url'"),
        ({"n": 0}, "n is 0"),
        ({"max_area": [64, 64]}, "max_area"),
        ({"width": 8192, "height": 8192}, "at most"),
        ({"num_inference_steps": 500}, "num_inference_steps"),
        ({"guidance_scale": "much"}, "not a number"),
        ({"seed": -2}, "seed"),
        ({"request_id": ""}, "request_id"),
        ({"generator": 1}, "Unknown parameter: 'generator'"),
        ({"output_path": "/tmp/x.mp4"}, "clients choose none"),
        ({"lora": {"name": "a", "path": "/models/a"}}, "path on the server"),
        ({"image_reference": "/etc/passwd"}, "paths are not read"),
    ],
)
def test_what_cannot_be_honoured_is_refused_in_words(model, fields, said):
    with pytest.raises(RuntimeError, match=f"Failed to create the video, detail: .*{said}"):
        model.text_to_video(PROMPT, **fields)


def test_bad_pictures_are_refused_in_words(model, native):
    with pytest.raises(RuntimeError, match="detail: The picture is no JPEG"):
        model.image_to_video("a path is sent as its own text", PROMPT)
    with pytest.raises(RuntimeError, match=r"detail: .*no driving video"):
        model.image_to_video(native(), PROMPT, video=b"x")


@pytest.mark.parametrize(
    ("route", "sent", "status", "said"),
    [
        ("", {"content": b"{"}, 400, "not valid JSON"),
        ("", {"content": b"[]"}, 400, "JSON object"),
        ("", {"json": {"model": "vitascope-tiny"}}, 400, "prompt"),
        ("", {"json": {"model": "nope", "prompt": PROMPT}}, 404, "served are: vitascope-tiny"),
        ("", {"json": {"model": "vitascope-tiny", "prompt": PROMPT, "kwargs": "{"}}, 400, "kwargs"),
        ("", {"json": {"model": "vitascope-tiny", "prompt": [PROMPT] * 2}}, 400, "one call for each"),
        ("/image", {"data": {"model": "vitascope-tiny", "prompt": PROMPT}}, 400, "'image'"),
        ("/flf", {"data": {"model": "vitascope-tiny", "prompt": PROMPT}}, 400, "'first_frame'"),
        ("/image", {"data": {"prompt": PROMPT}, "files": {"image": b"x"}}, 400, "no JPEG"),
    ],
)
def test_what_its_server_answers_with_500_is_the_callers_to_mend(shared_server, route, sent, status, said):
    headers = {"content-type": "application/json"} if "content" in sent else {}
    url = f"{shared_server.url}/v1/video/generations{route}"
    answer = shared_server.client.post(url, headers=headers, **sent)
    assert (answer.status_code, list(answer.json())) == (status, ["detail"])
    assert said in answer.json()["detail"]
    assert "127.0.0.1" not in answer.text  # nor anything else of the server's insides


async def test_the_async_client_does_the_same(shared_server, client, name, native):
    remote = AsyncRESTfulClient(shared_server.url)
    try:
        assert list(await remote.list_models()) == [name]
        model = await remote.get_model(name)
        try:
            texts = await model.text_to_video(PROMPT, request_id="async", **QUICK)
            assert (await remote.get_progress("async"))["progress"] == 1
            assert await remote.abort_request(name, "async") == {"msg": "NO_OP"}
            image = await model.image_to_video(native(), PROMPT, **QUICK)
            between = await model.flf_to_video(native(), native(), PROMPT, n=2, **QUICK)
            with pytest.raises(RuntimeError, match="did you mean 'num_frames'"):
                await model.text_to_video(PROMPT, num_framse=5)
        finally:
            await model.close()
    finally:
        await remote.close()
    assert [len(clips(answer)) for answer in (texts, image, between)] == [1, 1, 2]
    assert clips(texts) == clips(
        await asyncio.to_thread(client.get_model(name).text_to_video, PROMPT, **QUICK)
    )


def test_the_documented_examples_run_as_they_stand(
    shared_server, examples, bash, tmp_path, monkeypatch, capsys
):
    before = set(jobs_of(shared_server))
    monkeypatch.chdir(tmp_path)
    [example] = examples("Xinference", "python")
    exec(example, {})
    assert capsys.readouterr().out == "1.0\n"
    [script] = examples("Xinference", "bash")
    bash(script)
    made = [tmp_path / name for name in ("circle-0.mp4", "circle-1.mp4", "from-url.mp4")]
    assert all(path.read_bytes()[4:8] == b"ftyp" for path in made)
    [kept] = set(jobs_of(shared_server)) - before
    shared_server.client.delete(f"/v1/videos/{kept}")
