"""A PostgreSQL server of the tests' own, where its programs are: on a socket, in a folder of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path

PATIENCE_S = 120
ON_DEBIAN = Path("/usr/lib/postgresql")
# What a crash of the machine would lose is of no interest here.
QUICK = "-c fsync=off -c full_page_writes=off -c shared_buffers=16MB -c max_connections=60"


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest; None if there is none."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    return max(ON_DEBIAN.glob("*/bin"), key=lambda path: int(path.parent.name), default=None)


def why_not() -> str | None:
    """Say why no server can be had here; None if one can."""
    if programs() is None:
        return "PostgreSQL's programs are not installed here"
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        return "PostgreSQL does not run as root"
    if find_spec("psycopg") is None:
        return "psycopg is not installed here"
    return None


class Cluster:
    """A server that may be stopped, at once as by a power cut, and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names = count()
        self._user = "nobody" if os.geteuid() == 0 else getpass.getuser()
        self._run("initdb", "-D", f"{folder}/data", "-U", "vitascope", "-A", "trust", "-N", "-E", "UTF8")

    def url(self, database: str = "postgres") -> str:
        """Return where a database is."""
        return f"postgresql://vitascope:pa%20ss@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """Make an empty database and return where it is."""
        name = f"of_a_test_{next(self._names)}"
        self._run("createdb", "-h", str(self.folder), "-U", "vitascope", name)
        return self.url(name)

    def start(self) -> None:
        """Return once it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' {QUICK}"
        self._control("start", "-l", f"{self.folder}/log", "-o", options)

    def stop(self) -> None:
        """Stop it, whatever its clients do; it recovers at its next start."""
        self._control("stop", "-m", "immediate")

    def _control(self, verb: str, *arguments: str) -> None:
        self._run("pg_ctl", verb, "-w", "-D", f"{self.folder}/data", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str((programs() or ON_DEBIAN) / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", self._user, "--", *command]
        with tempfile.TemporaryFile() as said:  # no pipe: the server would hold it open
            done = subprocess.run(
                command,
                check=False,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                timeout=PATIENCE_S,
            )
            said.seek(0)
            assert done.returncode == 0, said.read().decode()


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Run a server as long as the context lasts."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: a socket's path may have some 100 characters
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
        here = Cluster(folder)
        here.start()
        try:
            yield here
        finally:
            here.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
