"""Run every case of the contract suite against its reference and write what came out as a Markdown table.

`make parity` writes it to docs/parity.md. With names of cases as arguments it prints their rows alone.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import tiny_families  # noqa: F401  (adds every family's cases)
from tiny_models import CASES, Tiny, tiny
from vitascope.engine.engine import Engine
from vitascope.engine.events import Completed

DOCUMENT = Path(__file__).parent.parent / "docs" / "parity.md"
HEADER = """\
# Parity with the references

Made by `make parity`; do not edit. Each row is one kind of checkpoint and one task: a tiny random checkpoint
with the real pipeline's structure is saved as a diffusers folder, loaded by Vitascope and by the diffusers
pipeline of the same name, and both make the same clip from the same seed, in float32 on one CPU thread.

*Latents* is the largest difference of the final latents over the largest latent; *frames* the largest
difference of any colour value, in levels of 255 (the decoders' convolutions may sum in another order).
*Seconds* are processor time for the whole clip, ours and the reference's; the networks are so small that they
compare what surrounds them and not speed at real sizes. Ours had encoded the prompt before, and kept it.

HunyuanVideo's and HunyuanVideo 1.5's text padding is trimmed or masked otherwise than in the reference, which
changes the order of sums: latents agree to 2e-6.

| family | case | task | latents | bit-exact | frames | seconds, ours | reference's |
|---|---|---|---|---|---|---|---|
"""


def ours(model: Tiny) -> tuple[Any, np.ndarray, float]:
    """Return final latents, frames and seconds."""
    engine, chunks, began = Engine(model.family), [], time.process_time()
    engine.start("job", model.request(), model.case.media, sink=chunks.append)
    latents = None
    while engine.busy:
        for event in engine.tick():
            if isinstance(event, Completed):
                latents = event.latents
    seconds = time.process_time() - began
    return latents, np.concatenate([chunk.frames for chunk in chunks]), seconds


def streams(latents: Any) -> Iterable[Any]:
    """Return the latents of each stream, in the order of their names."""
    return [latents[name] for name in sorted(latents)] if isinstance(latents, dict) else [latents]


def row(name: str) -> str:
    """Run one case."""
    model = tiny(name)
    ours(model)  # once before the clock: both sides have filled their caches by then
    latents, frames, seconds = ours(model)
    theirs = model.reference(model.request())
    began = time.process_time()
    pixels = (model.reference(model.request(), "np")[0] * 255).round().astype(int)
    reference_s = time.process_time() - began
    pairs = list(zip(streams(latents), streams(theirs), strict=True))
    error = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
    levels = int(np.abs(frames.astype(int) - pixels).max())
    family, task = model.family.card.family, model.request().task
    exact = "yes" if error == 0 else "no"
    return (
        f"| `{family}` | {name} | {task} | {error:.1g} | {exact} | {levels} "
        f"| {seconds:.2f} | {reference_s:.2f} |"
    )


def rows(names: Iterable[str]) -> Iterator[str]:
    """Run cases, with what libraries draw on the terminal kept away."""
    for name in names:
        with contextlib.redirect_stderr(io.StringIO()):
            line = row(name)
        print(line, flush=True)
        yield line


def main() -> None:
    """Print the table, and keep a whole one."""
    chosen = sys.argv[1:] or sorted(CASES)
    lines = list(rows(chosen))
    if not sys.argv[1:]:
        DOCUMENT.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
