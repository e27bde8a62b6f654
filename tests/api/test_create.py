from __future__ import annotations

import base64
import json
from urllib.parse import urlencode

import pytest

from vitascope.api.fields import FIELDS, Use

PROMPT = {"prompt": "a red circle"}


def refused(answer, param=None, code=None, status=400):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    if param is not None:
        assert error["param"] == param
    if code is not None:
        assert error["code"] == code
    return error["message"]


def as_form(fields):
    return {name: (None, str(value)) for name, value in fields.items()}


def test_the_answer_has_openais_thirteen_keys_and_ours(client):
    answer = client.post("/v1/videos", json={**PROMPT, "seconds": 2, "seed": 7})
    assert answer.status_code == 200
    video = answer.json()
    assert video.pop("id").startswith("video_")
    assert isinstance(video.pop("created_at"), int)
    assert video == {
        "object": "video",
        "model": "tiny",
        "status": "queued",
        "progress": 0,
        "completed_at": None,
        "expires_at": None,
        "prompt": "a red circle",
        "size": "48x32",
        "seconds": "2.125",
        "remixed_from_video_id": None,
        "error": None,
        "fps": 8.0,
        "num_frames": 17,
        "seed": 7,
        "seeds": [7],
        "inference_time_s": None,
        "stage_durations": {},
        "peak_memory_mb": None,
        "num_outputs": 1,
        "queue_position": 0,
        "eta_s": 4.0,
        "warnings": [],
        "file_name": None,
        "media_type": "video/mp4",
    }


def test_the_row_is_written_before_the_answer_and_the_scheduler_is_woken(client, house):
    video_id = client.post("/v1/videos", json=PROMPT).json()["id"]
    assert house.store.get(video_id).request.prompt == "a red circle"
    assert house.scheduling.wakes == 1


