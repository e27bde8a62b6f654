"""The packages of clients of other projects, fetched once into folders below `.cache`.

Each client has a folder of its own; nothing of it touches this environment.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from client_matrix import NODE_SOURCE, Client
from documents import ROOT

CACHE = ROOT / ".cache" / "clients"


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
