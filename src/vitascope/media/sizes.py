"""Sizes that follow what a caller gives: proportions of a picture or clip on an area that the model makes."""

from __future__ import annotations

import math

from vitascope.card import ModelCard


def size_like(shape: tuple[int, int], card: ModelCard, max_area: int | None = None) -> tuple[int, int]:
    """Choose a clip's width and height that are like a picture's `shape`, its width and height.

    Its proportions on `max_area` pixels or on the native area, each side a multiple of the model's.
    """
    defaults, rules = card.defaults, card.rules
    if rules.sizes:
        return defaults.width, defaults.height
    area = max_area or defaults.width * defaults.height
    multiple, proportion = rules.size_multiple, shape[1] / shape[0]
    height = round(math.sqrt(area * proportion)) // multiple * multiple
    width = round(math.sqrt(area / proportion)) // multiple * multiple
    return max(width, multiple), max(height, multiple)
