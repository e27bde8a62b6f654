from __future__ import annotations

import base64
import hashlib
import re

import pytest

from vitascope.api.fields import FIELDS, Use


@pytest.fixture
def document(client):
    return client.get("/openapi.json").json()


def test_every_operation_is_described_and_none_answers_422_but_the_dialects_that_do(document):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            assert ("422" in operation["responses"]) == path.startswith("/video/"), (method, path)
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_the_body_of_a_create_lists_every_field_that_may_be_sent(document):
    content = document["paths"]["/v1/videos"]["post"]["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json", "application/x-www-form-urlencoded"}
    usable = {name for name, known in FIELDS.items() if known.use not in {Use.REFUSED, Use.PATH}}
    for described in content.values():
        assert set(described["schema"]["properties"]) == usable


def test_the_documented_example_works(client, document):
    examples = document["paths"]["/v1/videos"]["post"]["requestBody"]["content"]["application/json"][
        "examples"
    ]
    assert client.post("/v1/videos", json=examples["A prompt"]["value"]).status_code == 200


def test_the_document_asks_for_a_key_only_where_one_is_set(open_house, document):
    assert "security" not in document
    _, client = open_house(api_key="secret")
    keyed = client.get("/openapi.json", headers={"authorization": "Bearer secret"}).json()
    assert keyed["security"] == [{"key": []}]


def test_the_documentation_page_loads_nothing_from_elsewhere(client):
    answer = client.get("/docs")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert not re.search(r"(src|href)=|https?://|@import", answer.text)
    policy = answer.headers["content-security-policy"]
    script = re.search(r"<script>(.*?)</script>", answer.text, re.DOTALL)[1]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert "unsafe" not in policy
