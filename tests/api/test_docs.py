"""The documentation page's own script, run by Node on the real document."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess

import pytest

URL = "http://127.0.0.1:8000"
# As much of a browser as the page needs; prints its calls.
BROWSER = """
const calls = [];
const element = () => ({
  append() {}, replaceChildren() {}, set textContent(text) { if (text.startsWith("curl")) calls.push(text); },
});
const document = { getElementById: element, createElement: element };
const location = { origin: URL };
const fetch = async () => ({ json: () => DOCUMENT });
eval(SCRIPT);
setImmediate(() => console.log(JSON.stringify(calls)));
"""


@pytest.fixture
def calls(client):
    """Every call that the page shows, as a shell would split it, and whether its body is required."""
    document = client.get("/openapi.json").json()
    script = re.search(r"<script>(.*?)</script>", client.get("/docs").text, re.DOTALL)[1]
    known = {"URL": URL, "SCRIPT": script, "DOCUMENT": document}
    program = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in known.items()) + BROWSER
    shown = subprocess.run(
        ["node", "-"], input=program, capture_output=True, text=True, check=True, timeout=60
    )
    return document, [shlex.split(call) for call in json.loads(shown.stdout)]


def of(calls, url):
    return next(call for call in calls if URL + url in call)


@pytest.mark.skipif(shutil.which("node") is None, reason="the page's script needs a JavaScript engine")
def test_the_calls_of_the_page_can_be_pasted_into_a_shell(calls):
    document, shown = calls
    for path, operations in document["paths"].items():
        url = re.sub(r"{(\w+)}", lambda name: name[1].upper(), path)
        assert of(shown, url)
        if operations.get("post", {}).get("requestBody", {}).get("required"):
            assert {"-d", "-F"} & set(of(shown, url)), path
    assert {"first_frame=@first_frame.png", "last_frame=@last_frame.png"} < set(
        of(shown, "/v1/video/generations/flf")
    )
    for clip in ("/v1/videos/sync", "/v1/videos/VIDEO_ID/content", "/videos/REQUEST_ID.mp4"):
        assert "-o" in of(shown, clip)  # no shell shows an MP4
    assert "-N" in of(shown, "/v1/videos/VIDEO_ID/events")
