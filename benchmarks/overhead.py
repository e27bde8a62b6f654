"""Our whole time against diffusers' `WanPipeline`: same weights, prompts, steps, threads and MP4 writer.

    python benchmarks/overhead.py [--model FOLDER] [--rounds 7] [--steps N] [--frames N] [--size WxH]

Both make the same clip in turns (the order swaps every round), each from prompt to a closed MP4 file. Printed
are the medians of wall and CPU seconds for a clip, and their ratios; CPU seconds count every thread of the
process.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import WanPipeline

import vitascope
from vitascope.config import BUNDLED_MODEL
from vitascope.library import Model
from vitascope.media.video import VideoWriter
from vitascope.request import GenerationRequest

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "gray", "black")


def main() -> None:
    args = _arguments()
    torch.set_num_threads(1)
    model = vitascope.load(args.model, device="cpu")
    wishes = {"num_inference_steps": args.steps, "num_frames": args.frames}
    if args.size:
        wishes["width"], wishes["height"] = map(int, args.size.split("x"))
    wishes = {name: value for name, value in wishes.items() if value is not None}
    pipeline = WanPipeline.from_pretrained(args.model)
    pipeline.set_progress_bar_config(disable=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        request = ours(model, 0, wishes, path)  # both run once to warm up
        theirs(pipeline, 0, request, path)
        runs = {
            "vitascope": lambda i: ours(model, i, wishes, path),
            "WanPipeline": lambda i: theirs(pipeline, i, request, path),
        }
        seconds = measure(runs, args.rounds)
    print(
        f"{model.card.name}: {request.width}x{request.height}, {request.num_frames} frames, "
        f"{request.num_inference_steps} steps, guidance {request.guidance_scale:g}, one thread, "
        f"{args.rounds} rounds, medians"
    )
    report(seconds)


def prompt(i: int) -> str:
    """Another prompt each round, so that our prompt cache gains nothing but the negative prompt."""
    return f"a {COLOURS[i % 10]} circle moving right on a {COLOURS[(i // 10 + i + 3) % 10]} background"


def ours(model: Model, i: int, wishes: dict, path: Path) -> GenerationRequest:
    """One clip through the Python API."""
    clip = model.generate(prompt(i), seed=i, **wishes)
    clip.save(path)
    return clip.request


def theirs(pipeline: WanPipeline, i: int, request: GenerationRequest, path: Path) -> None:
    """One clip through the pipeline, written by the same writer (`export_to_video` takes longer)."""
    frames = pipeline(
        prompt=prompt(i),
        negative_prompt=request.negative_prompt,
        height=request.height,
        width=request.width,
        num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        max_sequence_length=request.max_sequence_length,
        generator=torch.Generator().manual_seed(i),
    ).frames[0]
    with VideoWriter(path, width=request.width, height=request.height, fps=request.fps) as writer:
        writer.write((frames * 255).round().astype(np.uint8))


def measure(runs: dict[str, Callable[[int], object]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Time each run `rounds` times in turns: (wall, CPU) seconds."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for i in range(1, rounds + 1):
        for name in sorted(runs, reverse=bool(i % 2)):
            wall, cpu = time.perf_counter(), time.process_time()
            runs[name](i)
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return seconds


def report(seconds: dict[str, list[tuple[float, float]]]) -> None:
    """Print the table."""
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in seconds.items()
    }
    print(f"{'':12} {'wall s':>8} {'CPU s':>8}")
    for name, (wall, cpu) in medians.items():
        print(f"{name:12} {wall:8.3f} {cpu:8.3f}")
    ratios = [a / b for a, b in zip(medians["vitascope"], medians["WanPipeline"], strict=True)]
    print(f"{'ratio':12} {ratios[0]:8.3f} {ratios[1]:8.3f}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=BUNDLED_MODEL)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--size", help="WxH")
    return parser.parse_args()


if __name__ == "__main__":
    main()
