from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor

import pytest

from vitascope.errors import DoesNotFit, LaunchCancelled, LaunchFailed
from vitascope.launch import Instance, InstanceState, LaunchSpec

MODELS = "/v1/models"
LATER = {"wait_ready": "False"}  # as the sync client writes it
# What the client of Xinference sends for `launch_model("tiny", model_type="video", model_uid="second")`.
SENT = {
    "model_uid": "second", "model_name": "tiny", "model_engine": None, "peft_model_config": None,
    "model_type": "video", "model_size_in_billions": None, "model_format": None, "quantization": None,
    "replica": 1, "n_worker": 1, "n_gpu": "auto", "request_limits": None, "worker_ip": None, "gpu_idx": None,
    "replica_config": None, "model_path": None, "enable_thinking": None, "enable_virtual_env": None,
    "virtual_env_packages": None, "virtual_env_find_links": None, "envs": None,
}  # fmt: skip


def refusal(answer, status):
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert told["detail"] == told["error"]["message"]
    return told["detail"]


@pytest.fixture
def launched(client, house):
    """A launch that is under way."""
    assert client.post(MODELS, json=SENT, params=LATER).json() == {"model_uid": "second"}
    return functools.partial(on_loop, house, client)


def on_loop(house, client, **changes):
    """End the launch, on the loop where it is waited for."""

    async def settle():
        house.launching.settle("second", **changes)

    client.portal.call(settle)


@pytest.fixture
def waiting_launch(house, client):
    """Launch and wait in a thread; the launch is under way when this returns."""
    with ThreadPoolExecutor() as pool:

        def call(**fields):
            begun = asyncio.Event()
            launch = house.launching.launch

            async def noted(spec):
                instance = await launch(spec)
                begun.set()
                return instance

            house.launching.launch = noted
            answer = pool.submit(client.post, MODELS, json={**SENT, **fields})
            client.portal.call(asyncio.wait_for, begun.wait(), 600)
            del house.launching.launch
            return answer

        yield call


def test_a_launch_waits_until_the_model_is_ready(house, client, waiting_launch):
    answer = waiting_launch(trust_remote_code=True)
    assert not answer.done()
    on_loop(house, client, state=InstanceState.READY, progress=1.0)
    told = answer.result(600)
    assert told.status_code == 200
    assert told.json()["model_uid"] == "second"
    assert told.json()["warnings"][0].startswith("trust_remote_code has no effect here")
    assert house.launching.models["second"].spec == LaunchSpec(model="tiny", uid="second")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (LaunchFailed("model_index.json is missing."), 400, "model_index.json is missing."),
        (DoesNotFit("It needs 9 GB."), 503, "It needs 9 GB."),
    ],
)
def test_a_launch_that_fails_says_why(house, client, waiting_launch, error, status, said):
    answer = waiting_launch()
    on_loop(house, client, state=InstanceState.ERROR, error=error.message, error_code=error.code)
    assert refusal(answer.result(600), status) == said
    [info] = client.get(f"{MODELS}/instances", params={"model_uid": "second"}).json()
    assert (info["status"], info["error"], info["error_code"]) == ("ERROR", said, error.code)
    assert refusal(client.get(f"{MODELS}/second"), 400) == f"second could not be loaded: {said}"


def test_a_launch_that_is_cancelled_is_499(house, client, waiting_launch, monkeypatch):
    async def cancelled(uid):
        raise LaunchCancelled("The launch of second was cancelled.")

    monkeypatch.setattr(house.launching, "wait", cancelled)
    assert refusal(waiting_launch().result(600), 499) == "The launch of second was cancelled."


@pytest.mark.parametrize("query", [{}, LATER])
def test_a_launch_that_is_cancelled_while_it_is_written_down_is_499(house, client, monkeypatch, query):
    monkeypatch.setattr(house.launching, "first_state", InstanceState.TERMINATED)
    said = refusal(client.post(MODELS, json=SENT, params=query), 499)
    assert said == "The launch of second was cancelled."


def test_a_launch_that_is_not_waited_for_can_be_followed(client, launched):
    progress = client.get(f"{MODELS}/second/progress").json()
    assert progress == {
        "progress": 0.0, "stage": "", "download_files": [], "error": None,
        "replicas": [
            {"replica_id": 0, "replica_model_uid": "second-0", "status": "CREATING", "progress": 0.0}
        ],
    }  # fmt: skip
    launched(progress=0.5, stage="loading")
    assert client.get(f"{MODELS}/second/progress").json()["progress"] == 0.5
    loading = client.get(f"{MODELS}/second")
    assert refusal(loading, 503) == "second is being loaded (50%). Try again in a moment."
    assert loading.headers["retry-after"] == "30"
    launched(state=InstanceState.READY)
    [info] = client.get(f"{MODELS}/instances?model_uid=second&model_name=other").json()
    assert (info["status"], info["state"], info["model_name"]) == ("READY", "ready", "tiny")
    assert client.get(f"{MODELS}/second/replicas").json()[0]["status"] == "READY"


