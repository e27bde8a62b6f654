"""Which clients of other projects are driven against a real server, and what each does there.

`make sdk-matrix` drives them (tests/e2e/clients); `make docs` writes the table to docs/clients.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from documents import ROOT

DOCUMENT = ROOT / "docs" / "clients.md"
NODE_SOURCE = Path(__file__).parent / "e2e" / "clients" / "node"

# What is done with every client, by the name that its driver reports and the table shows.
STEPS = {
    "create": "from text: model or alias, seconds, size, our own fields, nested ones",
    "create with a picture": "as bytes, open file, path, stream, named tuple or URL, as the client has it",
    "create and poll": "the client's own loop, to the end",
    "retrieve": "while it waits and when it is done, all thirteen keys",
    "list": "page by page, both orders, each video once",
    "download": "the MP4",
    "stills": "thumbnail and spritesheet",
    "stream": "the MP4 piece by piece",
    "remix": "another prompt, the same settings",
    "edit": "an earlier video by its id, and an upload",
    "extend": "an earlier video goes on for a second",
    "cancel": "by its route; a poll ends on it",
    "delete": "gone, and 404 afterwards",
    "errors": "a refusal's sentence, field and code, the right exception, the request id",
}


@dataclass(frozen=True, slots=True)
class Client:
    """A client at one version, the packages that it needs, and the steps that it has no call for."""

    name: str
    version: str
    modes: tuple[str, ...]  # each is a run of its own
    requirements: tuple[str, ...] = ()
    lacks: frozenset[str] = frozenset()

    @property
    def title(self) -> str:
        """What the table's head says."""
        return f"{self.name} {self.version}"


def _openai(version: str, *lacks: str) -> Client:
    return Client(
        "openai (Python)",
        version,
        ("sync", "async"),
        (f"openai=={version}", "distro==1.9.0", "httpx==0.28.1"),
        frozenset(lacks),
    )


LITELLM = Client(
    "LiteLLM",
    "1.106.2",
    ("openai", "hosted_vllm"),
    (
        "litellm==1.106.2",
        "openai==2.54.0",
        "distro==1.9.0",
        "fastuuid==0.14.0",
        "filelock==3.32.7",
        "h2==4.4.1",
        "hpack==4.2.0",
        "httpx==0.28.1",
        "huggingface_hub==1.33.0",
        "hyperframe==6.1.0",
        "importlib_metadata==8.9.0",
        "jsonschema==4.26.0",
        "jsonschema-specifications==2025.9.1",
        "python-dotenv==1.2.4",
        "referencing==0.37.0",
        "rpds-py==2026.9.1",
        "tiktoken==0.14.0",
    ),
    frozenset({"create and poll", "stream", "cancel", "delete"}),
)
OPENAI = (
    _openai("2.2.0", "edit", "extend"),
    _openai("2.14.0", "edit", "extend"),
    _openai("2.30.0"),
    _openai("3.54.0"),
)
NODE = Client("openai (Node)", "6.49.0", ("node",), lacks=frozenset({"create and poll"}))
CLIENTS = (*OPENAI, NODE, LITELLM)


# What tests/e2e/dialects has each of them do.
DRIVEN_BY_DEFAULT = {
    "openai": "all of the above and every refusal; SGLang's fields as JSON and as forms",
    "xinference-client": "generation, progress, abort, models and launches, sync and async",
    "requests": "the Multi-GPU dialect: submit, status, cancel, download, every refusal",
    "curl and jq": "the examples of [dialects.md](dialects.md) as they stand; vLLM-Omni's table of errors",
}

_HEADER = """\
# Clients that are tested

Made by `make docs`; do not edit. `make sdk-matrix` fetches each of these clients from its package index and
drives it, unmodified, against a real server with the bundled model and a key; it fails unless this table is
what comes out. An empty place means that the client has no call for it. The Python SDK is driven sync and
async, LiteLLM with `openai/` and with `hosted_vllm/` models.
"""
_DRIVEN = """\
The default test run drives these:
"""
_WRITTEN = """\
Requests as n8n's OpenAI node, new-api and LiteLLM's proxy write them are tested too, though not sent by these
programs themselves: OpenAI's model names by `--model-alias sora-2 --model-alias sora-2-pro`, OpenAI's four
sizes where the served model can make them, `error` null until a video failed, whole numbers and strings where
a gateway decodes into fixed types.
"""


def document() -> str:
    """Write the page: every step that a client has a call for works with it, or `make sdk-matrix` fails."""
    heads = [f"{client.name}<br>{client.version}" for client in CLIENTS]
    rows = [["", *heads], ["---", *[":---:"] * len(heads)]]
    for step, about in STEPS.items():
        cells = ["" if step in client.lacks else "works" for client in CLIENTS]
        rows.append([f"**{step}**: {about}", *cells])
    driven = [["client", "what it does"], ["---", "---"]]
    driven += [[f"{name} {_constrained(name)}".strip(), what] for name, what in DRIVEN_BY_DEFAULT.items()]
    return f"{_HEADER}\n{_table(rows)}\n{_DRIVEN}\n{_table(driven)}\n{_WRITTEN}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _constrained(name: str) -> str:
    """Return the version that is tested with, of a client that pip installs."""
    pinned = re.search(
        rf"^{name}==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    return pinned[1] if pinned else ""


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
