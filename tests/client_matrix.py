"""Which clients of other projects are driven against a real server, what each does there, and their packages.

`make sdk-matrix` drives them (tests/e2e/clients); `make docs` writes the table to docs/clients.md. A client's
package lies in a folder of its own below `.cache`, fetched once; nothing of it touches this environment.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".cache" / "clients"
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


def _openai(version: str) -> Client:
    return Client(
        "openai (Python)",
        version,
        ("sync", "async"),
        (f"openai=={version}", "distro==1.9.0", "httpx==0.28.1"),
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
OPENAI = tuple(_openai(version) for version in ("2.2.0", "2.14.0", "2.30.0", "3.54.0"))
NODE = Client("openai (Node)", "6.49.0", ("node",), lacks=frozenset({"create and poll"}))
CLIENTS = (*OPENAI, NODE, LITELLM)


def python_packages(client: Client) -> Path:
    """Return a folder with a Python client's packages, fetched if they are not there."""
    folder = CACHE / f"{client.name.split()[0].lower()}-{client.version}-{_digest(*client.requirements)}"
    if not folder.exists():
        with _to_become(folder) as begun:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            options = ["--no-deps", "--only-binary=:all:", "--target", str(begun)]
            _fetch([*command, *options, *client.requirements], begun)
    return folder


def node_packages() -> Path:
    """Return a folder with the Node client's packages, fetched as its lock file says."""
    files = [NODE_SOURCE / "package.json", NODE_SOURCE / "package-lock.json"]
    folder = CACHE / f"node-{_digest(*(file.read_text(encoding='utf-8') for file in files))}"
    if not folder.exists():
        with _to_become(folder) as begun:
            for file in files:
                shutil.copy(file, begun)
            _fetch(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], begun)
    return folder


def document() -> str:
    """Write the page: every step that a client has a call for works with it, or `make sdk-matrix` fails."""
    heads = [f"{client.name}<br>{client.version}" for client in CLIENTS]
    rows = [["", *heads], ["---", *[":---:"] * len(heads)]]
    for step, about in STEPS.items():
        cells = ["" if step in client.lacks else "works" for client in CLIENTS]
        rows.append([f"**{step}**: {about}", *cells])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{_HEADER}\n{table}\n"


_HEADER = """\
# Clients that are tested

Made by `make docs`; do not edit. `make sdk-matrix` fetches each of these clients from its package index and
drives it, unmodified, against a real server with the bundled model and a key; it fails unless this table is
what comes out. An empty place means that the client has no call for it. The Python SDK is driven sync and
async, LiteLLM with `openai/` and with `hosted_vllm/` models. The default test run drives the newest Python
SDK, `xinference-client` 4.1, curl and jq.
"""


@contextlib.contextmanager
def _to_become(folder: Path) -> Iterator[Path]:
    """A temporary folder that is renamed once it is whole."""
    CACHE.mkdir(parents=True, exist_ok=True)
    begun = Path(tempfile.mkdtemp(dir=CACHE))
    try:
        yield begun
        begun.rename(folder)
    except BaseException:
        shutil.rmtree(begun, ignore_errors=True)
        raise


def _fetch(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:4])} ...: {done.stderr[-2000:]}")


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:8]


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
