"""Models launched and terminated by the unmodified xinference-client and by `vitascope`, on a real server."""

from __future__ import annotations

import asyncio
import base64
import json
import time

import pytest
from xinference_client import AsyncRESTfulClient, RESTfulClient

from documents import ROOT, WRITTEN_URL, blocks
from tiny_models import tiny
from vitascope.cli.app import run

pytestmark = pytest.mark.timeout(1800)  # every launch starts a process

SEVERAL_MODELS = ROOT / "docs" / "how-to" / "several-models.md"
PROMPT = "a cat runs"
SMALL = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 2, "seed": 1}
ENDED = {"READY", "ERROR", "TERMINATED"}
LOAD_S = 600.0


@pytest.fixture(scope="module")
def folder():
    """A folder that is no more than a few thousand random weights."""
    return str(tiny("wan21_t2v").folder)


@pytest.fixture(scope="module")
def client(shared_server):
    client = RESTfulClient(shared_server.url)
    yield client
    client.close()


@pytest.fixture(scope="module")
def default(client):
    """The uid of the model that the server serves by itself."""
    return next(iter(client.list_models()))


def followed(client, uid) -> list[float]:
    """Follow a launch as Xinference's command line does; return the progress that was seen."""
    seen, deadline = [], time.monotonic() + LOAD_S
    while time.monotonic() < deadline:
        instances = client.get_instance_info("any", uid)
        if all(instance["status"] in ENDED for instance in instances):
            assert [instance["status"] for instance in instances] == ["READY"], instances
            return seen
        seen.append(client.get_launch_model_progress(uid)["progress"])
        time.sleep(0.05)
    raise AssertionError(f"{uid} was not ready within {LOAD_S} s")


@pytest.fixture(scope="module")
def second(client, folder):
    """A second model beside the default one, launched without waiting; terminated in the end."""
    uid = client.launch_model(
        "Wan2.1-1.3B", "video", model_path=folder, model_uid="second", wait_ready=False, cpu_offload=False
    )
    try:
        assert uid == "second"
        seen = followed(client, uid)
        assert seen == sorted(seen)
        yield uid
    finally:
        client.terminate_model("second")
        assert "second" not in client.list_models()


def clip(answer) -> bytes:
    [item] = answer["data"]
    data = base64.b64decode(item["b64_json"])
    assert data[4:8] == b"ftyp"
    return data


def test_a_launched_model_is_listed_and_described(client, second, default, folder):
    assert list(client.list_models()) == [default, second]
    told = client.describe_model(second)
    assert (told["model_type"], told["model_engine"], told["family"]) == ("video", "vitascope", "wan")
    assert (told["id"], told["model_name"]) == (second, "Wan2.1-1.3B")
    assert "text2video" in told["model_ability"]
    assert "image2video" not in told["model_ability"]
    assert folder not in json.dumps([told, client.get_instance_info(None, None), client.get_workers_info()])
    done = client.get_launch_model_progress(second)
    assert (done["progress"], done["replicas"][0]["status"]) == (1, "READY")


def test_a_launched_model_makes_clips_by_its_uid(client, second, default, shared_server):
    made = clip(client.get_model(second).text_to_video(PROMPT, request_id="on-second", **SMALL))
    assert made == clip(client.get_model(second).text_to_video(PROMPT, **SMALL))
    assert client.get_progress("on-second")["progress"] == 1
    assert client.abort_request(second, "on-second") == {"msg": "NO_OP"}
    assert client.abort_request(default, "on-second") == {"msg": "NOT_FOUND"}
    [item] = client.get_model(second).text_to_video(PROMPT, response_format="url", **SMALL)["data"]
    assert shared_server.client.get(item["url"]).content == made
    assert shared_server.client.get(item["url"].removesuffix("/content")).json()["model"] == second
    assert shared_server.client.delete(item["url"].removesuffix("/content")).status_code == 200


def test_a_request_for_an_unknown_model_is_told_those_that_there_are(shared_server, second, default):
    answer = shared_server.client.post("/v1/video/generations", json={"model": "nope", "prompt": PROMPT})
    assert answer.status_code == 404
    assert answer.json() == {
        "detail": f"The model 'nope' is not served here; served are: {default}, {second}."
    }


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_uid": "second"}, "The name 'second' is taken"),
        ({"cpu_offload": True}, "cpu_offload is 'True': weights cannot be offloaded yet"),
        ({"group_offload": True, "use_stream": True}, "group_offload"),
        ({"layerwise_cast": True}, "layerwise_cast"),
        ({"quantization": "int8"}, "quantization"),
        ({"replica": 2}, "replica"),
        ({"enable_virtual_env": True}, "enable_virtual_env"),
        ({"cpu_ofload": True}, "did you mean 'cpu_offload'"),
        ({"model_type": "LLM"}, "this server makes videos"),
    ],
)
def test_a_launch_that_cannot_be_honoured_is_refused_in_words(client, second, folder, fields, said):
    asked = {"model_name": "third", "model_type": "video", "model_path": folder, **fields}
    with pytest.raises(RuntimeError, match=f"Failed to launch model, detail: .*{said}"):
        client.launch_model(**asked)
    assert "third" not in [info["model_uid"] for info in client.get_instance_info(None, None)]


