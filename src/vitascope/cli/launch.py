"""`vitascope launch`, `list` and `terminate`: the models of a running server."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from vitascope.cli.flags import taking
from vitascope.cli.progress import LaunchBar
from vitascope.cli.reach import Reach, print_json
from vitascope.errors import InvalidRequest, VitascopeError, of_code

if TYPE_CHECKING:
    from vitascope.cli.remote import Instance, Remote

POLL_S = 0.5
INTERRUPTED = 130
_WORDS: dict[str, Any] = {"none": None, "null": None, "true": True, "false": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to launch."""

    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A name that the server knows, a hub id or a folder on its machine; as --model-name.",
            show_default=False,
        ),
    ] = None
    model_name: Annotated[
        str | None,
        typer.Option(help="The same; with --model-path only the name to serve it under.", show_default=False),
    ] = None
    model_path: Annotated[
        str | None, typer.Option(help="Folder or hub id to load instead.", show_default=False)
    ] = None
    model_uid: Annotated[
        str | None,
        typer.Option(help="Name under which requests ask for the model; its own if not given."),
    ] = None
    model_type: Annotated[str, typer.Option(help="Its type; there is one.")] = "video"
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a hub model.", show_default=False)
    ] = None
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N; the server's own if not given.")
    ] = None
    dtype: Annotated[
        str | None,
        typer.Option(help="float32, bfloat16 or float16; the server's own if not given."),
    ] = None
    lora: Annotated[
        list[str] | None,
        typer.Option(
            help="Adapter to offer: NAME=PATH or NAME=PATH:WEIGHT, on the server's machine. May be repeated.",
            metavar="NAME=PATH",
        ),
    ] = None
    keys: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Another key of the launch; `--cpu_offload False` is short for `--set cpu_offload=False`.",
            metavar="KEY=VALUE",
        ),
    ] = None
    wait: Annotated[bool, typer.Option(help="Wait until the model is ready; Ctrl-C then cancels.")] = True

    def body(self) -> dict[str, Any]:
        """Return what the server is asked. Raises `InvalidRequest` for a key that is said twice."""
        if self.model is not None and self.model_name not in (None, self.model):
            raise InvalidRequest(
                f"MODEL is {self.model!r} and --model-name {self.model_name!r}; give one.", param="model_name"
            )
        said = {
            "model_name": _found(self.model or self.model_name),
            "model_path": _found(self.model_path),
            "model_uid": self.model_uid,
            "model_type": self.model_type,
            "revision": self.revision,
            "device": self.device,
            "dtype": self.dtype,
            "lora": self.lora or None,
        }
        body = {name: value for name, value in said.items() if value is not None}
        for text in self.keys or ():
            name, value = _key(text)
            if name in body:
                raise InvalidRequest(f"{name} is given twice.", param=name)
            body[name] = value
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which models."""

    uids: Annotated[
        list[str] | None, typer.Argument(metavar="UID...", help="Uids of models.", show_default=False)
    ] = None
    model_uid: Annotated[str | None, typer.Option(help="The same, of one model.", show_default=False)] = None


@taking(Launch, Reach)
def launch(what: Launch, reach: Reach) -> None:
    """Launch a model on a running server and wait until it is ready; Ctrl-C cancels the launch.

    Xinference's flags are understood: `--model-name`, `-mp`, `-u`, `-lm NAME PATH`, `--n-gpu`, and any
    `--key value` of its launch. A key that cannot be honoured is refused by name.
    """
    body = what.body()
    with reach.remote() as remote:
        launched = remote.launch(body)
        uid = str(launched["model_uid"])
        for warning in launched.get("warnings", ()):
            typer.echo(f"note: {warning}", err=True)
        if what.wait:
            _follow(remote, uid, LaunchBar(Console(stderr=True)))
        if reach.as_json:
            print_json(remote.instance(uid))
        else:
            typer.echo(f"{uid} is ready" if what.wait else f"{uid} is being loaded")


@taking(Reach)
def list_models(reach: Reach) -> None:
    """List the models of a running server: those that are ready, being loaded, or could not be."""
    with reach.remote() as remote:
        found = remote.instances()
    if reach.as_json:
        print_json(found)
    elif not found:
        typer.echo("there are no models")
    else:
        Console().print(_table(found))


@taking(Chosen, Reach)
def terminate(chosen: Chosen, reach: Reach) -> None:
    """Terminate models of a running server: their waiting and running jobs fail, finished ones stay."""
    uids = [*(chosen.uids or ()), *([chosen.model_uid] if chosen.model_uid else ())]
    if not uids:
        raise typer.BadParameter("Name a model: `vitascope list` shows their uids.")
    with reach.remote() as remote:
        for uid in uids:
            remote.terminate(uid)
            if reach.as_json:
                print_json({"model_uid": uid, "state": "terminated"})
            else:
                typer.echo(f"{uid}: terminated")


def _follow(remote: Remote, uid: str, bar: LaunchBar) -> None:
    """Show how a launch goes on until the model is ready; Ctrl-C cancels it.

    Raises:
        VitascopeError: it could not be loaded, or somebody else ended it.

    """
    try:
        with bar:
            while (instance := remote.instance(uid))["status"] == "CREATING":
                bar.update(instance)
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        remote.cancel_launch(uid)
        typer.echo(f"{uid}: the launch was cancelled", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if instance["status"] == "ERROR":
        raise of_code(instance["error_code"] or VitascopeError.code, f"{uid}: {instance['error']}")


def _found(place: str | None) -> str | None:
    """Return a folder of this machine with its whole path, anything else as it is."""
    if place is None or not ("/" in place or place.startswith(".")) or not Path(place).is_dir():
        return place
    return str(Path(place).resolve())


def _key(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidRequest(f"--set {text[:60]!r} is not KEY=VALUE.", param="set")
    return name.replace("-", "_"), _read(name, value)


def _read(name: str, text: str) -> Any:
    """Read a value as Xinference's command line does: a word, a number, JSON, else text."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if name == "gpu_idx" and "," in text:
        text = f"[{text}]"
    try:
        return json.loads(text, parse_constant=_no_number)
    except ValueError:
        return text


def _no_number(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _table(found: list[Instance]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("uid", no_wrap=True)
    for heading in ("type", "name", "source", "state"):
        table.add_column(heading)
    for instance in found:
        table.add_row(
            instance["model_uid"],
            instance["model_type"],
            instance["model_name"],
            instance["source"],
            _state(instance),
        )
    return table


def _state(instance: Instance) -> str:
    if instance["state"] == "loading":
        return f"{instance['progress']:.0%}, {instance['stage']}"
    return f"error: {instance['error']}" if instance["state"] == "error" else str(instance["state"])
