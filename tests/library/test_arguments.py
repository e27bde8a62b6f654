"""What the library refuses before it loads or makes anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitascope
from vitascope.errors import ConfigurationError, InvalidType, VitascopeError
from vitascope.library.arguments import adapters_of, files_of, wish_of
from vitascope.models.family import Media


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"path": 3}, "path is 3; it must be a folder or a hub id (owner/name)."),
        ({"device": 3}, "device is 3; it must be auto, cpu, cuda or cuda:N."),
        ({"device": None}, "device is None; it must be auto, cpu, cuda or cuda:N."),
        (
            {"dtype": np.float16},
            "dtype is <class 'numpy.float16'>; it must be the name of one, as 'bfloat16'.",
        ),
        ({"num_threads": "2"}, "num_threads is '2'; it must be a whole number."),
        ({"num_threads": True}, "num_threads is True; it must be a whole number."),
        ({"revision": 1}, "revision is 1; it must be a branch, tag or commit."),
        ({"cache_dir": ["a"]}, "cache_dir is ['a']; it must be a folder."),
        ({"offline": "yes"}, "offline is 'yes'; it must be True or False."),
        ({"on_load": "print"}, "on_load is 'print'; it must be a function."),
        ({"loras": ["a"]}, "loras is ['a']; it must be a mapping of names to files."),
        ({"loras": {"ink": 1}}, "loras is {'ink': 1}; it must be a mapping of names to files."),
        (
            {"transformer_path": {"transformer": 2}},
            "transformer_path is {'transformer': 2}; it must be a file, or a mapping of components to files.",
        ),
    ],
)
def test_an_argument_of_another_type_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidType) as caught:
        vitascope.load(**({"path": "/no/such/folder"} | given))
    assert (str(caught.value), caught.value.param) == (message, next(iter(given)))


@pytest.mark.parametrize("num_threads", [0, -1])
def test_fewer_threads_than_one_are_refused(num_threads: int) -> None:
    with pytest.raises(ConfigurationError, match=f"num_threads is {num_threads}; it must be 1 or more"):
        vitascope.load("/no/such/folder", num_threads=num_threads)


def test_what_may_be_left_out_may_be_none() -> None:
    with pytest.raises(VitascopeError, match="There is no folder"):
        vitascope.load("/no/such/folder", dtype=None, num_threads=None, revision=None, loras=None)


def test_files_are_read_as_paths_or_texts() -> None:
    (ink,) = adapters_of({"ink.high": Path("a.safetensors")})
    assert (ink.name, ink.expert, ink.path) == ("ink", "high", Path("a.safetensors"))
    assert files_of("a.gguf") == files_of(Path("a.gguf")) == {"transformer": Path("a.gguf")}
    assert files_of({"transformer_2": "b.gguf"}) == {"transformer_2": Path("b.gguf")}
    assert files_of(None) == {}


@pytest.mark.parametrize("loras", [["a"], "a", {"a": "1"}, {1: 1.0}, {"a": True}, {"a": None}])
def test_adapters_of_a_clip_are_names_with_scales(loras: Any) -> None:
    with pytest.raises(InvalidType, match="it must be a mapping of names to scales"):
        wish_of("a cat", Media(), loras, {})
    assert wish_of("a cat", Media(), {"a": np.float32(0.5), "b": 1}, {}).loras == (("a", 0.5), ("b", 1.0))
