"""Whose turn it is: which generations do the next quantum of work, alone or together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from vitascope.engine.generation import Generation, Stage
from vitascope.models.family import Family


def next_group(waiting: Sequence[Generation], family: Family, max_batch: int) -> list[Generation]:
    """Pick the generation that waited longest, and up to `max_batch` - 1 that may share its forward pass.

    `waiting` is in order of waiting. By default (`max_batch` 1) nothing is shared: a batch changes the order
    of sums in some kernels, so a clip's bytes would depend on what ran beside it.
    """
    if not waiting:
        return []
    first = waiting[0]
    if max_batch == 1 or first.stage is not Stage.DENOISE:
        return [first]
    key = _key(first, family)
    others = (g for g in waiting[1:] if g.stage is Stage.DENOISE and _key(g, family) == key)
    return [first, *others][:max_batch]


def _key(generation: Generation, family: Family) -> Hashable:
    """Adapters are chosen for a whole forward pass, whatever the family."""
    return generation.request.loras, family.batch_key(generation.sample)