def test_all_three_kinds_of_body_say_the_same(client):
    fields = {"prompt": "a red circle", "seconds": "2", "size": "64x48", "seed": "7", "guidance_scale": "3.5"}
    answers = [
        client.post("/v1/videos", files=as_form(fields)),
        client.post("/v1/videos", data=fields),
        client.post("/v1/videos", json={**fields, "seconds": 2, "seed": 7, "guidance_scale": 3.5}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    said = [
        {k: v for k, v in a.json().items() if k not in {"id", "created_at", "queue_position"}}
        for a in answers
    ]
    assert said[0] == said[1] == said[2]
    assert said[0]["size"] == "64x48"


def test_a_chunked_body_without_a_length_is_read(client):
    body = json.dumps(PROMPT).encode()
    answer = client.post(
        "/v1/videos", content=iter([body[:5], body[5:]]), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200


def test_native_defaults_fill_what_was_not_said(client, house):
    video_id = client.post("/v1/videos", json=PROMPT).json()["id"]
    request = house.store.get(video_id).request
    assert (request.num_inference_steps, request.guidance_scale, request.flow_shift) == (4, 5.0, 3.0)


def test_num_frames_beats_seconds(client):
    assert client.post("/v1/videos", json={**PROMPT, "num_frames": 5, "seconds": 2}).json()["num_frames"] == 5


def test_extra_params_are_taken_as_if_they_stood_beside(client, house):
    form = as_form({**PROMPT, "extra_params": '{"sample_solver": "unipc", "num_inference_steps": 6}'})
    request = house.store.get(client.post("/v1/videos", files=form).json()["id"]).request
    assert (request.sample_solver, request.num_inference_steps) == ("unipc", 6)


def test_a_null_is_a_field_that_was_not_given(client):
    assert client.post("/v1/videos", json={**PROMPT, "seed": None, "lora": None}).status_code == 200


def test_words_that_the_model_does_not_know_are_a_warning(client):
    warnings = client.post("/v1/videos", json={"prompt": "a purple elephant"}).json()["warnings"]
    assert "'elephant'" in warnings[0]


def test_inert_fields_are_accepted_and_reported(client):
    inert = [name for name, known in FIELDS.items() if known.use is Use.INERT]
    answer = client.post("/v1/videos", json={**PROMPT, **dict.fromkeys(inert, "1")})
    assert answer.status_code == 200
    warnings = answer.json()["warnings"]
    assert [w.split()[0] for w in warnings] == inert


@pytest.mark.parametrize("name", [name for name, known in FIELDS.items() if known.use is Use.PATH])
def test_a_path_is_never_taken_from_a_client(client, house, name):
    assert "clients choose none" in refused(
        client.post("/v1/videos", json={**PROMPT, name: "/etc/passwd"}), name
    )
    assert not house.store.waiting()


@pytest.mark.parametrize("name", [name for name, known in FIELDS.items() if known.use is Use.REFUSED])
def test_what_the_model_cannot_honour_is_refused(client, name):
    assert "cannot honour" in refused(client.post("/v1/videos", json={**PROMPT, name: "1"}), name)


@pytest.mark.parametrize("name", [name for name, known in FIELDS.items() if known.use is Use.OFF])
def test_a_feature_that_is_not_offered_is_refused_only_when_it_is_asked_for(client, name):
    harmless = FIELDS[name].harmless[0]
    assert client.post("/v1/videos", json={**PROMPT, name: harmless}).status_code == 200
    asked = "true" if harmless is False else "4.5"
    refused(client.post("/v1/videos", files=as_form({**PROMPT, name: asked})), name)


@pytest.mark.parametrize(
    ("field", "value", "nearest"),
    [
        ("prompts", "x", "prompt"),
        ("num_inference_step", 4, "num_inference_steps"),
        ("negativ_prompt", "", "negative_prompt"),
    ],
)
def test_an_unknown_field_is_named_with_its_nearest(client, field, value, nearest):
    message = refused(client.post("/v1/videos", json={**PROMPT, field: value}), field, "unknown_parameter")
    assert f"'{nearest}'" in message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n"}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": "x" * 32_001}, "prompt"),
        ({**PROMPT, "seconds": "0"}, "seconds"),
        ({**PROMPT, "seconds": "-1"}, "seconds"),
        ({**PROMPT, "seconds": "four"}, "seconds"),
        ({**PROMPT, "seconds": 100}, "seconds"),
        ({**PROMPT, "seconds": 1e300}, "seconds"),
        ({**PROMPT, "size": "50x32"}, "size"),
        ({**PROMPT, "size": "big"}, "size"),
        ({**PROMPT, "size": "4096x4096"}, "size"),
        ({**PROMPT, "size": "64x48", "width": 48}, "size"),
        ({**PROMPT, "width": 50}, "width"),
        ({**PROMPT, "num_frames": 10}, "num_frames"),
        ({**PROMPT, "num_frames": 0}, "num_frames"),
        ({**PROMPT, "num_frames": 10**18}, "num_frames"),
        ({**PROMPT, "fps": 0}, "fps"),
        ({**PROMPT, "fps": "inf"}, "fps"),
        ({**PROMPT, "num_inference_steps": 51}, "num_inference_steps"),
        ({**PROMPT, "guidance_scale": -1}, "guidance_scale"),
        ({**PROMPT, "guidance_scale_2": 3}, "guidance_scale_2"),
        ({**PROMPT, "max_sequence_length": 10}, "max_sequence_length"),
        ({**PROMPT, "sample_solver": "magic"}, "sample_solver"),
        ({**PROMPT, "seed": -1}, "seed"),
        ({**PROMPT, "seed": 2**63}, "seed"),
        ({**PROMPT, "seed": [1, 2]}, "seed"),
        ({**PROMPT, "seed": []}, "seed"),
        ({**PROMPT, "seed": [1, 3], "n": 2}, "seed"),
        ({**PROMPT, "seed": 2**63 - 2, "n": 3}, "seed"),
        ({**PROMPT, "n": 11}, "n"),
        ({**PROMPT, "n": -1}, "n"),
        ({**PROMPT, "n": 1.5}, "n"),
        ({**PROMPT, "num_outputs_per_prompt": 0}, "num_outputs_per_prompt"),
        ({**PROMPT, "num_outputs_per_prompt": 2, "n": 3}, "n"),
        ({**PROMPT, "task_type": "i2v"}, "task_type"),
        ({**PROMPT, "resize_mode": "stretch"}, "resize_mode"),
        ({**PROMPT, "extra_params": "not json"}, "extra_params"),
        ({**PROMPT, "extra_params": {"output_path": "/tmp/x"}}, "output_path"),
        ({**PROMPT, "extra_params": {"extra_body": {"seed": 1}}}, "extra_params"),
        ({**PROMPT, "seed": 1, "extra_params": {"seed": 2}}, "seed"),
        ({**PROMPT, "model": 5}, "model"),
    ],
)
def test_a_request_that_cannot_be_done_is_refused_before_there_is_a_job(client, house, fields, param):
    refused(client.post("/v1/videos", json=fields), param)
    assert not house.store.waiting()


