from __future__ import annotations

import pytest

END = b"--x--\r\n"
PROMPT = b"a red circle"


def part(name: bytes, value: bytes) -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name, value)


def create(client, body, *, kind="multipart/form-data; boundary=x", **headers):
    return client.post("/v1/videos", content=body, headers={"content-type": kind, **headers})


def refusal(answer, status=400):
    assert answer.status_code == status, answer.text
    return answer.json()["error"]


@pytest.mark.parametrize(
    "rest",
    [b"", b"--x", b"--x-", part(b"seed", b"7"), part(b"seed", b"7")[:-4]],
    ids=["after a part", "in a boundary", "before its last mark", "after another part", "within a part"],
)
def test_a_body_that_breaks_off_is_refused_and_not_taken_for_what_came_of_it(client, house, rest):
    error = refusal(create(client, part(b"prompt", PROMPT) + rest))
    assert "closing boundary" in error["message"]
    assert house.store.num_waiting() == 0


def test_text_is_utf_8_whatever_it_holds(client):
    prompt = "a red circle \u00e9 \u5706 \U0001f534 \x85"
    answer = create(client, part(b"prompt", prompt.encode()) + END)
    assert answer.json()["prompt"] == prompt


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (part(b"prompt", b"a red \xff circle"), "prompt"),
        (
            part(b"prompt", PROMPT) + part(b"negative_prompt", "caf\u00e9".encode("latin-1")),
            "negative_prompt",
        ),
        (part(b"prompt", PROMPT) + part(b"\xff", b"1"), None),
    ],
)
def test_text_that_is_not_utf_8_is_refused_and_not_guessed_at(client, body, param):
    error = refusal(create(client, body + END))
    assert "UTF-8" in error["message"]
    assert error["param"] == param


@pytest.mark.parametrize("charset", ["undefined", "punycode", "idna", "utf-16", "iso-8859-1", "no-such-one"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data; boundary=x", part(b"prompt", PROMPT) + END),
        ("application/x-www-form-urlencoded", b"prompt=a+red+circle"),
        ("application/json", b'{"prompt": "a red circle"}'),
    ],
    ids=["multipart", "urlencoded", "JSON"],
)
def test_another_charset_is_refused_by_name(client, kind, body, charset):
    error = refusal(create(client, body, kind=f"{kind}; charset={charset}"), 415)
    assert charset in error["message"]
    assert create(client, body, kind=f'{kind}; Charset="UTF-8"').status_code == 200


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/json"])
def test_a_compressed_body_is_refused_by_name(client, kind):
    error = refusal(create(client, b"\x1f\x8b", kind=kind, **{"content-encoding": "gzip"}), 415)
    assert "'gzip'" in error["message"]
