from __future__ import annotations

import hashlib
import os
import resource
import shutil
import subprocess
import sys
import threading

import numpy as np
import psutil
import pytest

from vitascope.errors import NotFound, StorageFailed
from vitascope.media.artifacts import GIVEN_S, FolderArtifacts, content_key
from vitascope.media.video import VideoWriter


@pytest.fixture
def artifacts(tmp_path):
    return FolderArtifacts(tmp_path / "store")


def test_a_committed_file_is_found_under_a_random_key_with_its_size_and_hash(artifacts):
    with artifacts.new_file("mp4") as pending:
        pending.path.write_bytes(b"clip")
        stored = pending.commit()
    with artifacts.open(stored.key) as file:
        assert file.read() == b"clip"
    assert (stored.size_bytes, stored.sha256) == (4, hashlib.sha256(b"clip").hexdigest())
    assert artifacts.size(stored.key) == 4
    assert list(artifacts.keys()) == [stored.key]
    stem, suffix = stored.key.split(".")
    assert suffix == "mp4"
    assert len(bytes.fromhex(stem)) == 16


def test_keys_do_not_repeat(artifacts):
    assert artifacts.put(b"same", "bin") != artifacts.put(b"same", "bin")


def test_an_uncommitted_file_leaves_nothing(artifacts):
    with artifacts.new_file("mp4") as pending:
        pending.path.write_bytes(b"half")
        assert list(artifacts.keys()) == []
    assert not pending.path.exists()
    assert list(artifacts.keys()) == []


def test_a_failed_writer_leaves_nothing(artifacts):
    with pytest.raises(RuntimeError), artifacts.new_file("mp4") as pending:  # noqa: PT012
        pending.path.write_bytes(b"half")
        raise RuntimeError
    assert not pending.path.exists()


def test_a_process_that_dies_before_the_rename_shows_nothing_and_is_cleaned_up_after(artifacts):
    script = (
        "import os, sys; from pathlib import Path; from vitascope.media.artifacts import FolderArtifacts\n"
        "with FolderArtifacts(Path(sys.argv[1])).new_file('mp4') as pending:\n"
        "    pending.path.write_bytes(b'all of it'); os._exit(9)\n"
    )
    died = subprocess.run([sys.executable, "-c", script, str(artifacts.root)], timeout=600, check=False)
    assert died.returncode == 9
    assert list(artifacts.keys()) == []

    (orphan,) = (artifacts.root / "pending").iterdir()
    artifacts.remove_abandoned()
    assert not orphan.exists()


def test_equal_content_is_kept_once_under_its_hash(artifacts):
    key = artifacts.put_content(b"picture", "png")
    assert key == artifacts.put_content(b"picture", "png") == content_key(b"picture", "png")
    assert key == hashlib.sha256(b"picture").hexdigest() + ".png"
    assert list(artifacts.keys()) == [key]


def test_delete_removes_and_may_be_repeated(artifacts):
    key = artifacts.put(b"x", "bin")
    artifacts.delete(key)
    artifacts.delete(key)
    for look_up in (artifacts.open, artifacts.size, artifacts.path):
        with pytest.raises(NotFound):
            look_up(key)


@pytest.mark.parametrize(
    "key",
    [
        "../outside.mp4",
        "/etc/passwd",
        "",
        ".",
        "pending",
        "a" * 32,
        "a" * 31 + ".mp4",
        "A" * 32 + ".mp4",
        "a" * 32 + ".mp4/../../outside.mp4",
        "a" * 32 + ".mp4\n",
        "a" * 32 + ".m p4",
        "a" * 32 + ".mp4\0",
        "a" * 48 + ".mp4",
    ],
)
def test_a_name_that_was_not_made_here_never_reaches_the_disk(artifacts, key):
    (artifacts.root.parent / "outside.mp4").write_bytes(b"secret")
    for call in (artifacts.open, artifacts.size, artifacts.path, artifacts.delete):
        with pytest.raises(NotFound) as caught:
            call(key)
        assert str(artifacts.root) not in str(caught.value)
    assert (artifacts.root.parent / "outside.mp4").exists()


@pytest.mark.parametrize("suffix", ["", ".mp4", "MP4", "a/b", "x" * 13])
def test_a_suffix_that_would_make_an_invalid_key_is_refused(artifacts, suffix):
    with pytest.raises(ValueError, match="suffix"):
        artifacts.put(b"", suffix)


def test_others_on_the_machine_cannot_read_the_store(artifacts):
    key = artifacts.put(b"private", "bin")
    assert artifacts.path(key).stat().st_mode & 0o077 == 0


@pytest.fixture
def full_disk():
    """No file of this process takes a byte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_without_its_paths_and_leaves_nothing(artifacts, full_disk):
    with pytest.raises(StorageFailed, match=r"^The server cannot keep files now: the disk is full\.$"):
        artifacts.put(b"clip", "mp4")
    assert list((artifacts.root / "pending").iterdir()) == []


def test_a_full_disk_is_told_by_the_encoder_too(artifacts, full_disk):
    frames = np.zeros((5, 16, 16, 3), np.uint8)
    with pytest.raises(StorageFailed, match="the disk is full"), artifacts.new_file("mp4") as pending:  # noqa: SIM117
        with VideoWriter(pending.path, width=16, height=16, fps=8.0) as writer:
            writer.write(frames)
    assert list((artifacts.root / "pending").iterdir()) == []


def test_a_folder_that_is_gone_is_told(artifacts, caplog):
    shutil.rmtree(artifacts.root)
    with pytest.raises(StorageFailed, match="its folder cannot be written"):
        artifacts.put_content(b"picture", "png")
    assert f"no file can be kept in {artifacts.root}: No such file or directory" in caplog.text


def test_a_living_writer_keeps_its_half_file_however_long_it_does_not_touch_it(artifacts):
    another = FolderArtifacts(artifacts.root)  # as another process has it
    with artifacts.new_file("mp4") as pending:
        pending.path.write_bytes(b"clip")
        os.utime(pending.path, (0, 0))
        for sweeper in (another, artifacts):
            sweeper.remove_abandoned()
        key = pending.commit().key
    assert artifacts.size(key) == len(b"clip")


def test_a_sweeper_that_meets_a_writer_takes_nothing_from_it(artifacts):
    """Whichever comes first to a new half-file, none is lost that its writer then completes."""
    going = threading.Event()

    def sweep() -> None:
        while not going.is_set():
            artifacts.remove_abandoned()

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        keys = [artifacts.put(bytes([i]), "bin") for i in range(30)]
    finally:
        going.set()
        sweeper.join()
    assert [artifacts.path(key).read_bytes() for key in keys] == [bytes([i]) for i in range(30)]


def test_writers_leave_no_handle(artifacts):
    own = psutil.Process()
    before = own.num_fds()
    for _ in range(3):
        artifacts.put_content(b"picture", "png")
        artifacts.put(b"clip", "mp4")
    artifacts.remove_abandoned()
    assert own.num_fds() == before


def test_a_key_given_out_lately_is_no_stray_until_an_hour_has_gone_by(tmp_path):
    now = 0.0
    artifacts = FolderArtifacts(tmp_path, lambda: now)
    first, second = (artifacts.put_content(data, "png") for data in (b"first", b"second"))
    assert not artifacts.remove_stray(first)
    now = GIVEN_S - 1
    artifacts.put_content(b"second", "png")
    now = GIVEN_S
    assert (artifacts.remove_stray(first), artifacts.remove_stray(second)) == (True, False)
    assert list(artifacts.keys()) == [second]
    assert artifacts.remove_stray(artifacts.put(b"random", "bin"))