def test_a_refusal_of_the_frame_count_names_both_neighbours(client):
    assert "use 9 or 13" in refused(
        client.post("/v1/videos", json={**PROMPT, "num_frames": 10}), "num_frames"
    )


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"[]"),
        ("application/json", b'{"prompt": "a", "prompt": "b"}'),
        ("application/json", b"\xff"),
        ("application/x-www-form-urlencoded", b"prompt=%ff"),
        ("application/x-www-form-urlencoded", b"prompt=a&prompt=b"),
        ("application/x-www-form-urlencoded", urlencode([("x", i) for i in range(500)]).encode()),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b"nonsense"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nno disposition\r\n--x--\r\n"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\ncut',
        ),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(client, kind, body):
    refused(client.post("/v1/videos", content=body, headers={"content-type": kind}))


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "application/xml", ""])
def test_a_body_of_another_type_is_refused_by_name(client, kind):
    headers = {"content-type": kind} if kind else {}
    message = refused(client.post("/v1/videos", content=b"prompt", headers=headers), status=415)
    assert "multipart/form-data" in message


def test_too_many_parts_are_refused(client):
    refused(client.post("/v1/videos", files=[(f"f{i}", (None, "x")) for i in range(201)]))
    refused(client.post("/v1/videos", files=[("input_reference", ("a", b"x"))] * 9))


def test_a_body_over_the_limit_is_refused_with_or_without_a_length(open_house):
    house, client = open_house(max_body_bytes=4096)
    big = json.dumps({"prompt": "x" * 5000}).encode()
    kind = {"content-type": "application/json"}
    refused(client.post("/v1/videos", content=big, headers=kind), status=413, code="request_too_large")
    refused(client.post("/v1/videos", content=iter([big[:3000], big[3000:]]), headers=kind), status=413)
    refused(
        client.post("/v1/videos", files={**as_form(PROMPT), "input_reference": ("x", b"0" * 5000)}),
        status=413,
    )
    assert not house.store.waiting()


def test_a_full_queue_is_429_with_the_time_to_wait(open_house):
    _, client = open_house(max_queue=1)
    assert client.post("/v1/videos", json=PROMPT).status_code == 200
    answer = client.post("/v1/videos", json=PROMPT)
    assert "limit 1" in refused(answer, status=429, code="rate_limit_exceeded")
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(answer.headers["retry-after"]) <= 60


def test_before_a_model_is_known_a_create_is_503_with_the_time_to_wait(client, house):
    house.scheduling.served = []
    answer = client.post("/v1/videos", json=PROMPT)
    refused(answer, status=503)
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert "x-should-retry" not in answer.headers


def test_jobs_are_accepted_while_no_worker_is_ready_if_the_model_is_known(client, house):
    house.scheduling.is_ready = False
    assert client.post("/v1/videos", json=PROMPT).status_code == 200


def test_a_model_is_named_by_its_name_or_by_an_alias(open_house):
    _, client = open_house(model_alias=("sora-2", "sora-2-pro=words"))
    names = ["tiny", "words", "sora-2", "sora-2-pro"]
    served = [client.post("/v1/videos", json={**PROMPT, "model": name}).json()["model"] for name in names]
    assert served == ["tiny", "words", "tiny", "words"]


def test_an_unknown_model_is_refused_with_the_served_ones(client):
    message = refused(
        client.post("/v1/videos", json={**PROMPT, "model": "sora-2"}), "model", "model_not_found"
    )
    assert "tiny" in message


# ---- pictures


def data_url(data):
    return "data:image/png;base64," + base64.b64encode(data).decode()


def first_frame_of(house, answer):
    assert answer.status_code == 200, answer.text
    return house.store.get(answer.json()["id"]).request.first_frame


