"""Write docs/families.md out of the registry and of the cards of the contract suite's checkpoints."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import tiny_families  # noqa: F401  (adds every family's cases)
from tiny_models import CASES, tiny
from vitascope.card import ModelCard
from vitascope.models.registry import RECOGNISED

DOCUMENT = Path(__file__).parent.parent / "docs" / "families.md"
HEADER = """\
# Families

Made by `make docs`; do not edit. `vitascope models` prints the first table, `vitascope models show PATH` what
one folder is, its own values and its rules. A folder is recognised by its `model_index.json` and
configurations, never by its name; an unknown one is refused with this list.

| family | pipeline in `model_index.json` | tasks | published as |
|---|---|---|---|
"""
NATIVE = """
## Native values

What a request that says nothing gets. Where a size or length stands as *its own* it is in the folder's
configuration, as the flow shift is for all. *Only* that many steps: what the checkpoint is made for.

| kind | tasks | size | frames | fps | steps | guidance | at most | solvers, the native one first |
|---|---|---|---|---|---|---|---|---|
"""
_SMALLEST_PUBLISHED = 240  # pixels a side; below it is the tiny checkpoint's, and so from its configuration
_SHORTEST_PUBLISHED = 25


def kinds() -> Iterator[str]:
    """Return the rows of what is recognised."""
    for kind in RECOGNISED:
        yield f"| `{kind.family}` | `{kind.pipeline}` | {', '.join(kind.tasks)} | {kind.checkpoints} |"


def native(name: str, card: ModelCard) -> str:
    """Return the row of one kind of checkpoint."""
    d, rules = card.defaults, card.rules
    size = f"{d.width}x{d.height}" if d.height >= _SMALLEST_PUBLISHED else "its own"
    frames = str(d.num_frames) if d.num_frames >= _SHORTEST_PUBLISHED else "its own"
    steps = f"{d.num_inference_steps}" + (" only" if rules.min_steps == rules.max_steps else "")
    scales = [d.guidance_scale, d.guidance_scale_2]
    guidance = " and ".join(f"{scale:g}" for scale in scales if scale is not None)
    solvers = sorted(rules.solvers, key=lambda solver: solver != d.sample_solver)
    limits = f"{rules.max_frames} frames, {rules.max_pixels / 1e6:.1f} megapixels"
    cells = [name, ", ".join(card.tasks), size, frames, f"{d.fps:g}", steps, guidance, limits]
    cells.append(", ".join(solvers))
    return f"| {' | '.join(cells)} |"


def natives() -> Iterator[str]:
    """Return the rows of native values: one a kind of checkpoint, whatever the task it is tested at."""
    seen: set[str] = set()
    for name in sorted(CASES):  # whatever was imported first
        kind = name.removesuffix("_flf2v") if CASES[name].media.last_frame is not None else name
        card = tiny(name).family.card
        cells = native("", card)
        if (key := f"{card.family}{name.split('_')[0]}{cells}") not in seen:
            seen.add(key)
            yield native(f"`{card.family}` {kind.removesuffix('_t2v').removesuffix('_i2v')}", card)


def document() -> str:
    """Return the whole page."""
    return HEADER + "\n".join(kinds()) + "\n" + NATIVE + "\n".join(natives()) + "\n"


if __name__ == "__main__":
    with contextlib.redirect_stderr(io.StringIO()):
        text = document()
    DOCUMENT.write_text(text, encoding="utf-8")
