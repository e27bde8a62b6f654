"""`vitascope models`: what ships with the package, and what a model folder can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from vitascope.cli.options import Runtime
from vitascope.config import BUNDLED_MODEL

if TYPE_CHECKING:
    from vitascope.card import ModelCard

app = typer.Typer(help="List models, or show what one can do.", invoke_without_command=True)


@app.callback()
def list_models(ctx: typer.Context) -> None:
    """List the bundled model and the kinds of model folders that can be read."""
    if ctx.invoked_subcommand is not None:
        return
    from vitascope.models.registry import FAMILIES

    typer.echo(f"bundled: {BUNDLED_MODEL.name} (used when no --model-path is given)")
    typer.echo("diffusers folders and hub ids of these pipelines:")
    for pipeline in FAMILIES:
        typer.echo(f"  {pipeline}")


@app.command()
def show(
    model: Annotated[
        str | None, typer.Argument(help="Model folder or hub id; the bundled model if not given.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole card as JSON.")] = False,
) -> None:
    """Show what a model can do: tasks, native values, limits."""
    card = Runtime(model_path=model).describe()
    typer.echo(msgspec.json.format(msgspec.json.encode(card)).decode() if as_json else _describe(card))


def _describe(card: ModelCard) -> str:
    rules, native = card.rules, card.defaults
    size = sum(card.components.values())
    shape = f"{native.width}x{native.height}, {native.num_frames} frames at {native.fps:g} fps"
    length = f"{rules.frame_stride}*k+1 frames up to {rules.max_frames}"
    lines = [
        f"{card.name} ({card.family}), {size / 1e6:,.1f} MB",
        f"  tasks    {', '.join(card.tasks)}",
        f"  native   {shape}, {native.num_inference_steps} steps, guidance {native.guidance_scale:g}",
        f"  limits   sides multiples of {rules.size_multiple}, {rules.max_pixels} pixels, {length}",
        f"  solvers  {', '.join(rules.solvers) or 'its own'}",
        *(f"  {name:<20} {size_bytes / 1e6:>10,.1f} MB" for name, size_bytes in card.components.items()),
    ]
    if card.prompt_guide is not None:
        lines += ["  prompts that work:", *(f"    {example}" for example in card.prompt_guide.examples)]
    return "\n".join(lines)
