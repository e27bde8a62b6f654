"""The documents say what is so: examples run, commands and flags exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.core
import typer.main

from documents import README, ROOT, blocks, commands
from vitascope.cli.app import app
from vitascope.config import load_settings

DEPLOY = ROOT / "docs" / "how-to" / "deploy.md"
PAGES = sorted([README, ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")])
ROOT_COMMAND = typer.main.get_command(app)


def vitascope_calls() -> list[tuple[str, list[str]]]:
    found = []
    for page in PAGES:
        for line in commands("\n".join(blocks(page, "console"))):
            words = [w for w in shlex.split(line, comments=True) if not re.fullmatch(r"[A-Z_]+=.*", w)]
            if words[:1] == ["vitascope"]:
                found.append((page.name, words[1:]))
    return found


def command_of(words: list[str]) -> Any:
    """Follow the words down the groups of commands."""
    command: Any = ROOT_COMMAND
    for word in words:
        if not isinstance(command, typer.core.TyperGroup) or word not in command.commands:
            break
        command = command.commands[word]
    return command


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_the_readmes_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = [block for block in blocks(README, "python") if "vitascope.load" in block]
    exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "circle.mp4").read_bytes()[4:8] == b"ftyp"


def test_the_pages_have_commands_to_check() -> None:
    assert len(vitascope_calls()) > 5


@pytest.mark.parametrize(("page", "words"), vitascope_calls(), ids=lambda value: str(value)[:60])
def test_commands_and_flags_in_the_pages_exist(page: str, words: list[str]) -> None:
    command = command_of(words)
    assert command is not ROOT_COMMAND, f"{page}: vitascope {' '.join(words)}"
    flags = {flag for parameter in command.params for flag in parameter.opts}
    assert {word.split("=")[0] for word in words if word.startswith("--")} <= flags, page


def test_the_settings_file_and_the_unit_of_the_deploy_page_are_right(tmp_path: Path) -> None:
    [settings] = blocks(DEPLOY, "toml")
    (tmp_path / "settings.toml").write_text(settings)
    settled = load_settings(file=tmp_path / "settings.toml", environ={"VITASCOPE_API_KEY": "k"})
    assert (settled.log_json, settled.launch_rule) == (True, "off")
    assert f"{settled.data_dir / 'jobs.sqlite3'} " in DEPLOY.read_text(encoding="utf-8")
    [unit] = blocks(DEPLOY, "ini")
    words = re.findall(r"^ExecStart=\S+/vitascope (.*)$", unit, re.MULTILINE)[0].split()
    flags = {flag for parameter in command_of(words).params for flag in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= flags


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_the_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"
