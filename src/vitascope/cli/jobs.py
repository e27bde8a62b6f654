"""`vitascope jobs`: the jobs of a running server, listed, followed, fetched and ended."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from vitascope.cli.flags import taking
from vitascope.cli.output import whole_file
from vitascope.cli.progress import JobBar
from vitascope.cli.reach import Reach, print_json
from vitascope.errors import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from vitascope.cli.remote import Video

COMPLETED, FAILED, ENDED_BY_SOMEONE = 0, 1, 3
PROMPT_WIDTH = 28

app = typer.Typer(help="List, follow, fetch and end the jobs of a running server.", no_args_is_help=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class One:
    """One job."""

    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job's id.", show_default=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Some:
    """One job or several."""

    job_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of jobs.", show_default=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """How much to list."""

    limit: Annotated[int, typer.Option(help="How many of the newest jobs.", min=1)] = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a clip goes."""

    output_path: Annotated[
        Path | None,
        typer.Option(
            "--output-path",
            "-o",
            help="File to write; ID.mp4 or ID-INDEX.mp4 if not given.",
            show_default=False,
        ),
    ] = None
    index: Annotated[int, typer.Option(help="Which of a job's several clips, counted from 0.", min=0)] = 0
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of that name.")] = False


@app.command("list")
@taking(Listing, Reach)
def list_jobs(listing: Listing, reach: Reach) -> None:
    """List the newest jobs."""
    with reach.remote() as remote:
        videos = list(remote.jobs(listing.limit))
    if reach.as_json:
        print_json(videos)
    elif not videos:
        typer.echo("there are no jobs")
    else:
        Console().print(_table(videos))


@app.command()
@taking(One, Reach)
def show(one: One, reach: Reach) -> None:
    """Show all that the server says of a job."""
    with reach.remote() as remote:
        video = remote.job(one.job_id)
    if reach.as_json:
        print_json(video)
        return
    for name, value in video.items():
        if value not in (None, [], {}):
            typer.echo(f"{name:<16} {_moment(value) if name.endswith('_at') else _shown(value)}")


@app.command()
@taking(One, Reach)
def watch(one: One, reach: Reach) -> None:
    """Follow a job to its end; exit status 0 if it completed, 1 if it failed, 3 if somebody ended it.

    With --json each event is one line.
    """
    bar = JobBar(Console(stderr=True))
    with reach.remote() as remote, nullcontext() if reach.as_json else bar:
        for name, data in remote.events(one.job_id):
            if reach.as_json:
                typer.echo(json.dumps({"event": name, **data}))
            if name == "status":
                bar.update(data)
            elif name in {"done", "deleted"}:
                fate, line = _fate(name, data)
                break
        else:
            raise Unavailable("The server ended the stream before the job was done; watch it again.")
    if not reach.as_json:
        typer.echo(line)
    raise typer.Exit(fate)


@app.command()
@taking(Some, Reach)
def cancel(some: Some, reach: Reach) -> None:
    """Cancel jobs: each stops at its next step and is kept in the list; a finished one is left as it is."""
    with reach.remote() as remote:
        for job_id in some.job_ids:
            video = remote.cancel(job_id)
            print_json(video) if reach.as_json else typer.echo(f"{job_id}: {_state(video)}")


@app.command()
@taking(Some, Reach)
def delete(some: Some, reach: Reach) -> None:
    """Delete jobs and their files; those that wait or run are cancelled first."""
    with reach.remote() as remote:
        for job_id in some.job_ids:
            gone = remote.delete(job_id)
            print_json(gone) if reach.as_json else typer.echo(f"{job_id}: deleted")


@app.command()
@taking(One, Target, Reach)
def download(one: One, target: Target, reach: Reach) -> None:
    """Write a finished job's clip to a file."""
    name = Path(one.job_id).name
    path = target.output_path or Path(f"{name}-{target.index}.mp4" if target.index else f"{name}.mp4")
    if path.exists() and not target.overwrite:
        raise InvalidRequest(f"{path} exists; choose another name or use --overwrite.", param="output_path")
    with reach.remote() as remote, whole_file(path) as part:
        size = remote.download(one.job_id, part, target.index)
    if reach.as_json:
        print_json({"id": one.job_id, "path": str(path), "bytes": size})
    else:
        typer.echo(f"{path} ({size:,} bytes)")


def _table(videos: list[Video]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("id", no_wrap=True)
    for heading in ("status", "age", "clip", "prompt"):
        table.add_column(heading)
    for video in videos:
        clip = f"{video['size']}x{video['num_frames']}"
        prompt = video["prompt"] or ""
        short = prompt if len(prompt) <= PROMPT_WIDTH else f"{prompt[: PROMPT_WIDTH - 1]}…"
        table.add_row(video["id"], _state(video), _age(time.time() - video["created_at"]), clip, short)
    return table


def _state(video: Video) -> str:
    """Say in a word or two how far a job is."""
    if video["status"] == "in_progress":
        return f"{video['progress']} %"
    if video["status"] == "queued" and video["queue_position"] is not None:
        return f"queued, {video['queue_position']} before"
    return str(video["error"]["code"]) if _was_cancelled(video) else str(video["status"])


def _was_cancelled(video: Video) -> bool:
    return video["error"] is not None and video["error"]["code"] == "cancelled"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def _fate(event: str, video: Video) -> tuple[int, str]:
    """Return the exit status and the line that end a watch."""
    if event == "deleted":
        return ENDED_BY_SOMEONE, f"{video['id']} was deleted"
    if video["status"] == "completed":
        took = f" in {video['inference_time_s']:.2f} s" if video["inference_time_s"] is not None else ""
        return COMPLETED, f"{video['id']} completed{took}"
    if _was_cancelled(video):
        return ENDED_BY_SOMEONE, f"{video['id']} was cancelled"
    return FAILED, f"{video['id']} failed: {video['error']['message']}"


def _moment(unix_s: float) -> str:
    """Write a time as this machine's clock shows it, with its zone."""
    return datetime.fromtimestamp(unix_s, UTC).astimezone().isoformat(timespec="seconds")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
