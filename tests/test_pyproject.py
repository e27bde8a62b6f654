"""What pyproject.toml says of the package is what the package is."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import packages_distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from documents import ROOT
from vitascope.models.registry import RECOGNISED

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# starlette and transformers import these for us
FOR_OTHERS = {"protobuf", "python-multipart", "sentencepiece"}


def test_every_family_is_kept_apart_from_the_others() -> None:
    contracts = {contract["name"]: contract for contract in PYPROJECT["tool"]["importlinter"]["contracts"]}
    families = {f"vitascope.models.{kind.family}" for kind in RECOGNISED}
    assert set(contracts["No family imports another"]["modules"]) == families


def test_every_dependency_is_imported() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    imported = set(re.findall(r"^\s*(?:from|import) (\w+)", source, re.MULTILINE))
    used = {
        canonicalize_name(distribution)
        for package, distributions in packages_distributions().items()
        for distribution in distributions
        if package in imported
    }
    needed = {canonicalize_name(Requirement(line).name) for line in PYPROJECT["project"]["dependencies"]}
    assert needed - used == FOR_OTHERS
