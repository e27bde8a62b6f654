import hashlib
from pathlib import Path
from threading import Event

import pytest
import torch
from safetensors.torch import save_file

from vitascope.errors import CheckpointError
from vitascope.weights.layouts import WeightFile, read_layout
from vitascope.weights.reading import Reading

CPU = torch.device("cpu")
TENSORS = {
    "a": torch.arange(700_000.0).reshape(700, 1000),
    "b": torch.arange(9, dtype=torch.bfloat16),
    "big": torch.arange(2_500_000.0),
    "c": torch.tensor(3),
    "d": torch.zeros(0, 4),
    "e": torch.tensor([True, False, True]),
}


@pytest.fixture
def files(tmp_path: Path) -> list[WeightFile]:
    (tmp_path / "part").mkdir()
    for number in range(6):  # more than are read at a time
        save_file(
            {f"{number}.{name}": t for name, t in TENSORS.items()}, tmp_path / f"part/{number}.safetensors"
        )
    paths = sorted((tmp_path / "part").glob("*"))
    return [read_layout(path, f"part/{path.name}") for path in paths]


def stored_dtypes(files: list[WeightFile]) -> dict[str, torch.dtype]:
    return {stored.name: stored.dtype for file in files for stored in file.tensors}


def watched(files: list[WeightFile], told: list[tuple[str, int, int]]) -> Reading:
    reading = Reading(lambda *event: told.append(event))
    reading.total_bytes = sum(file.path.stat().st_size for file in files)
    return reading


def test_every_tensor_is_read_as_it_was_written(files: list[WeightFile]) -> None:
    tensors = Reading().tensors("part", files, stored_dtypes(files), CPU)
    assert len(tensors) == 6 * len(TENSORS)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, TENSORS[name[2:]])
        assert tensor.dtype == TENSORS[name[2:]].dtype


def test_only_what_is_wanted_is_returned_and_in_the_dtype_that_is_wanted(files: list[WeightFile]) -> None:
    tensors = Reading().tensors("part", files, {"2.a": torch.bfloat16}, CPU)
    assert tensors.keys() == {"2.a"}
    assert torch.equal(tensors["2.a"], TENSORS["a"].to(torch.bfloat16))


def test_tensors_are_converted_as_torch_does_it_whatever_their_size(files: list[WeightFile]) -> None:
    names = ["1.a", "1.b", "1.big", "1.d"]
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        tensors = Reading().tensors("part", files, dict.fromkeys(names, dtype), CPU)
        for name in names:
            assert torch.equal(tensors[name], TENSORS[name[2:]].to(dtype))
            assert tensors[name].dtype == dtype


@pytest.mark.parametrize("wanted", [[], ["0.a"], ["0.a", "0.b", "0.c", "0.d", "0.e"]])
def test_the_hash_of_a_file_is_that_of_all_its_bytes(files: list[WeightFile], wanted: list[str]) -> None:
    reading, dtypes = Reading(), stored_dtypes(files)
    reading.tensors("part", files, {name: dtypes[name] for name in wanted}, CPU)
    for file in files:
        assert reading.digest("part", file.path) == hashlib.sha256(file.path.read_bytes()).hexdigest()


def test_no_byte_is_read_twice(files: list[WeightFile]) -> None:
    told: list[tuple[str, int, int]] = []
    reading = watched(files, told)
    reading.tensors("part", files[:4], stored_dtypes(files[:4]), CPU)
    before = told[-1]
    for file in files[:4]:
        reading.digest("part", file.path)
        file.path.unlink()
        reading.digest("part", file.path)
    assert told[-1] == before
    for file in files[4:]:  # those were not loaded
        reading.digest("part", file.path)
    assert told[-1] == ("part", reading.total_bytes, reading.total_bytes)


def test_progress_never_falls_and_ends_at_all_bytes(files: list[WeightFile]) -> None:
    told: list[tuple[str, int, int]] = []
    reading = watched(files, told)
    reading.tensors("part", files, stored_dtypes(files), CPU)
    done = [event[1] for event in told]
    assert done == sorted(done)
    assert told[-1] == ("part", reading.total_bytes, reading.total_bytes)
    assert len(told) > 6


def test_a_blob_of_a_hub_cache_is_not_hashed_and_counts_all_the_same(
    files: list[WeightFile], tmp_path: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    reading = watched(files[:1], told)
    blob = tmp_path / ("f" * 64)
    files[0].path.rename(blob)
    files[0].path.symlink_to(blob)
    assert reading.tensors("part", files[:1], {"0.c": torch.int64}, CPU)["0.c"] == 3
    assert reading.digest("part", files[0].path) == "f" * 64
    assert told[-1][1] == reading.total_bytes


def test_a_file_that_shrank_since_its_header_was_read_is_named(files: list[WeightFile]) -> None:
    files[3].path.write_bytes(files[3].path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"part/3\.safetensors is cut short: it ends at byte"):
        Reading().tensors("part", files, stored_dtypes(files), CPU)


def test_a_file_that_is_gone_is_named(files: list[WeightFile]) -> None:
    files[5].path.unlink()
    with pytest.raises(CheckpointError, match=r"part/5\.safetensors cannot be read: No such file"):
        Reading().tensors("part", files, stored_dtypes(files), CPU)


def test_what_a_watcher_raises_stops_the_reading(files: list[WeightFile]) -> None:
    calls, enough = [], Event()

    class Enough(Exception):
        pass

    def watch(part: str, done: int, total: int) -> None:
        calls.append(done)
        enough.set()
        raise Enough

    reading = Reading(watch)
    reading.total_bytes = sum(file.path.stat().st_size for file in files)
    with pytest.raises(Enough):
        reading.tensors("part", files, stored_dtypes(files), CPU)
    assert enough.is_set()
    assert len(calls) <= 4  # one for each file that was being read
