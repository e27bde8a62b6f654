"""The OpenAPI document: complete, valid, true. A new route that says too little about itself fails here."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import jsonschema
import pytest
from openapi_spec_validator import validate

from vitascope.api.app import routers
from vitascope.api.description import TAGS
from vitascope.api.request_schema import JSON, MULTIPART, PICTURE
from vitascope.jobs.job import new_id
from vitascope.launch import Instance, InstanceState, LaunchSpec

UNDOCUMENTED = {("GET", "/docs")}  # pages for people
MAX_SUMMARY_CHARS = 80
XINFERENCE_ONLY = ("/v1/model_registrations", "/v1/engines", "/v1/workers", "/v1/supervisor", "/v1/address")
NAME = "vitascope-tiny"


@pytest.fixture(scope="module")
def document(shared_house):
    return shared_house[1].get("/openapi.json").json()


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def ids_of(document):
    return {(method, path) for method, path, _ in operations(document)}


def test_the_document_is_valid(document):
    validate(document)


def test_every_route_is_in_the_document(document, shared_house):
    routes = {
        (method, route.path)
        for router in routers(shared_house[0].services)
        for route in router.routes
        for method in route.methods
    }
    missing = routes - ids_of(document) - UNDOCUMENTED
    assert not missing, f"not in the document (is include_in_schema False by mistake?): {sorted(missing)}"


def test_one_place_has_one_spelling(document):
    spellings: dict[str, str] = {}
    for path in document["paths"]:
        bare = re.sub(r"{\w+}", "{}", path)
        assert spellings.setdefault(bare, path) == path, (
            "name the parameter as the other route of this path does"
        )


def test_every_route_says_enough_about_itself(document):
    lacks = [
        f"{method} {path} lacks {what}"
        for method, path, operation in operations(document)
        for what in lacking(method, operation, document["components"]["schemas"])
    ]
    assert not lacks, "\n".join(["Say more where the route is made:", *lacks])


def lacking(method: str, operation: dict[str, Any], schemas: dict[str, Any]):
    if not operation.get("description"):
        yield "a docstring"
    if not 0 < len(operation["summary"]) <= MAX_SUMMARY_CHARS:
        yield f"a first clause of at most {MAX_SUMMARY_CHARS} characters in its docstring"
    if not operation.get("tags") or not set(operation["tags"]) <= set(TAGS):
        yield f"tags= of {list(TAGS)} (a new dialect is added there)"
    for parameter in operation.get("parameters", ()):
        if not parameter.get("description"):
            yield f"words about {parameter['name']} (Annotated[..., Query(description=...)], or PARAMETERS)"
    for kind, described in operation.get("requestBody", {"content": {}})["content"].items():
        if not described.get("examples") or "properties" not in described["schema"]:
            yield f"fields or examples of its {kind} body (see request_schema.request_body)"
    for status, answer in operation["responses"].items():
        if method != "HEAD" and status not in {"204", "304"} and not answer.get("content"):
            yield f"the content of {status} (response_model=, or responses=)"
        yield from lacking_in_json(status, answer, schemas)


def lacking_in_json(status: str, answer: dict[str, Any], schemas: dict[str, Any]):
    if JSON in answer.get("content", {}):
        name = answer["content"][JSON].get("schema", {}).get("$ref", "").rpartition("/")[2]
        if name not in schemas:
            yield f"a model of its {status} (response_model=)"
        elif "example" not in schemas[name]:
            yield f"an example in {name} (json_schema_extra)"


def test_every_post_takes_a_body_or_is_known_to_take_none(document):
    bodiless = {
        path for method, path, op in operations(document) if method == "POST" and "requestBody" not in op
    }
    assert bodiless <= {"/v1/videos/{video_id}/cancel", "/v1/models/{model_uid}/cancel"}, (
        "describe what it takes: openapi_extra={'requestBody': ...}"
    )


def test_answers_have_the_form_that_refusals_have_on_their_path(document):
    forms = {"/v1/video": "Detail", "/video": "Detail", "/v1/req": "Detail", "/v1/models": "ErrorWithDetail"}
    for method, path, operation in operations(document):
        refused = operation["responses"]["403"].get("content")
        if method == "HEAD":
            assert refused is None
            continue
        named = [
            form
            for start, form in forms.items()
            if path.startswith(start) and not path.startswith("/v1/videos")
        ]
        if path.startswith(("/v1/cluster", *XINFERENCE_ONLY)):
            named = ["Detail"]
        assert refused[JSON]["schema"]["$ref"].rpartition("/")[2] == (named or ["ErrorEnvelope"])[0], path


def test_examples_of_answers_fit_their_models(document):
    for name, schema in document["components"]["schemas"].items():
        if "example" in schema:
            check(schema["example"], {"$ref": f"#/components/schemas/{name}"}, document)


def check(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def examples(document):
    for method, path, operation in operations(document):
        for kind, body in operation.get("requestBody", {"content": {}})["content"].items():
            for name, example in body["examples"].items():
                yield method, path, operation, kind, body["schema"], example["value"], name


def test_every_example_of_a_request_is_answered_as_documented(quick_house, document):
    house, client = quick_house
    house.scheduling.served = [
        replace(card, name=name) for card, name in zip(house.scheduling.served, (NAME, "words"), strict=True)
    ]
    tried = 0
    for method, path, operation, kind, schema, value, name in examples(document):
        done = client.post("/v1/videos", json={"prompt": "a red circle"}).json()["id"]
        check(value, {**schema, "required": []}, document)
        url = filled(path, {"video_id": done, "model_uid": NAME, "request_id": "mine"})
        known = {"requestId": done.removeprefix("video_")} if "requestId" in value else {}
        answer = client.request(method, url, **spelled(kind, schema, {**value, **known}))
        assert answer.is_success, (method, path, kind, name, answer.text)
        check_answer(answer, operation, document)
        tried += 1
    assert tried > 20


def filled(path: str, known: dict[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda hole: known[hole[1]], path)


def spelled(kind: str, schema: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    if kind == JSON:
        return {"json": value}
    texts = {name: str(item) for name, item in value.items()}
    if kind == MULTIPART:
        picture = base64.b64decode(PICTURE.partition(",")[2])
        uploads = {name: ("image", picture) for name in schema.get("required", ()) if name not in value}
        return {"files": {**{name: (None, text) for name, text in texts.items()}, **uploads}}
    return {"content": urlencode(texts), "headers": {"content-type": kind}}


def check_answer(answer, operation: dict[str, Any], document: dict[str, Any]) -> None:
    """The status, headers and body of an answer are what the document says."""
    described = operation["responses"][str(answer.status_code)]
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if described.get("content"):
        schema = described["content"][kind].get("schema", {})
        if kind == JSON:
            check(answer.json(), schema, document)
            example = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["example"]
            if isinstance(example, dict):
                assert answer.json().keys() == example.keys() | (answer.json().keys() & {"warnings"})
    listed = {"content-type", "content-length", "x-content-type-options"} | described["headers"].keys()
    assert set(answer.headers) <= listed, set(answer.headers) - listed


def test_reads_are_answered_as_documented(quick_house, document):
    house, client = quick_house
    house.launching.models["tiny"] = Instance(
        uid="tiny", spec=LaunchSpec(model="tiny"), state=InstanceState.READY, created_at=1.0, progress=1.0
    )
    done = client.post("/v1/videos", json={"prompt": "a red circle"}).json()["id"]
    kwargs = {"request_id": "mine"}
    client.post("/v1/video/generations", json={"prompt": "a red circle", "kwargs": kwargs})
    known = {"video_id": done, "model": "tiny", "model_uid": "tiny", "request_id": "mine"}
    known |= {"model_type": "video", "model_name": "Wan2.1-1.3B"}
    tried = []
    for method, path, operation in operations(document):
        if method in {"GET", "HEAD"}:
            known["request_id"] = "mine" if "progress" in path else done.removeprefix("video_")
            answer = client.request(method, filled(path, known))
            assert answer.is_success, (path, answer.text)
            check_answer(answer, operation, document)
            tried.append(path)
    assert len(tried) > 10


def test_what_every_route_may_refuse_is_said_as_documented(open_house):
    house, client = open_house(api_key="secret")
    keyed = {"authorization": "Bearer secret", "content-type": JSON}
    document = client.get("/openapi.json", headers=keyed).json()
    assert client.post("/v1/videos", json={"prompt": "a red circle"}, headers=keyed).is_success
    [job] = house.store.waiting()
    for _ in range(house.services.settings.max_queue - 1):
        house.store.submit(replace(job, id=new_id()))
    body = {"prompt": "a red circle moving right"}
    refused = {
        "401": {"authorization": "Bearer guess"},
        "403": {"host": "elsewhere.example"},
        "413": {"content-length": str(2**30)},
        "415": {"content-type": "text/plain"},
        "429": {},
    }
    for path, more in (
        ("/v1/videos", {}),
        ("/video/submit", {"image_url": PICTURE}),
        ("/v1/video/generations", {}),
    ):
        operation = document["paths"][path]["post"]
        for status, headers in refused.items():
            answer = client.post(path, json=body | more, headers=keyed | headers)
            check_refusal(answer, status, operation, document)
        house.scheduling.served = []
        check_refusal(client.post(path, json=body | more, headers=keyed), "503", operation, document)
        house.scheduling.reset()


def check_refusal(answer, status, operation, document):
    assert str(answer.status_code) == status, answer.text
    assert answer.json() == operation["responses"][status]["content"][JSON]["example"]
    check_answer(answer, operation, document)