def test_every_form_of_a_first_frame_gives_the_same_picture(client, house, png):
    url = data_url(png())
    answers = [
        client.post(
            "/v1/videos", files={**as_form(PROMPT), "input_reference": ("a.png", png(), "image/png")}
        ),
        client.post("/v1/videos", files={**as_form(PROMPT), "input_reference": ("upload", png())}),
        client.post("/v1/videos", files={**as_form(PROMPT), "input_reference[]": ("x", png())}),
        client.post("/v1/videos", files=as_form({**PROMPT, "input_reference": url})),
        client.post("/v1/videos", files=as_form({**PROMPT, "input_reference[image_url]": url})),
        client.post(
            "/v1/videos", files=as_form({**PROMPT, "input_reference": json.dumps({"image_url": url})})
        ),
        client.post("/v1/videos", data={**PROMPT, "input_reference[image_url]": url}),
        client.post("/v1/videos", json={**PROMPT, "input_reference": {"image_url": url}}),
        client.post("/v1/videos", json={**PROMPT, "input_reference": url}),
        client.post("/v1/videos", json={**PROMPT, "image_reference": [{"image_url": url}]}),
        client.post("/v1/videos", json={**PROMPT, "reference_url": url}),
    ]
    keys = {first_frame_of(house, answer) for answer in answers}
    assert len(keys) == 1
    assert keys != {None}


def test_first_and_last_frame_make_a_first_last_frame_job(client, house, png):
    files = {
        **as_form(PROMPT),
        "input_reference": ("a", png()),
        "last_frame_reference": ("b", png(colour=(0, 0, 9))),
    }
    answer = client.post("/v1/videos", files=files)
    assert house.store.get(answer.json()["id"]).request.task == "flf2v"


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/abs/path.png", "a\x00b.png", "x" * 500, "", "c:\\x.png"]
)
def test_the_name_of_an_upload_is_never_used(client, house, png, name):
    body = (
        b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na\r\n'
        b'--b\r\nContent-Disposition: form-data; name="input_reference"; filename="'
        + name.encode()
        + b'"\r\n'
        b"Content-Type: text/html\r\n\r\n" + png() + b"\r\n--b--\r\n"
    )
    answer = client.post(
        "/v1/videos", content=body, headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert first_frame_of(house, answer).endswith(".png")


def test_parts_may_come_in_any_order(client, house, png):
    files = [("input_reference", ("a", png())), ("prompt", (None, "a red circle"))]
    assert first_frame_of(house, client.post("/v1/videos", files=files))


def test_a_picture_of_another_size_is_refused_unless_it_may_be_fitted(client, house, png):
    upload = {"input_reference": ("a", png(100, 100))}
    message = refused(client.post("/v1/videos", files={**as_form(PROMPT), **upload}), "input_reference")
    assert "resize_mode" in message
    assert "100x100" in message
    for mode in ("crop", "pad"):
        form = as_form({**PROMPT, "resize_mode": mode})
        assert first_frame_of(house, client.post("/v1/videos", files={**form, **upload}))


@pytest.mark.parametrize("field", ["fps", "seed", "num_frames", "guidance_scale"])
def test_a_request_in_the_words_of_other_servers_has_its_picture_fitted_and_says_so(
    client, house, png, field
):
    asked = {**PROMPT, field: "9", "size": "48x32"}
    upload = {"input_reference": ("a.png", png(100, 100))}
    answer = client.post("/v1/videos", files={**as_form(asked), **upload})
    assert first_frame_of(house, answer)
    assert any("resize_mode" in warning for warning in answer.json()["warnings"])
    told = {**asked, "resize_mode": "error"}
    refused(client.post("/v1/videos", files={**as_form(told), **upload}), "input_reference")
    plain = client.post("/v1/videos", json=asked).json()["warnings"]
    assert not any("resize_mode" in warning for warning in plain)


def test_a_picture_of_the_asked_size_is_taken(client, house, png):
    form = as_form({**PROMPT, "size": "64x64"})
    assert first_frame_of(
        house, client.post("/v1/videos", files={**form, "input_reference": ("a", png(64, 64))})
    )


@pytest.mark.parametrize(
    "reference",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://example.com/a.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "data:image/png,notbase64",
        "data:image/png;base64,@@@@",
        "data:image/png;base64,",
        "",
        {},
        {"file_id": "file-1"},
        {"image_url": None},
        {"image_url": "https://example.com/a.png"},
        {"image_url": "data:image/png;base64,AAAA", "detail": "high"},
        {"picture": "x"},
        7,
    ],
)
def test_a_reference_that_cannot_be_used_is_refused(client, house, reference):
    refused(client.post("/v1/videos", json={**PROMPT, "input_reference": reference}))
    assert not house.store.waiting()
    assert not list(house.artifacts.keys())


