"""The attention cache: which steps take self-attention from an earlier one, and what is kept until then.

What is kept are the outputs of whole self-attention modules (after their output projection), as MindIE-SD's
`AttentionCache` does; everything else of a step is computed. Nothing is shared between generations.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from torch import Tensor

from vitascope.request import AttentionCache


class Action(Enum):
    """What a step does about self-attention."""

    COMPUTE = auto()
    STORE = auto()  # compute, and keep it for the next steps
    REUSE = auto()


def plan(cache: AttentionCache | None, num_steps: int) -> tuple[Action, ...]:
    """Return what each of `num_steps` steps does: nothing is kept that no later step takes.

    Without a cache every step computes.
    """
    if cache is None:
        return (Action.COMPUTE,) * num_steps
    reuses = [cache.reuses(step) for step in range(num_steps)]
    return tuple(
        Action.REUSE if now else Action.STORE if then else Action.COMPUTE
        for now, then in zip(reuses, [*reuses[1:], False], strict=True)
    )


class Branch:
    """The outputs of a network's self-attention modules in one of guidance's passes, at the current step."""

    def __init__(self, kept: dict[Any, Tensor], action: Action) -> None:
        self._kept = kept
        self._action = action

    def get(self, module: Any, compute: Callable[[], Tensor]) -> Tensor:
        """Return what `module` put out before, or let it compute now.

        A network that takes over between two computed steps has nothing kept and computes.
        """
        if self._action is Action.REUSE and module in self._kept:
            return self._kept[module]
        output = compute()
        if self._action is not Action.COMPUTE:
            self._kept[module] = output
        return output


class KeptAttention:
    """One generation's outputs, by pass and module: one set at most, freed once no step will take it."""

    def __init__(self, actions: tuple[Action, ...]) -> None:
        self._actions = actions
        self._kept: dict[str, dict[Any, Tensor]] = {}
        self._network: Any = None

    @property
    def num_bytes(self) -> int:
        """Memory that is taken now."""
        return sum(t.nbytes for outputs in self._kept.values() for t in outputs.values())

    def branch(self, name: str, step: int, network: Any) -> Branch:
        """Return what one of `step`'s passes through `network` works on."""
        if network is not self._network:
            self._kept.clear()
            self._network = network
        return Branch(self._kept.setdefault(name, {}), self._actions[step])

    def end(self, step: int) -> None:
        """Free what no step after this one takes."""
        if step + 1 >= len(self._actions) or self._actions[step + 1] is not Action.REUSE:
            self._kept.clear()
