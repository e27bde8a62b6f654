"""Guidance: how the predictions of several passes become one."""

from __future__ import annotations

from torch import Tensor


def guides(scale: float) -> bool:
    """Whether a scale asks for a second, unconditional pass; at 1 or below it would change nothing."""
    return scale > 1.0


def classifier_free(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Push the prediction away from the unconditional one (Ho and Salimans 2022, arXiv 2207.12598).

    The order of the operations is diffusers', so that results are equal to the bit.
    """
    return uncond + scale * (cond - uncond)