def test_remote_media_is_refused_with_what_to_do_instead(client):
    answer = client.post("/v1/videos", json={**PROMPT, "input_reference": "https://example.com/a.png"})
    assert "upload the file or send it as a data: URL" in refused(answer, "input_reference")


def test_a_file_is_read_where_the_operator_allows_and_kept_like_an_upload(open_house, tmp_path, png):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(png())
    (folder / "b.txt").write_bytes(b"no picture")
    house, client = open_house(allowed_local_media_path=folder)
    made = client.post("/v1/videos", json={**PROMPT, "input_reference": f"file://{folder}/a.png"}).json()
    assert {house.store.get(made["id"]).request.first_frame} == set(house.artifacts.keys())
    for name, code in [("b.txt", "invalid_media"), ("../jobs.sqlite3", "invalid_media")]:
        answer = client.post("/v1/videos", json={**PROMPT, "input_reference": f"file://{folder}/{name}"})
        refused(answer, "input_reference", code)


def test_an_allowed_url_that_leads_inside_is_refused_and_the_field_named(open_house):
    house, client = open_house(allow_remote_media=True)
    reference = {"image_url": "http://127.0.0.1:8000/v1/videos"}
    answer = client.post("/v1/videos", json={**PROMPT, "input_reference": reference})
    assert "public internet" in refused(answer, "input_reference", "invalid_media")
    assert not house.store.waiting()


@pytest.mark.parametrize("data", [b"", b"not a picture", b"<svg/>", b"GIF89a" + b"\0" * 50])
def test_an_upload_that_is_no_picture_is_refused(client, data):
    files = {**as_form(PROMPT), "input_reference": ("a.png", data, "image/png")}
    refused(client.post("/v1/videos", files=files), "input_reference", "invalid_media")


def test_a_bomb_is_refused_by_its_header(open_house, png):
    _, client = open_house(max_input_pixels=2000)
    files = {**as_form(PROMPT), "input_reference": ("a.png", png(64, 48))}
    assert "at most 2000 pixels" in refused(client.post("/v1/videos", files=files), "input_reference")


def test_two_first_frames_are_refused(client, png):
    twice = [("prompt", (None, "a")), ("input_reference", ("a", png())), ("input_reference", ("b", png()))]
    refused(client.post("/v1/videos", files=twice), "input_reference")
    both = {**PROMPT, "input_reference": data_url(png()), "reference_url": data_url(png())}
    refused(client.post("/v1/videos", json=both), "input_reference")


def test_a_last_frame_needs_a_first_one(client, png):
    refused(
        client.post("/v1/videos", json={**PROMPT, "last_frame_reference": data_url(png())}),
        "last_frame_reference",
    )


def test_a_picture_for_a_text_only_model_is_refused_before_it_is_decoded(client, house):
    answer = client.post(
        "/v1/videos", json={**PROMPT, "model": "words", "input_reference": "data:image/png;base64,AA"}
    )
    assert "words cannot generate from a first frame" in refused(answer, "input_reference")


def test_a_file_where_a_value_belongs_is_refused(client):
    answer = client.post("/v1/videos", files={"prompt": ("p.txt", b"a red circle")})
    assert "got a file instead" in refused(answer, "prompt", "invalid_type")
    refused(
        client.post("/v1/videos", files={**as_form(PROMPT), "nonsense": ("x", b"x")}),
        "nonsense",
        "unknown_parameter",
    )


def test_a_task_type_that_fits_the_pictures_is_accepted(client, png):
    body = {**PROMPT, "input_reference": data_url(png()), "task_type": "i2v"}
    assert client.post("/v1/videos", json=body).status_code == 200
