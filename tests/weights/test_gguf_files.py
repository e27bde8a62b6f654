import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitascope.errors import CheckpointError
from vitascope.weights.gguf_files import read_gguf_layout

VALUES = {"a": np.arange(64, dtype=np.float32).reshape(2, 32), "b": np.ones(5, dtype=np.float32)}


def write(path: Path, kinds: dict[str, str], alignment: int = 32) -> bytes:
    writer = gguf.GGUFWriter(str(path), "wan")
    writer.add_custom_alignment(alignment)
    writer.add_array("words", ["one", "two"])
    writer.add_array("numbers", [1.5, 2.5])
    writer.add_bool("yes", True)
    for name, values in VALUES.items():
        kind = gguf.GGMLQuantizationType[kinds[name]]
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("gguf") / "good.gguf", {"a": "Q8_0", "b": "F32"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.gguf"


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_gguf_layout(path, "file.gguf")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kinds", [("Q8_0", "F32"), ("Q4_0", "F16"), ("BF16", "BF16"), ("F32", "F32")])
@pytest.mark.parametrize("alignment", [32, 256])
def test_tensors_lie_where_the_gguf_package_says(path: Path, kinds: tuple[str, str], alignment: int) -> None:
    write(path, dict(zip("ab", kinds, strict=True)), alignment)
    reference = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for stored in read_gguf_layout(path, "file.gguf").tensors:
        theirs = reference[stored.name]
        assert (stored.begin, stored.end) == (theirs.data_offset, theirs.data_offset + theirs.n_bytes)
        assert stored.values_shape == VALUES[stored.name].shape
        assert stored.num_values == VALUES[stored.name].size
        assert (stored.quant is None) == (theirs.tensor_type.name in ("F32", "F16", "BF16"))


def test_what_is_no_gguf_file_is_refused(path: Path) -> None:
    assert refusal(path, b"PK\x03\x04" * 20) == "file.gguf is no GGUF file."
    assert "its header does not fit in it" in refusal(path, b"GG")


def test_another_version_is_refused(path: Path, good: bytes) -> None:
    assert "is of GGUF version 9; 2 and 3 are read" in refusal(
        path, good[:4] + struct.pack("<I", 9) + good[8:]
    )


def test_a_file_that_was_cut_names_the_tensor_that_is_not_whole(path: Path, good: bytes) -> None:
    assert "tensor 'b' ends at byte" in refusal(path, good[: len(good) - 40])


def test_a_type_that_nobody_knows_is_named(path: Path, good: bytes) -> None:
    at = good.index(struct.pack("<QcIQI", 1, b"b", 1, 5, 0)) + 8 + 1 + 4 + 8
    assert "tensor 'b' is of the unknown GGML type 999" in refusal(
        path, good[:at] + struct.pack("<I", 999) + good[at + 4 :]
    )
    i32 = struct.pack("<I", gguf.GGMLQuantizationType.I32)
    assert "tensor 'b' is of GGML type I32, which diffusers cannot read" in refusal(
        path, good[:at] + i32 + good[at + 4 :]
    )
    q8 = struct.pack("<I", gguf.GGMLQuantizationType.Q8_0)
    assert "tensor 'b' of shape (5,) has no whole blocks of 32" in refusal(
        path, good[:at] + q8 + good[at + 4 :]
    )


def test_tensors_that_overlap_are_refused(path: Path, good: bytes) -> None:
    at = good.index(struct.pack("<QcIQI", 1, b"b", 1, 5, 0)) + 8 + 1 + 4 + 8 + 4
    moved = good[:at] + struct.pack("<Q", 32) + good[at + 8 :]
    assert "tensor 'b' overlaps the one before it" in refusal(path, moved)


@given(st.lists(st.tuples(st.integers(0, 350), st.integers(0, 255)), max_size=4), st.integers(0, 200))
def test_whatever_is_wrong_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, good: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(good)
    for at, byte in changes:
        content[at % len(content)] = byte
    path = tmp_path_factory.getbasetemp() / "fuzzed.gguf"
    path.write_bytes(content[: len(content) - cut])
    try:
        layout = read_gguf_layout(path, "file.gguf")
    except CheckpointError as error:
        assert "\n" not in str(error)  # noqa: PT017  # either way is right
        return
    assert all(0 < stored.begin <= stored.end <= len(content) - cut for stored in layout.tensors)
