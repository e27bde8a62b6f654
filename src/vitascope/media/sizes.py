"""Sizes that follow what a caller gives: proportions of a picture or clip on an area that the model makes."""

from __future__ import annotations

import math

from vitascope.card import ModelCard


def like(shape: tuple[int, int], card: ModelCard, max_area: int | None = None) -> tuple[int, int]:
    """Choose a clip's width and height: those proportions on `max_area` pixels or the native area."""
    defaults, rules = card.defaults, card.rules
    if rules.sizes:
        return defaults.width, defaults.height
    area = max_area or defaults.width * defaults.height
    multiple, proportion = rules.size_multiple, shape[1] / shape[0]
    height = round(math.sqrt(area * proportion)) // multiple * multiple
    width = round(math.sqrt(area / proportion)) // multiple * multiple
    return max(width, multiple), max(height, multiple)
