"""`vitascope models`: what ships with the package, and what a model folder can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from vitascope.cli.options import Runtime
from vitascope.config import BUNDLED_MODEL

if TYPE_CHECKING:
    from vitascope.card import ModelCard
    from vitascope.weights.checkpoint import Checkpoint

app = typer.Typer(help="List models, or show what one can do.", invoke_without_command=True)


@app.callback()
def list_models(ctx: typer.Context) -> None:
    """List the bundled model and the kinds of model folders that can be read."""
    if ctx.invoked_subcommand is not None:
        return
    from vitascope.models.registry import RECOGNISED

    typer.echo(f"bundled: {BUNDLED_MODEL.name} (used when no --model-path is given)")
    typer.echo("diffusers folders and hub ids of these pipelines:")
    for kind in RECOGNISED:
        typer.echo(
            f"  {kind.family:<17} {kind.pipeline:<35} {', '.join(kind.tasks):<20} {kind.checkpoints}".rstrip()
        )


@app.command()
def show(
    model: Annotated[
        str | None, typer.Argument(help="Model folder or hub id; the bundled model if not given.")
    ] = None,
    *,
    transformer_path: Annotated[
        list[str] | None, typer.Option(help="File in place of its transformer, as for serve.", metavar="FILE")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole card as JSON.")] = False,
) -> None:
    """Show what a model can do: tasks, native values, limits."""
    runtime = Runtime(model_path=model, transformer_path=transformer_path)
    card = runtime.describe()
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(card)).decode())
    else:
        checkpoint = _open(runtime)
        typer.echo("\n".join([_describe(card), *_files(checkpoint), *_needs(runtime, checkpoint)]))


def _open(runtime: Runtime) -> Checkpoint:
    from vitascope.weights.checkpoint import Checkpoint
    from vitascope.weights.find import find_model

    source = runtime.settings().model_source
    return Checkpoint.open(find_model(source), replaced=source.replaced)


def _files(checkpoint: Checkpoint) -> list[str]:
    """Tell what the files hold that come in place of the folder's."""
    from vitascope.weights.single_files import describe_single, read_single

    return [f"  {part} is {describe_single(read_single(path))}" for part, path in checkpoint.replaced.items()]


def _needs(runtime: Runtime, checkpoint: Checkpoint) -> list[str]:
    """Estimate memory and time on this machine."""
    from vitascope.engine.load import pick_placement
    from vitascope.engine.plan import matmul_speed, needs_of

    settings = runtime.settings()
    placement = pick_placement(settings.device, settings.asked_dtype, settings.vae_dtype)
    needs = needs_of(checkpoint, placement)
    speed = matmul_speed(placement.device, placement.dtype)
    where = f"{placement.device} in {str(placement.dtype).removeprefix('torch.')}"
    memory = f"{_size(needs.memory_bytes)}: weights {_size(needs.weights_bytes)}"
    working = f"denoising {_size(needs.denoising_bytes)}, then decoding {_size(needs.decoding_bytes)}"
    work = f"{needs.tokens:,} tokens, {needs.flops_per_step / 1e12:,.3g} TFLOP a step"
    pace = f"{needs.num_steps} steps take {needs.denoise_s(speed):,.3g} s at {speed / 1e12:.2g} TFLOP/s"
    return [
        f"  estimates for a native clip on {where}:",
        f"    memory {memory}, {working}",
        f"    {work}; {pace}",
    ]


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:,.1f} MB"


def _describe(card: ModelCard) -> str:
    rules, native = card.rules, card.defaults
    size = sum(card.components.values())
    shape = f"{native.width}x{native.height}, {native.num_frames} frames at {native.fps:g} fps"
    guidance = f"guidance {native.guidance_scale:g}"
    if native.guidance_scale_with_frames is not None:
        guidance += f" ({native.guidance_scale_with_frames:g} with given frames)"
    length = f"{rules.frame_stride}*k+1 frames up to {rules.max_frames}"
    lines = [
        f"{card.name} ({card.family}), {size / 1e6:,.1f} MB",
        f"  tasks    {', '.join(card.tasks)}",
        f"  native   {shape}, {native.num_inference_steps} steps, {guidance}",
        f"  limits   sides multiples of {rules.size_multiple}, {rules.max_pixels} pixels, {length}",
        f"  solvers  {', '.join(rules.solvers) or 'its own'}",
        *(f"  {name:<20} {size_bytes / 1e6:>10,.1f} MB" for name, size_bytes in card.components.items()),
    ]
    if card.prompt_guide is not None:
        lines += ["  prompts that work:", *(f"    {example}" for example in card.prompt_guide.examples)]
    return "\n".join(lines)