def test_the_server_answers_what_the_client_asks_of_a_cluster(client, default):
    names = [entry["model_name"] for entry in client.list_model_registrations("video")]
    assert {default, "Wan2.1-1.3B", "HunyuanVideo"} <= {*names}
    detailed = client.list_model_registrations("video", detailed=True)
    assert client.get_model_registration("video", "Wan2.1-1.3B") in detailed
    assert list(client.query_engine_by_model_name("Wan2.1-1.3B", "video")) == ["vitascope"]
    assert client._get_supervisor_internal_address() == client.get_supervisor_info()["supervisor_ip"]
    assert default in client.get_workers_info()[0]["models"]


async def test_the_async_client_does_the_same(shared_server, second):
    remote = AsyncRESTfulClient(shared_server.url)
    try:
        assert second in await remote.list_models()
        assert (await remote.describe_model(second))["model_type"] == "video"
        model = await remote.get_model(second)
        try:
            clip(await model.text_to_video(PROMPT, **SMALL))
        finally:
            await model.close()
    finally:
        await remote.close()


async def test_the_async_client_cancels_launches(shared_server, holds, folder):
    remote = AsyncRESTfulClient(shared_server.url)
    try:
        with holds.loading_held():
            await cancel_while_nobody_waits(remote, folder)
            await cancel_while_somebody_waits(remote, folder)
    finally:
        await remote.close()


async def cancel_while_nobody_waits(remote, folder):
    uid = await remote.launch_model("third", "video", model_path=folder, wait_ready=False)
    assert uid == "third"
    with pytest.raises(RuntimeError, match=r"third is being loaded \(\d+%\)"):
        await remote.describe_model(uid)
    assert (await remote.get_launch_model_progress(uid))["progress"] < 1
    [info] = await remote.get_instance_info("third", uid)
    assert info["status"] == "CREATING"
    await remote.cancel_launch_model(uid)
    assert await remote.get_instance_info("third", uid) == []
    with pytest.raises(RuntimeError, match="'third' does not exist"):
        await remote.describe_model(uid)
    with pytest.raises(RuntimeError, match=r"Failed to terminate model, detail: .*third"):
        await remote.terminate_model(uid)


async def cancel_while_somebody_waits(remote, folder):
    waiting = asyncio.create_task(remote.launch_model("fourth", "video", model_path=folder))
    while not await remote.get_instance_info("fourth", "fourth"):
        assert not waiting.done()
    await remote.cancel_launch_model("fourth")
    with pytest.raises(RuntimeError, match=r"Failed to launch model, detail: .*fourth was cancelled"):
        await waiting


@pytest.fixture
def vitascope(shared_server, capsys, monkeypatch):
    """Run a command line against the server; returns status, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setenv("VITASCOPE_URL", shared_server.url)

    def call(*args):
        capsys.readouterr()
        return (run([*args]), *capsys.readouterr())

    return call


def test_the_command_line_launches_lists_and_terminates(vitascope, folder, shared_server, default):
    status, out, err = vitascope(
        "launch", "--model-name", "Wan2.1-1.3B", "--model-type", "video", "-mp", folder, "-u", "by-hand",
        "--cpu_offload", "False", "--n-gpu", "auto", "--replica", "1", "--trust-remote-code", "True",
    )  # fmt: skip
    try:
        assert (status, out) == (0, "by-hand is ready\n")
        assert "note: trust_remote_code has no effect here" in err
        listed = [line.split() for line in vitascope("list")[1].splitlines()]
        assert [default, "video", default, default, "ready"] in listed
        assert ["by-hand", "video", "Wan2.1-1.3B", "wan21_t2v", "ready"] in listed
        done = shared_server.wait_done(shared_server.submit(model="by-hand", **SMALL))
        assert done["model"] == "by-hand"
        assert shared_server.client.delete(f"/v1/videos/{done['id']}").status_code == 200
    finally:
        assert vitascope("terminate", "--model-uid", "by-hand")[:2] == (0, "by-hand: terminated\n")
    uids = [each["model_uid"] for each in json.loads(vitascope("list", "--json")[1])]
    assert (uids[0], "by-hand" in uids) == (default, False)
    status, _, err = vitascope("terminate", "by-hand")
    assert (status, "by-hand" in err) == (1, True)


def test_the_documented_example_runs_with_a_small_model(shared_server, folder, client, capsys):
    [example] = blocks(SEVERAL_MODELS, "python")
    for written, here in (
        (WRITTEN_URL, shared_server.url),
        ("/models/my-wan", folder),
        ("num_inference_steps=4", "num_inference_steps=1, height=32, width=32, num_frames=5"),
    ):
        assert written in example
        example = example.replace(written, here)
    exec(example, {})
    assert capsys.readouterr().out == "my-wan 1\n"
    assert "my-wan" not in client.list_models()
