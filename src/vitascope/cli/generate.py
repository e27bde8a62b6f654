"""`vitascope generate`: a prompt becomes a file."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from vitascope.cli.config_file import use_config
from vitascope.cli.flags import taking
from vitascope.cli.options import Pictures, Runtime, Wishes
from vitascope.cli.output import Output
from vitascope.cli.progress import StepBar, pace
from vitascope.observability.logs import set_up_logging

if TYPE_CHECKING:
    from vitascope.library import Clip


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


@taking(Source, Wishes, Pictures, Runtime, Output)
def generate(_source: Source, wishes: Wishes, pictures: Pictures, runtime: Runtime, output: Output) -> None:
    """Make a clip from a prompt, and from pictures if given, and write it as MP4."""
    set_up_logging("warning")
    pictures.check()
    output.check()
    console = Console(stderr=True)
    began = time.perf_counter()
    with StepBar(console) as bar:
        card = runtime.describe(on_download=bar.download)
        inputs: dict[str, Any] = pictures.fitted(wishes, card, runtime.settings().max_input_pixels)
        wishes.check(inputs, card)
        model = runtime.load()
        loaded = time.perf_counter()
        bar.begin()
        clip = model.generate(**wishes.given(), **inputs, loras=runtime.chosen(), on_progress=bar.update)
    for warning in clip.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    paths = output.write(clip)
    _report(clip, paths, load_s=loaded - began, total_s=time.perf_counter() - began)


def _report(clip: Clip, paths: list[Path], *, load_s: float, total_s: float) -> None:
    for path in paths:
        typer.echo(path)
    if not paths:
        typer.echo("nothing was written (--no-save-output)")
    request, stages = clip.request, clip.stats.stage_s
    typer.echo(
        f"  {request.num_frames} frames of {request.width}x{request.height} at {request.fps:g} fps "
        f"({request.duration_s:.2f} s), seed {request.seed}"
    )
    timing = {"load": load_s, **stages, "total": total_s}
    speed = pace(request.num_inference_steps / stages["denoise"])
    typer.echo(
        "  " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in timing.items()) + f" ({speed})"
    )
