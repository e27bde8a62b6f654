"""The examples in the documents, found by page, section and language, for the tests that run them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIALECTS = ROOT / "docs" / "dialects.md"
QUICKSTART = ROOT / "docs" / "quickstart.md"
README = ROOT / "README.md"
WRITTEN_URL = "http://127.0.0.1:8000"  # where the examples' server is


def blocks(page: Path, language: str, *, section: str | None = None) -> list[str]:
    """Return the fenced blocks of one language, of the whole page or of one section of it."""
    text = page.read_text(encoding="utf-8")
    if section is not None:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(console: str) -> list[str]:
    """Return the commands of a console block: no prompts, no output, continued lines joined."""
    text = console.replace("\\\n", " ")
    return [line[2:] for line in text.splitlines() if line.startswith("$ ")]
