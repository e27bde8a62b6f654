"""The words of the glossary are those of the code."""

from __future__ import annotations

import ast
import re

import pytest

from documents import ROOT

PAGE = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`((?:[a-z_0-9]+\.)+[A-Z]\w+)`", PAGE)))


def test_the_page_names_code() -> None:
    assert len(NAMES) > 20


@pytest.mark.parametrize("name", NAMES)
def test_what_the_page_names_is_there(name: str) -> None:
    module, _, kind = name.rpartition(".")
    source = (ROOT / "src" / "vitascope" / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    assert kind in {node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
