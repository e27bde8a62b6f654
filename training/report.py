"""The evaluation's report: figures beside their aims, contact sheets, and the model card's part of both."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Figures = dict[str, dict[str, float]]

LABELS = {
    "round trip": "true clips through the autoencoder",
    "move": "one shape moving in one of eight directions",
    "rotate": "turning",
    "grow": "growing",
    "shrink": "shrinking",
    "bounce": "bouncing",
    "still": "standing still",
    "two": "two shapes",
    "96x96": "moving, 96x96",
    "9 frames": "moving, 9 frames",
    "33 frames": "moving, 33 frames",
    "first frame given": "moving, first frame given",
    "both ends given": "moving, both ends given",
}
_LOOKS = {"sharpness": 0.7, "drift": 2.0}
_MAIN = {"background": 97.0, "colour": 97.0, "motion": 95.0, "shape": 90.0, "all": 85.0}
_SIZED = {part: aim - 10 for part, aim in _MAIN.items()}
AIMS: Figures = {
    "round trip": {"background": 99.0, "colour": 99.0, "shape": 95.0, **_LOOKS},
    "move": {**_MAIN, **_LOOKS},
    **{kind: {"all": 80.0, **_LOOKS} for kind in ("rotate", "grow", "shrink", "bounce", "still", "two")},
    **{size: {**_SIZED, **_LOOKS} for size in ("96x96", "9 frames", "33 frames")},
    "first frame given": {"motion": 90.0, "first PSNR": 28.0, **_LOOKS},
    "both ends given": {"motion": 90.0, "first PSNR": 28.0, "last PSNR": 28.0, "continuous": 100.0, **_LOOKS},
}
HEADS = ("clips", *_MAIN, "sharpness", "drift", "first PSNR", "last PSNR", "continuous")
BETWEEN = re.compile(r"(<!-- figures -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def reached(figure: str, value: float, aim: float) -> bool:
    """Whether a value is as good as its aim; of drift less is better."""
    return value <= aim if figure == "drift" else value >= aim


def cell(row: str, figure: str, value: float | None) -> str:
    """Write one figure with its aim in brackets, bold where it misses it."""
    if value is None:
        return ""
    aim = AIMS.get(row, {}).get(figure)
    if aim is None:
        return f"{value:g}"
    return f"{value:g} ({aim:g})" if reached(figure, value, aim) else f"**{value:g}** ({aim:g})"


def markdown(figures: Figures) -> str:
    """Return the table; rows in the order of `LABELS`, then any other."""
    heads = [h for h in HEADS if any(h in row for row in figures.values())]
    names = [n for n in LABELS if n in figures] + [n for n in figures if n not in LABELS]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name in names:
        cells = [cell(name, head, figures[name].get(head)) for head in heads]
        lines.append(f"| {LABELS.get(name, name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def merge(path: Path, row: str, values: dict[str, float]) -> Figures:
    """Add a row to the figures on disk, where another process may have added its own; return all."""
    figures: Figures = json.loads(path.read_text()) if path.exists() else {}
    figures[row] = values
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(figures, indent=2) + "\n")
    temporary.replace(path)
    return figures


def sheet(path: Path, clips: Sequence[NDArray[np.uint8]], columns: int = 2, shown: int = 6) -> None:
    """Draw a contact sheet: every clip a strip of frames."""
    strips = []
    for clip in clips:
        picks = np.linspace(0, len(clip) - 1, shown).round().astype(int)
        strip = np.concatenate(list(clip[picks]), 1)
        strips.append(np.pad(strip, ((0, 2), (0, 6), (0, 0)), constant_values=255))
    rows = -(-len(strips) // columns)
    strips += [np.full_like(strips[0], 255)] * (rows * columns - len(strips))
    halves = [np.concatenate(strips[c * rows : (c + 1) * rows], 0) for c in range(columns)]
    Image.fromarray(np.concatenate(halves, 1)).save(path, quality=90, method=6)


def renew_card(card: Path, folder: Path) -> None:
    """Put the table of an evaluation's folder between the model card's marks, and its sheets into images/."""
    figures = json.loads((folder / "figures.json").read_text())
    text, count = BETWEEN.subn(lambda m: f"{m[1]}{markdown(figures)}\n{m[2]}", card.read_text())
    if count != 1:
        raise ValueError(f"{card} has {count} places for the figures; it needs one")
    card.write_text(text)
    for name in figures:
        picture = folder / f"{name.replace(' ', '-')}.webp"
        shutil.copyfile(picture, card.parent / "images" / f"tiny-{picture.name}")
