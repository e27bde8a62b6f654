"""SGLang's fields and documented examples, with the client of its documents (the OpenAI SDK) and curl."""

from __future__ import annotations

import shutil

import openai
import pytest

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

PROMPT = "a red circle moving right on a blue background"
QUICK = {"num_inference_steps": 2, "num_frames": 5, "seed": 1}
AS_JSON = {"Content-Type": "application/json"}


@pytest.fixture
def client(shared_server):
    with openai.OpenAI(base_url=f"{shared_server.url}/v1", api_key="sk-none", max_retries=0) as client:
        yield client


def refused(client, fields, **more) -> openai.BadRequestError:
    said = {"prompt": PROMPT, **more}
    with pytest.raises(openai.BadRequestError) as caught:
        client.videos.create(**said, extra_body=fields)
    with pytest.raises(openai.BadRequestError) as again:
        client.videos.create(**said, extra_body=fields, extra_headers=AS_JSON)
    assert (again.value.param, again.value.code) == (caught.value.param, caught.value.code)
    return caught.value


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq")
def test_the_documented_examples_run_as_they_stand(shared_server, examples, bash, draw, tmp_path):
    (tmp_path / "first.png").write_bytes(draw(100, 80))
    [example] = examples("SGLang", "bash")
    assert bash(example).split() == ["true", "true"]
    clips = [path.read_bytes() for path in tmp_path.glob("video_*.mp4")]
    assert [clip[4:8] for clip in clips] == [b"ftyp"] * 2
    assert clips[0] != clips[1]


def test_its_fields_in_json_and_in_a_form_make_the_same_clip(client):
    fields = {
        **QUICK, "width": 64, "height": 64, "fps": 12, "guidance_scale": 1.5, "flow_shift": 2.0,
        "negative_prompt": "gray", "generator_device": "cpu", "enable_teacache": False,
        "output_quality": "high", "extra_json": {"sample_solver": "unipc"}, "task_type": "T2V",
    }  # fmt: skip
    videos = [
        client.videos.create(prompt=PROMPT, extra_body=fields, extra_headers=headers)
        for headers in (None, AS_JSON)
    ]
    clips = [client.videos.download_content(client.videos.poll(v.id).id).read() for v in videos]
    assert clips[0] == clips[1]
    assert videos[0].model_extra["fps"] == 12
    assert [warning.split()[0] for warning in videos[0].model_extra["warnings"]] == [
        "generator_device",
        "output_quality",
    ]
    for video in videos:
        client.videos.delete(video.id)


def test_what_is_left_out_is_the_models_own_and_not_24_frames_a_second(client):
    defaults = client.models.list().data[0].model_extra["defaults"]
    video = client.videos.create(prompt=PROMPT, extra_body={"num_inference_steps": 1})
    assert (video.model_extra["fps"], video.model_extra["num_frames"]) == (
        defaults["fps"], defaults["num_frames"]
    )  # fmt: skip
    assert client.videos.delete(video.id).deleted is True


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"output_path": "/tmp/outputs"}, "output_path", "clients choose none"),
        ({"output_file_name": "x.mp4"}, "output_file_name", "clients choose none"),
        ({"perf_dump_path": "/tmp/p.json"}, "perf_dump_path", "stage_durations"),
        ({"lora_path": "someone/lora"}, "lora_path", "by its name in lora"),
        ({"input_reference": "/etc/passwd"}, "input_reference", "paths are not read"),
        ({"input_reference": "file:///etc/passwd"}, "input_reference", "reads no local files"),
        ({"reference_url": "http://169.254.169.254/"}, "reference_url", "fetches no remote media"),
        ({"width": 333, "height": 221}, "height", "208 or 224"),
        ({"num_frames": None, "seconds": 0}, "seconds", "seconds"),
        ({"prompt": ""}, "prompt", "prompt"),
        ({"num_frames": 96}, "num_frames", "use 33"),
        ({"n": 99}, "n", "n is 99"),
        ({"num_outputs_per_prompt": 0}, "num_outputs_per_prompt", "num_outputs_per_prompt is 0"),
        ({"enable_teacache": True}, "enable_teacache", "step caching is not offered"),
        ({"enable_upscaling": True}, "enable_upscaling", "upscaling is not offered"),
        ({"enable_frame_interpolation": True}, "enable_frame_interpolation", "not offered"),
        ({"enhance_prompt": True}, "enhance_prompt", "as they are given"),
        ({"profile": True}, "profile", "profiling is not offered"),
        ({"diffusers_kwargs": {"eta": 0.5}}, "diffusers_kwargs", "a field of its own"),
        ({"task_type": "i2v"}, "task_type", "makes this t2v"),
        ({"true_cfg_scale": 4}, "true_cfg_scale", "true_cfg_scale"),
        ({"extra_args": {"cfg_scal": 4}}, "cfg_scal", "Unknown parameter"),
        ({"guidance_scal": 4}, "guidance_scal", "did you mean 'guidance_scale'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_silently_changed_or_believed_there_is_refused_here(client, fields, param, said):
    error = refused(client, {**QUICK, **fields})
    assert error.param == param
    assert said in error.message


def test_a_size_and_a_model_are_not_taken_on_trust(client):
    assert "WIDTHxHEIGHT" in refused(client, QUICK, size="big").message
    assert "is not served here" in refused(client, QUICK, model="anything").message


def test_malformed_json_is_told_as_such(shared_server):
    answer = shared_server.client.post("/v1/videos", content=b'{"prompt": ', headers=AS_JSON)
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        400, "The request body is not valid JSON."
    )  # fmt: skip
