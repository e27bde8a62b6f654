"""`vitascope doctor`: what this machine has, what would run on it, what is missing and how to get it."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

import vitascope
from vitascope.cli.estimates import Fit, fits
from vitascope.cli.flags import taking
from vitascope.cli.machine import Machine, look
from vitascope.config import load_settings

if TYPE_CHECKING:
    from vitascope.card import ModelCard
    from vitascope.cli.checks import Check

STYLES = {"ok": "green", "note": "yellow", "broken": "bold red"}
GIGA = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """Which server shall be examined; what is not said comes from `VITASCOPE_*` variables, as for `serve`."""

    model_path: Annotated[
        str | None,
        typer.Option(help="Model folder or hub id; the bundled one if not given.", show_default=False),
    ] = None
    data_dir: Annotated[Path | None, typer.Option(help="Where jobs would be kept.", show_default=False)] = (
        None
    )
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default=False)] = None
    port: Annotated[int | None, typer.Option(help="Port to listen on.", show_default=False)] = None
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default=False)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How to answer, and which settings file is read."""

    config: Annotated[Path | None, typer.Option(help="TOML file with settings.", show_default=False)] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False


@taking(Examined, Style)
def doctor(examined: Examined, style: Style) -> None:
    """Say what this machine has and what would run on it; exit status 1 if `serve` would not work."""
    from vitascope.cli.checks import check_all

    logging.getLogger(vitascope.__name__).addHandler(logging.NullHandler())  # checks say what fails
    settings = load_settings(asdict(examined), file=style.config)
    machine = look(settings.data_dir)
    checks, card = check_all(settings, machine)
    estimates = fits(*_room(machine))
    if style.as_json:
        told = {"machine": machine, "checks": checks, "model": card, "estimates": estimates}
        typer.echo(msgspec.json.format(msgspec.json.encode(told)).decode())
    else:
        _print(machine, checks, card, estimates)
    raise typer.Exit(1 if any(check.verdict == "broken" for check in checks) else 0)


def _room(machine: Machine) -> tuple[int, int]:
    """Return the memory a model may take, of the largest device if there is one, and the bytes of a weight.

    Weights are bfloat16 on an accelerator and float32 on the CPU.
    """
    if machine.devices:
        return max(device.memory_bytes for device in machine.devices), 2
    return machine.memory_bytes, 4


def _print(machine: Machine, checks: list[Check], card: ModelCard | None, estimates: list[Fit]) -> None:
    console = Console(highlight=False)
    for line in _facts(machine):
        console.print(line, markup=False, soft_wrap=True)
    console.print()
    for check in checks:
        console.print(f"{check.verdict:<7}", style=STYLES[check.verdict], end="")
        console.print(f"{check.name}: {check.found}", markup=False, soft_wrap=True)
        if check.remedy is not None:
            console.print(f"{'':<7}{check.remedy}", markup=False, soft_wrap=True)
    if card is not None:
        console.print(f"{'':<7}{card.name} does {', '.join(card.tasks)}", markup=False)
    room, weight_bytes = _room(machine)
    console.print("\nestimated, not measured: all weights loaded, with a quarter more to work in;")
    console.print(f"{weight_bytes} bytes a weight, {room / GIGA:.0f} GB of memory", markup=False)
    console.print(_table(estimates))


def _facts(machine: Machine) -> list[str]:
    cuda = "without CUDA" if machine.torch_cuda is None else f"CUDA {machine.torch_cuda}"
    devices = [f"  {device.name}, {device.memory_bytes / GIGA:.0f} GB" for device in machine.devices]
    return [
        f"vitascope {vitascope.__version__}, Python {machine.python}, torch {machine.torch} ({cuda})",
        f"cores {machine.cores} of {machine.machine_cores}, memory {machine.memory_bytes / GIGA:.1f} GB",
        f"disk {machine.disk_free_bytes / GIGA:.1f} GB free for data",
        *(["accelerators:", *devices] if devices else ["no accelerator: models run on the CPU, in float32"]),
    ]


def _table(estimates: list[Fit]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("published model")
    table.add_column("needs", justify="right")
    table.add_column("would fit")
    for fit in estimates:
        table.add_row(fit.model, f"{fit.needs_bytes / GIGA:.0f} GB", "yes" if fit.fits else "no")
    return table
