"""`vitascope generate`: a prompt becomes a file."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from vitascope.cli.config_file import use_config
from vitascope.cli.flags import taking
from vitascope.cli.options import Pictures, Runtime, SourceClip, Wishes
from vitascope.cli.output import Output
from vitascope.cli.perf import Perf, StepWatch
from vitascope.cli.progress import StepBar, pace
from vitascope.cli.prompts import Prompts
from vitascope.observability.logs import set_up_logging

if TYPE_CHECKING:
    from vitascope.engine.events import Advanced
    from vitascope.library import Clip, OnProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where flags may come from besides the command line."""

    config: Annotated[
        Path | None,
        typer.Option(
            help="JSON or YAML file with any of these flags, flat or in groups; flags win.",
            is_eager=True,
            callback=use_config,
            show_default=False,
        ),
    ] = None


@taking(Source, Prompts, Wishes, Pictures, SourceClip, Runtime, Output, Perf)
def generate(  # noqa: PLR0917  # one value for each group of flags
    _source: Source,
    prompts: Prompts,
    wishes: Wishes,
    pictures: Pictures,
    source: SourceClip,
    runtime: Runtime,
    output: Output,
    perf: Perf,
) -> None:
    """Make a clip from a prompt, and from pictures or a clip if given, and write it as MP4."""
    set_up_logging("warning")
    takes = prompts.takes(wishes.seed)
    wishes.check_agree()
    pictures.check()
    source.check(pictures)
    output.check(len(takes))
    perf.check(len(takes), overwrite=output.overwrite)
    began = time.perf_counter()
    with StepBar(Console(stderr=True)) as bar:
        card = runtime.describe(on_download=bar.download)
        output.check_sound(card)
        for take in takes:
            wishes.check(take, pictures, source, card)
        inputs: dict[str, Any] = pictures.fitted(wishes, card, runtime.settings().max_input_pixels)
        inputs |= source.given(pictures.resize_mode)
        model = runtime.load(on_load=bar.load)
    load_s = time.perf_counter() - began
    asked = wishes.given() | inputs | {"loras": runtime.chosen()}
    for number, take in enumerate(takes, 1):
        watch, clip = _make(model.extend if source.extend else model.generate, asked | take)
        paths = output.write(clip, number if len(takes) > 1 else None)
        total_s = time.perf_counter() - began
        _report(clip, paths, load_s=load_s, total_s=total_s)
        perf.write(clip, watch, load_s=load_s, total_s=total_s)
        began, load_s = time.perf_counter(), 0.0  # the next one finds the model loaded


def _make(make: Callable[..., Clip], asked: dict[str, Any]) -> tuple[StepWatch, Clip]:
    """Make one clip with a bar that is gone before anything is printed, and say what it was warned of."""
    console, watch = Console(stderr=True), StepWatch()
    with StepBar(console) as bar:
        bar.begin()
        clip = make(**asked, on_progress=_both(bar.update, watch.update))
    for warning in clip.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    return watch, clip


def _both(one: OnProgress, other: OnProgress) -> OnProgress:
    def update(event: Advanced) -> None:
        one(event)
        other(event)

    return update


def _report(clip: Clip, paths: list[Path], *, load_s: float, total_s: float) -> None:
    for path in paths:
        typer.echo(path)
    if not paths:
        typer.echo("nothing was written (--no-save-output)")
    request, stages = clip.request, clip.stats.stage_s
    typer.echo(
        f"  {request.total_frames} frames of {request.width}x{request.height} at {request.fps:g} fps "
        f"({request.duration_s:.2f} s), seed {request.seed}"
    )
    timing = {"load": load_s, **stages, "total": total_s}
    speed = pace(request.num_steps / stages["denoise"])
    typer.echo(
        "  " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in timing.items()) + f" ({speed})"
    )