def test_an_unloaded_model_is_ready_to_xinferences_client(client, launched):
    launched(state=InstanceState.UNLOADED)
    [info] = client.get(f"{MODELS}/instances").json()
    assert (info["status"], info["state"]) == ("READY", "unloaded")


def test_instances_are_found_by_name(client, launched):
    assert [info["model_uid"] for info in client.get(f"{MODELS}/instances?model_name=tiny").json()] == [
        "second"
    ]
    assert client.get(f"{MODELS}/instances?model_name=nope").json() == []
    assert client.get(f"{MODELS}/instances?model_uid=nope").json() == []


def test_a_folder_is_shown_by_the_name_that_the_caller_gave(client):
    sent = {**SENT, "model_name": "Wan2.1-1.3B", "model_path": "/srv/secret/folder"}
    client.post(MODELS, json=sent, params=LATER)
    [info] = client.get(f"{MODELS}/instances?model_name=Wan2.1-1.3B").json()
    assert (info["model_uid"], info["source"]) == ("second", "folder")


@pytest.mark.parametrize(
    ("model", "configured", "name", "source"),
    [
        ("/srv/secret/wan-folder/", False, "wan-folder", "wan-folder"),
        ("/srv/secret/wan-folder", True, "wan-folder", "wan-folder"),
        ("secret/wan-folder", True, "wan-folder", "wan-folder"),
        ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", False, "Wan2.1-1.3B", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"),
        ("owner/model", False, "model", "owner/model"),
    ],
)
def test_no_path_of_the_server_is_shown(client, house, model, configured, name, source):
    house.launching.models["m"] = Instance(
        uid="m",
        spec=LaunchSpec(model=model),
        state=InstanceState.LOADING,
        created_at=2.5,
        configured=configured,
    )
    told = client.get(f"{MODELS}/instances")
    [info] = told.json()
    assert (info["model_name"], info["source"], info["instance_created_ts"]) == (name, source, 2)
    assert (
        "secret" not in told.text + client.get(f"{MODELS}/m/progress").text + client.get(f"{MODELS}/m").text
    )


def test_a_launch_is_cancelled_and_a_model_terminated(client, house, launched):
    answer = client.post(f"{MODELS}/second/cancel")
    assert (answer.status_code, answer.json()) == (200, None)
    assert house.launching.models == {}
    client.post(MODELS, json=SENT, params=LATER)
    launched(state=InstanceState.READY)
    assert "not being launched" in refusal(client.post(f"{MODELS}/second/cancel"), 400)
    answer = client.delete(f"{MODELS}/second")
    assert (answer.status_code, answer.json()) == (200, None)
    assert house.launching.models == {}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "nope"),
        ("POST", "nope/cancel"),
        ("GET", "nope/progress"),
        ("GET", "nope/replicas"),
        ("GET", "nope"),
    ],
)
def test_an_unknown_uid_is_404(client, method, path):
    assert "nope" in refusal(client.request(method, f"{MODELS}/{path}"), 404)


def test_a_uid_that_is_taken_is_400(client, launched):
    assert "taken" in refusal(client.post(MODELS, json=SENT, params=LATER), 400)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cpu_offload": True}, "cpu_offload is 'True': weights cannot be offloaded yet"),
        ({"layerwise_cast": "True"}, "layerwise_cast"),
        ({"quantization": "int8"}, "quantization"),
        ({"replica": 2}, "replica is '2'"),
        ({"worker_ip": "10.0.0.1"}, "worker_ip"),
        ({"enable_virtual_env": True}, "enable_virtual_env"),
        ({"cpu_ofload": True}, "did you mean 'cpu_offload'"),
        ({"model_type": "LLM"}, "model_type='video'"),
    ],
)
def test_a_refused_launch_begins_nothing(client, house, fields, said):
    assert said in refusal(client.post(MODELS, json={**SENT, **fields}), 400)
    assert house.launching.models == {}


def test_wait_ready_is_read_strictly(client, house):
    assert "wait_ready" in refusal(client.post(MODELS, json=SENT, params={"wait_ready": "maybe"}), 400)
    assert house.launching.models == {}


def test_the_operators_rule_is_obeyed(client, house, launched):
    house.launching.forbidden = True
    for answer in (
        client.post(MODELS, json={**SENT, "model_uid": "third"}),
        client.post(f"{MODELS}/second/cancel"),
        client.delete(f"{MODELS}/second"),
    ):
        assert "neither launch nor terminate" in refusal(answer, 403)
    assert list(house.launching.models) == ["second"]
