"""What `serve` needs, tried one by one: each check says what it found and, where it can, what to do."""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

from packaging.requirements import Requirement

from vitascope.card import ModelCard
from vitascope.cli.machine import ENCODERS, Machine, nearest_folder
from vitascope.config import Settings
from vitascope.errors import CheckpointError, VitascopeError
from vitascope.scheduler.launch_rules import configured

PACKAGE = "vitascope"
Verdict = Literal["ok", "note", "broken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was tried; `broken` keeps `serve` from working, a `note` does not."""

    name: str
    verdict: Verdict
    found: str
    remedy: str | None = None


def check_all(settings: Settings, machine: Machine) -> tuple[list[Check], ModelCard | None]:
    """Try everything that `serve` with these settings needs; return the first model's card, if it has one."""
    (_, first, card), *others = [(spec.uid, *_model(its)) for spec, its in configured(settings)]
    models = [first, *(replace(check, name=f"model {uid}") for uid, check, _ in others)]
    checks = [*_packages(), *_torch(machine), _device(settings), *_encoders(machine)]
    return [*checks, _data_dir(settings), *_database(settings), _port(settings), *models], card


def _packages() -> Iterator[Check]:
    try:
        wanted = [Requirement(line) for line in requires(PACKAGE) or ()]
    except PackageNotFoundError:
        yield Check(
            name="packages", verdict="note", found="not installed as a package", remedy="pip install -e ."
        )
        return
    needed = [need for need in wanted if need.marker is None or need.marker.evaluate({"extra": ""})]
    missing = [str(need) for need in needed if not _installed(need)]
    if missing:
        line = "pip install " + " ".join(f"'{need}'" for need in missing)
        yield Check(name="packages", verdict="broken", found=f"missing: {', '.join(missing)}", remedy=line)
    else:
        yield Check(name="packages", verdict="ok", found=f"all {len(needed)} are installed")
    yield from _extras(wanted)


def _extras(wanted: list[Requirement]) -> Iterator[Check]:
    """Look for the optional packages: each extra is what some feature asks for by name."""
    extras = {name for need in wanted for name in _extras_of(need)} - {"dev"}
    for extra in sorted(extras):
        missing = [need.name for need in wanted if extra in _extras_of(need) and not _installed(need)]
        if missing:
            found = f"optional, not installed: {', '.join(missing)}"
            line = f"pip install '{PACKAGE}[{extra}]'"
            yield Check(name=f"extra {extra}", verdict="note", found=found, remedy=line)
        else:
            yield Check(name=f"extra {extra}", verdict="ok", found="installed")


def _extras_of(need: Requirement) -> set[str]:
    """Return the extra that asks for it, as its marker is written."""
    return set(re.findall(r'extra == "([^"]+)"', str(need.marker or "")))


def _installed(need: Requirement) -> bool:
    try:
        return need.specifier.contains(version(need.name), prereleases=True)
    except PackageNotFoundError:
        return False


def _torch(machine: Machine) -> Iterator[Check]:
    if machine.has_nvidia_driver and machine.torch_cuda is None:
        yield Check(
            name="torch",
            verdict="note",
            found=f"this machine has an NVIDIA driver, and torch {machine.torch} is built without CUDA",
            remedy="pip install --force-reinstall torch",
        )
    if machine.has_nvidia_driver and machine.cuda_trouble is not None:
        yield Check(
            name="torch",
            verdict="note",
            found=f"torch {machine.torch} cannot use this machine's NVIDIA driver: {machine.cuda_trouble}",
            remedy="update the driver, or install a torch that is built for it: https://pytorch.org",
        )
    for name in dict.fromkeys(device.name for device in machine.devices if not device.computes_bfloat16):
        yield Check(
            name="bfloat16",
            verdict="note",
            found=f"{name} only emulates bfloat16, in which models run on it",
            remedy="another dtype is faster there, where the model allows it: --dtype",
        )


def _device(settings: Settings) -> Check:
    from vitascope.engine.load import pick_device

    try:
        return Check(name="device", verdict="ok", found=f"{settings.device}: {pick_device(settings.device)}")
    except VitascopeError as error:
        return Check(name="device", verdict="broken", found=error.message)


def _encoders(machine: Machine) -> Iterator[Check]:
    for name in ENCODERS:
        if name in machine.encoders:
            yield Check(name=f"encoder {name}", verdict="ok", found="PyAV has it")
        else:
            line = "pip install --force-reinstall av"
            yield Check(name=f"encoder {name}", verdict="broken", found="PyAV lacks it", remedy=line)


def _data_dir(settings: Settings) -> Check:
    """Write where the data folder is or will be; nothing stays."""
    try:
        with tempfile.TemporaryFile(dir=nearest_folder(settings.data_dir)):
            return Check(name="data folder", verdict="ok", found=f"{settings.data_dir} can be written")
    except OSError as error:
        found = f"{settings.data_dir} cannot be written: {error.strerror}"
        return Check(name="data folder", verdict="broken", found=found, remedy="choose another: --data-dir")


def _database(settings: Settings) -> Iterator[Check]:
    """Look at the database of jobs, unless it is a file that `serve` makes."""
    from vitascope.jobs.standing import look_at

    if settings.database_url is None and not settings.database_path.is_file():
        return
    try:
        found = look_at(settings.store_url)
    except VitascopeError as error:
        yield Check(name="database", verdict="broken", found=error.message)
        return
    to_come = f"`serve` will apply {found.num_to_apply} migrations"
    schema = to_come if found.num_to_apply else "its schema is up to date"
    if found.in_use:
        remedy = "stop that one, or give each a database of its own: --database-url"
        used = f"another server uses {found.place}"
        yield Check(name="database", verdict="broken", found=used, remedy=remedy)
    else:
        yield Check(name="database", verdict="ok", found=f"{found.place} can be reached; {schema}")


def _port(settings: Settings) -> Check:
    place = f"{settings.host}:{settings.port}"
    try:
        settings.check_exposure()
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        with socket.create_server((settings.host, settings.port), family=family):
            return Check(name="address", verdict="ok", found=f"{place} is free")
    except VitascopeError as error:
        return Check(name="address", verdict="broken", found=error.message)
    except OSError as error:
        found = f"{place} cannot be used: {error.strerror}"
        return Check(name="address", verdict="broken", found=found, remedy="choose another: --port")


def _model(settings: Settings) -> tuple[Check, ModelCard | None]:
    """Read the model's card; a hub model that is not here yet is no fault, `serve` downloads it."""
    from vitascope.engine.load import describe_model

    try:
        card = describe_model(replace(settings.model_source, offline=True))
    except CheckpointError as error:
        if settings.model_source.from_hub and not settings.offline:
            found = f"{settings.model_path} is not here; `serve` downloads it if the hub has it"
            return Check(name="model", verdict="note", found=found), None
        return Check(name="model", verdict="broken", found=error.message), None
    except VitascopeError as error:
        return Check(name="model", verdict="broken", found=error.message), None
    size = sum(card.components.values()) / 1e6
    return Check(name="model", verdict="ok", found=f"{card.name} ({card.family}), {size:,.1f} MB"), card
