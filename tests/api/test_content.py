from __future__ import annotations

import hashlib

import pytest
from fastapi import Request

from vitascope.api.content import file_response


@pytest.fixture
def url(house, submitted):
    house.finish(submitted)
    return f"/v1/videos/{submitted}/content"


def test_the_whole_clip_is_an_attachment_that_no_browser_runs(client, url, clip, submitted):
    answer = client.get(url)
    assert (answer.status_code, answer.content) == (200, clip)
    headers = answer.headers
    assert headers["content-type"] == "video/mp4"
    assert headers["content-length"] == str(len(clip))
    assert headers["content-disposition"] == f'attachment; filename="{submitted}.mp4"'
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "sandbox"
    assert headers["accept-ranges"] == "bytes"
    assert headers["etag"] == f'"{hashlib.sha256(clip).hexdigest()}"'


@pytest.mark.parametrize(
    ("asked", "first", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-9", 0, 10),
        ("bytes=1000-", 1000, 1024),
        ("bytes=-24", 1000, 1024),
        ("bytes=-5000", 0, 1024),
        ("bytes=1020-5000", 1020, 1024),
    ],
)
def test_one_range_is_206(client, url, clip, asked, first, stop):
    answer = client.get(url, headers={"range": asked})
    assert (answer.status_code, answer.content) == (206, clip[first:stop])
    assert answer.headers["content-range"] == f"bytes {first}-{stop - 1}/{len(clip)}"
    assert answer.headers["content-length"] == str(stop - first)


@pytest.mark.parametrize("asked", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_beyond_the_end_is_416(client, url, clip, asked):
    answer = client.get(url, headers={"range": asked})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(clip)}")
    assert answer.json()["error"]["param"] == "range"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-1,5-6",
        "bytes=" + "0-," * 2000,
        "bytes=9-1",
        "bytes=-",
        "lines=0-1",
        "bytes=a-b",
        "bytes=\u0660-1",
    ],
)
def test_anything_but_one_range_is_answered_whole(client, url, clip, asked):
    answer = client.get(url, headers={"range": asked.encode()})
    assert (answer.status_code, answer.content) == (200, clip)


def test_what_the_client_holds_already_is_304(client, url):
    etag = client.get(url).headers["etag"]
    for held in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = client.get(url, headers={"if-none-match": held})
        assert (answer.status_code, answer.content) == (304, b"")
    assert client.get(url, headers={"if-none-match": '"other"'}).status_code == 200


def test_a_range_of_another_version_is_answered_whole(client, url):
    etag = client.get(url).headers["etag"]
    assert client.get(url, headers={"range": "bytes=0-1", "if-range": etag}).status_code == 206
    assert client.get(url, headers={"range": "bytes=0-1", "if-range": '"old"'}).status_code == 200


def test_head_answers_the_headers_alone(client, url, clip):
    answer = client.head(url)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(clip))


def test_a_clip_longer_than_a_chunk_arrives_whole(client, house, submitted):
    data = bytes(range(256)) * 3000
    house.finish(submitted, data)
    assert client.get(f"/v1/videos/{submitted}/content").content == data


def test_a_job_that_is_not_done_has_no_content_yet(client, house, submitted):
    house.start(submitted)
    answer = client.get(f"/v1/videos/{submitted}/content")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == (
        "Video is not ready yet, use GET /v1/videos/{video_id} to check status."
    )


def test_a_job_that_failed_never_has_content(client, submitted):
    client.post(f"/v1/videos/{submitted}/cancel")
    answer = client.get(f"/v1/videos/{submitted}/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_ready")


def test_a_file_that_vanished_is_404_for_get_and_head(client, house, url, submitted):
    for file in house.store.get(submitted).files:
        house.artifacts.delete(file.key)
    assert client.get(url).status_code == 404
    assert client.head(url).status_code == 404


async def test_a_clip_that_expires_in_the_moment_of_its_download_arrives_whole(house, submitted, clip):
    house.finish(submitted)
    file = house.store.get(submitted).file("video")
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "asgi": {"spec_version": "2.4"}}
    answer = await file_response(Request(scope), house.artifacts, file, file_name="a.mp4")
    house.artifacts.delete(file.key)
    sent = []

    async def send(message) -> None:
        sent.append(message)

    await answer(scope, None, send)
    assert sent[0]["status"] == 200
    assert b"".join(message.get("body", b"") for message in sent) == clip


def test_the_variant_must_be_one_that_is_made(client, url, clip):
    assert client.get(url, params={"variant": "video"}).content == clip
    answer = client.get(url, params={"variant": "../x"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "variant")
    assert "'video', 'thumbnail', 'spritesheet'" in answer.json()["error"]["message"]


STILLS = [("thumbnail", "image/webp", "thumbnail.webp"), ("spritesheet", "image/jpeg", "spritesheet.jpg")]


@pytest.mark.parametrize(("variant", "media_type", "file_name"), STILLS)
def test_a_still_is_served_as_the_video_is(client, house, submitted, variant, media_type, file_name):
    house.finish(submitted, stills={variant: (media_type, b"a still picture")})
    url = f"/v1/videos/{submitted}/content?variant={variant}"
    answer = client.get(url)
    assert (answer.status_code, answer.content) == (200, b"a still picture")
    assert answer.headers["content-type"] == media_type
    assert answer.headers["content-disposition"] == f'attachment; filename="{submitted}-{file_name}"'
    assert client.get(url, headers={"range": "bytes=2-6"}).content == b"still"
    assert client.get(url, headers={"if-none-match": answer.headers["etag"]}).status_code == 304


@pytest.mark.parametrize(
    ("variant", "what"), [("thumbnail", "a thumbnail"), ("spritesheet", "a spritesheet"), ("audio", "sound")]
)
def test_a_video_without_stills_or_sound_says_so(client, url, variant, what):
    answer = client.get(url, params={"variant": variant})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert f"without {what};" in answer.json()["error"]["message"]


def test_the_sound_of_a_video_is_served_by_itself(client, house, submitted):
    house.finish(submitted, stills={"audio": ("audio/wav", b"RIFF....WAVE")})
    answer = client.get(f"/v1/videos/{submitted}/content?variant=audio")
    assert (answer.content, answer.headers["content-type"]) == (b"RIFF....WAVE", "audio/wav")
    assert answer.headers["content-disposition"] == f'attachment; filename="{submitted}.wav"'


def test_a_still_of_an_unfinished_video_is_not_ready(client, house, submitted):
    answer = client.get(f"/v1/videos/{submitted}/content?variant=thumbnail")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_ready")


def test_the_stills_go_with_their_video(client, house, submitted):
    house.finish(submitted, stills={"thumbnail": ("image/webp", b"t"), "spritesheet": ("image/jpeg", b"s")})
    assert len(list(house.artifacts.keys())) == 3
    assert client.delete(f"/v1/videos/{submitted}").status_code == 200
    assert list(house.artifacts.keys()) == []
