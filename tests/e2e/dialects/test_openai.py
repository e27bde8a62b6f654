"""Every refusal of the OpenAI contract, as the SDK's callers meet it: the right exception, in words."""

from __future__ import annotations

import io

import openai
import pytest
from PIL import Image

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

PROMPT = "a red circle moving right on a blue background"
QUICK = {"num_inference_steps": 2, "num_frames": 5, "seed": 1}
AS_JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client(shared_server):
    with openai.OpenAI(base_url=f"{shared_server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_is_begun(client):
    """Whatever is refused leaves no job."""
    before = [video.id for video in client.videos.list()]
    yield
    assert [video.id for video in client.videos.list()] == before


@pytest.fixture
def waiting(client, holds):
    """The id of a video that is not done."""
    holds.at(1)
    video = client.videos.create(prompt=PROMPT, extra_body=QUICK)
    yield video.id
    client.videos.delete(video.id)


@pytest.fixture
def cancelled(client, waiting):
    client.post(f"/videos/{waiting}/cancel", cast_to=object)
    assert client.videos.poll(waiting, poll_interval_ms=50).error.code == "cancelled"
    return waiting


def refused(kind, call, *args, **said):
    with pytest.raises(kind) as caught:
        call(*args, **said)
    error = caught.value
    assert type(error) is kind
    assert set(error.body) == {"message", "type", "param", "code"}
    assert error.request_id.startswith("req_")
    return error


@pytest.mark.parametrize(
    ("said", "param", "code", "words"),
    [
        ({"prompt": ""}, "prompt", "invalid_value", "prompt"),
        ({"prompt": "x" * 32_001}, "prompt", "invalid_value", "32000"),
        ({"seconds": "five"}, "seconds", "invalid_type", "not a number"),
        ({"seconds": "0"}, "seconds", "invalid_value", "seconds"),
        ({"seconds": "8"}, "seconds", "invalid_value", "seconds"),
        ({"size": "big"}, "size", "invalid_value", "WIDTHxHEIGHT"),
        ({"size": "65x64"}, "size", "invalid_value", "64 or 80"),
        ({"size": "720x1280"}, "size", "invalid_value", "at most"),
        ({"size": "1280x720"}, "size", "invalid_value", "at most"),
        ({"size": "1024x1792"}, "size", "invalid_value", "at most"),
        ({"size": "1792x1024"}, "size", "invalid_value", "at most"),
        ({"model": "sora-2"}, "model", "model_not_found", "served are: vitascope-tiny"),
        ({"extra_body": {"characters": [{"id": "char_1"}]}}, "characters", "invalid_value", "no characters"),
        ({"extra_body": {"seed": "x"}}, "seed", "invalid_type", "not an integer"),
        ({"extra_body": {"colour": "red"}}, "colour", "unknown_parameter", "Unknown parameter"),
        ({"extra_headers": {"Idempotency-Key": "two words"}}, "Idempotency-Key", "invalid_value", "UUID"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("headers", [{}, AS_JSON], ids=["form", "json"])
def test_a_create_that_cannot_be_done(client, said, param, code, words, headers):
    extra = {**headers, **said.get("extra_headers", {})}
    error = refused(
        openai.BadRequestError, client.videos.create, **{"prompt": PROMPT, **said, "extra_headers": extra}
    )
    assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")
    assert words in error.message


def drawn(width, height, kind="PNG", **more) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (30, 60, 200)).save(buffer, kind, **more)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (b"", "no JPEG, PNG or WebP"),
        (b"no picture", "no JPEG, PNG or WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no JPEG, PNG or WebP"),
        (drawn(64, 64, "GIF"), "one picture and no clip"),
        (drawn(64, 64)[:90], "cannot be decoded"),
        (
            drawn(64, 64, "PNG", save_all=True, append_images=[Image.new("RGB", (64, 64))]),
            "is animated",
        ),
        (drawn(100, 80), "100x80"),
        (drawn(8000, 8000), "pixels"),
    ],
    ids=["empty", "text", "svg", "gif", "cut", "animated", "of another size", "too many pixels"],
)
def test_a_picture_that_cannot_be_used(client, picture, words):
    error = refused(openai.BadRequestError, client.videos.create, prompt=PROMPT, input_reference=picture)
    assert (error.param, error.code) == ("input_reference", "invalid_media")
    assert words in error.message


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ({"file_id": "file-1"}, "file_id is not supported"),
        ({"image_url": "data:image/png;base64,AAAA", "detail": "high"}, "input_reference[detail]"),
        ({"picture": "x"}, "input_reference[picture]"),
        ({"image_url": "https://example.com/a.png"}, "fetches no remote media"),
        ({"image_url": "http://169.254.169.254/latest/meta-data"}, "fetches no remote media"),
        ({"image_url": "file:///etc/passwd"}, "reads no local files"),
        ({"image_url": "/etc/passwd"}, "paths are not read"),
        ({"image_url": "data:image/png;base64,@@"}, "not valid base64"),
    ],
)
@pytest.mark.parametrize("headers", [{}, AS_JSON], ids=["form", "json"])
def test_a_reference_that_cannot_be_used(client, reference, words, headers):
    error = refused(
        openai.BadRequestError,
        client.videos.create,
        prompt=PROMPT,
        extra_body={"input_reference": reference},
        extra_headers=headers,
    )
    assert error.param == "input_reference"
    assert words in error.message


