import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from vitascope.errors import CheckpointError
from vitascope.weights.layouts import check_placed, component_files, index_of, read_layout

TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3),
    "b": torch.zeros(4, dtype=torch.bfloat16),
    "c": torch.tensor(3),
}
GOOD = save(TENSORS, metadata={"format": "pt"})
HEADER_END = 8 + struct.unpack("<Q", GOOD[:8])[0]


def packed(header: Any, data: bytes = GOOD[HEADER_END:]) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def header(**entries: Any) -> dict[str, Any]:
    return json.loads(GOOD[8:HEADER_END]) | entries


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_layout(path, "part/file")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("part/file")
    return str(caught.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.safetensors"


def test_a_layout_says_where_each_tensor_lies(path: Path) -> None:
    path.write_bytes(GOOD)
    layout = read_layout(path, "part/file")
    assert {s.name: (s.dtype, s.shape) for s in layout.tensors} == {
        name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in TENSORS.items()
    }
    (a,) = (s for s in layout.tensors if s.name == "a")
    assert GOOD[a.begin : a.end] == TENSORS["a"].numpy().tobytes()


@pytest.mark.parametrize(
    "content", [b"", b"\x01", b"\xff" * 8, struct.pack("<Q", 1 << 40), b"PK\x03\x04" * 9]
)
def test_what_is_no_safetensors_file_is_refused(path: Path, content: bytes) -> None:
    assert "damaged or cut short" in refusal(path, content)


@pytest.mark.parametrize("wrong", [[], "text", 3, None])
def test_a_header_that_is_no_object_is_refused(path: Path, wrong: Any) -> None:
    assert "not a JSON object" in refusal(path, packed(wrong))


def test_a_file_that_was_cut_names_the_tensor_that_is_not_whole(path: Path) -> None:
    last = max(header().items(), key=lambda item: item[1].get("data_offsets", [0])[0])[0]
    assert f"tensor {last!r} ends at byte {len(GOOD)} of {len(GOOD) - 1}" in refusal(path, GOOD[:-1])


def test_bytes_after_the_last_tensor_are_refused(path: Path) -> None:
    assert "3 bytes follow the last tensor" in refusal(path, GOOD + b"abc")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 20]},
            "F32 (2, 3), 24 bytes, and its offsets span 20",
        ),
        (
            {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 24]},
            "F32 (2, 4), 32 bytes, and its offsets span 24",
        ),
        ({"dtype": "F32", "shape": [6], "data_offsets": [400, 424]}, "ends at byte"),
        ({"dtype": "F32", "shape": [-2, -3], "data_offsets": [0, 24]}, "no whole numbers from 0"),
        ({"dtype": "F32", "shape": [2.0, 3], "data_offsets": [0, 24]}, "no whole numbers from 0"),
        ({"dtype": "F32", "shape": [True, 6], "data_offsets": [0, 24]}, "no whole numbers from 0"),
        ({"dtype": "F32", "shape": [6], "data_offsets": [24, 0]}, "its offsets span -24"),
        ({"dtype": "F32", "shape": [6], "data_offsets": [0]}, "no dtype, shape and data_offsets"),
        ({"dtype": "Q9", "shape": [6], "data_offsets": [0, 24]}, "dtype 'Q9'; known here are F64"),
        ({"dtype": ["F32"], "shape": [6], "data_offsets": [0, 24]}, "dtype ['F32']; known here"),
        ({"shape": [6]}, "no dtype, shape and data_offsets"),
        ("text", "no dtype, shape and data_offsets"),
    ],
)
def test_a_header_that_lies_of_a_tensor_is_refused_by_its_name(path: Path, entry: Any, said: str) -> None:
    message = refusal(path, packed(header(a=entry)))
    assert "tensor 'a'" in message
    assert said in message


def test_tensors_that_overlap_or_leave_a_gap_are_refused(path: Path) -> None:
    eight = {"dtype": "U8", "shape": [8]}
    overlapping = {"x": eight | {"data_offsets": [0, 8]}, "y": eight | {"data_offsets": [4, 12]}}
    assert "tensor 'y' overlaps the one before it" in refusal(path, packed(overlapping, bytes(12)))
    apart = {"x": eight | {"data_offsets": [0, 8]}, "y": eight | {"data_offsets": [9, 17]}}
    assert "tensor 'y' leaves a gap before it" in refusal(path, packed(apart, bytes(17)))


def test_deep_nesting_is_refused(path: Path) -> None:
    text = b'{"a":' + b"[" * 100_000
    assert "its header is not JSON" in refusal(path, struct.pack("<Q", len(text)) + text)