def test_two_first_frames(client):
    error = refused(
        openai.BadRequestError,
        client.post,
        "/videos",
        cast_to=object,
        body={"prompt": PROMPT},
        files=[("input_reference[]", drawn(64, 64)), ("input_reference[]", drawn(64, 64))],
        options={"headers": {"Content-Type": "multipart/form-data"}},
    )
    assert "only one picture" in error.message


@pytest.mark.parametrize(
    "call",
    [
        lambda videos, i: videos.retrieve(i),
        lambda videos, i: videos.delete(i),
        lambda videos, i: videos.download_content(i),
        lambda videos, i: videos.remix(i, prompt=PROMPT),
    ],
)
@pytest.mark.parametrize("video_id", ["video_" + "0" * 32, "nope", "a/b", "../videos", "%2e%2e"])
def test_an_unknown_id(client, call, video_id):
    error = refused(openai.NotFoundError, call, client.videos, video_id)
    assert error.type == "invalid_request_error"


def test_content_that_is_not_there(client, waiting):
    for variant in ("video", "thumbnail", "spritesheet"):
        error = refused(openai.NotFoundError, client.videos.download_content, waiting, variant=variant)
        assert "Video is not ready yet, use GET /v1/videos/{video_id} to check status." in error.message
    error = refused(openai.BadRequestError, client.videos.download_content, waiting, variant="4k")
    assert error.param == "variant"


def test_content_of_a_cancelled_video(client, cancelled):
    error = refused(openai.NotFoundError, client.videos.download_content, cancelled)
    assert "says why" in error.message


def test_a_remix_of_what_is_not_done(client, waiting):
    assert refused(openai.NotFoundError, client.videos.remix, waiting, prompt=PROMPT).code == "not_ready"


@pytest.mark.parametrize(
    ("said", "param"),
    [({"prompt": ""}, "prompt"), ({"prompt": PROMPT, "extra_body": {"seed": 2}}, "seed")],
)
def test_a_remix_of_more_or_less_than_the_prompt(client, shared_server, said, param):
    original = shared_server.submit(**QUICK)
    shared_server.wait_done(original)
    assert refused(openai.BadRequestError, client.videos.remix, original, **said).param == param
    client.videos.delete(original)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": -1}, "limit"),
        ({"order": "up"}, "order"),
    ],
)
def test_a_list_in_a_way_that_is_not_offered(client, query, param):
    assert refused(openai.BadRequestError, client.videos.list, **query).param == param


def test_an_unknown_after_is_an_empty_page(client, waiting):
    page = client.videos.list(after="video_gone")
    assert (page.data, page.has_more, page.last_id) == ([], False, None)


def test_a_key_that_stands_for_another_request(client):
    key = {"Idempotency-Key": "of-another-request"}
    video = client.videos.create(prompt=PROMPT, extra_body=QUICK, extra_headers=key)
    error = refused(
        openai.BadRequestError, client.videos.create, prompt=f"{PROMPT} slowly", extra_headers=key
    )
    assert error.code == "idempotency_key_reused"
    client.videos.delete(video.id)


def test_characters_are_not_served(client):
    error = refused(openai.APIStatusError, client.videos.create_character, name="Mossy", video=b"x")
    assert (error.status_code, error.code) == (405, "method_not_allowed")
    assert refused(openai.NotFoundError, client.videos.get_character, "char_1").code == "unknown_url"


def test_a_body_of_another_type_and_an_unknown_route(client):
    error = refused(
        openai.APIStatusError,
        client.post,
        "/videos",
        cast_to=object,
        options={"headers": {"Content-Type": "text/plain"}},
        content=b"a prompt",
    )
    assert (error.status_code, error.code) == (415, "unsupported_media_type")
    assert refused(openai.NotFoundError, client.get, "/images", cast_to=object).code == "unknown_url"
    assert refused(openai.APIStatusError, client.put, "/videos", cast_to=object).status_code == 405