@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=4), st.integers(0, 40)
)
def test_whatever_is_wrong_is_refused_and_what_is_accepted_is_so_by_safetensors_too(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(GOOD)
    for at, byte in changes:
        content[at] = byte
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.write_bytes(content[: len(content) - cut])
    try:
        layout = read_layout(path, "part/file")
    except CheckpointError as error:
        assert "\n" not in str(error)  # noqa: PT017  # either way is right; which one, the next lines say
        return
    try:
        with safe_open(path, framework="pt") as reference:
            shapes = {name: tuple(reference.get_slice(name).get_shape()) for name in reference.keys()}  # noqa: SIM118
    except SafetensorError as error:
        pytest.fail(f"safetensors refuses it: {error}")
    assert {s.name: s.shape for s in layout.tensors} == shapes


# ---- which files


def shards(folder: Path, weight_map: Any = None) -> Path:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate("ab", 1):
        (folder / f"model-0000{number}-of-00002.safetensors").write_bytes(save({name: TENSORS[name]}))
    index = folder / "model.safetensors.index.json"
    default = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index.write_text(json.dumps({"weight_map": default if weight_map is None else weight_map}))
    return index


def placed(folder: Path, index: Path) -> None:
    check_placed(index, [read_layout(file, f"part/{file.name}") for file in component_files(folder)])


def test_the_shards_of_an_index_are_found(tmp_path: Path) -> None:
    index = shards(tmp_path / "part")
    assert [file.name[:11] for file in component_files(tmp_path / "part")] == ["model-00001", "model-00002"]
    placed(tmp_path / "part", index)


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    shards(tmp_path / "part")
    (tmp_path / "part" / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"names model-00002-of-00002\.safetensors, which is missing"):
        component_files(tmp_path / "part")


@pytest.mark.parametrize("name", ["../x.safetensors", "/x.safetensors", "x.bin", "", ".."])
def test_an_index_that_names_something_else_is_refused(tmp_path: Path, name: str) -> None:
    shards(tmp_path / "part", {"a": name})
    with pytest.raises(CheckpointError, match=r"shards are \.safetensors files beside it"):
        component_files(tmp_path / "part")


@pytest.mark.parametrize("wrong", [[], {}, {"a": 3}, {"a": None}, "text"])
def test_an_index_without_a_map_is_refused(tmp_path: Path, wrong: Any) -> None:
    shards(tmp_path / "part", wrong)
    with pytest.raises(CheckpointError, match="weight_map"):
        component_files(tmp_path / "part")


def test_a_tensor_that_is_not_where_the_index_says_is_named(tmp_path: Path) -> None:
    first = "model-00001-of-00002.safetensors"
    second = "model-00002-of-00002.safetensors"
    index = shards(tmp_path / "part", {"a": first, "b": second, "z": second})
    with pytest.raises(CheckpointError, match=f"tensor 'z' is in {second}, and it is not there"):
        placed(tmp_path / "part", index)


def test_a_tensor_in_two_shards_is_named(tmp_path: Path) -> None:
    index = shards(tmp_path / "part")
    (tmp_path / "part" / "model-00002-of-00002.safetensors").write_bytes(save(TENSORS))
    with pytest.raises(CheckpointError, match=r"tensor 'a' is also in model-00001-of-00002\.safetensors"):
        placed(tmp_path / "part", index)


def test_one_file_beside_an_index_is_refused_as_ambiguous(tmp_path: Path) -> None:
    shards(tmp_path / "part")
    (tmp_path / "part" / "model.safetensors").write_bytes(GOOD)
    with pytest.raises(CheckpointError, match="contradict each other"):
        component_files(tmp_path / "part")


def test_a_file_of_another_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "wan.safetensors").write_bytes(GOOD)
    with pytest.raises(CheckpointError, match=r"wan\.safetensors is not called so"):
        component_files(tmp_path)


def test_shards_of_a_further_precision_are_found_beside_plain_ones_and_without(tmp_path: Path) -> None:
    plain = shards(tmp_path)
    fp16 = tmp_path / "model.safetensors.index.fp16.json"
    fp16.write_text(plain.read_text().replace("model-", "model.fp16-"))
    for path in list(tmp_path.glob("model-*")):
        (tmp_path / path.name.replace("model-", "model.fp16-")).write_bytes(path.read_bytes())
    assert {path.name for path in component_files(tmp_path)} == {
        path.name for path in tmp_path.glob("model-*")
    }
    plain.unlink()
    assert {path.name for path in component_files(tmp_path)} == {
        path.name for path in tmp_path.glob("model.fp16-*")
    }
    assert index_of(tmp_path) == fp16
