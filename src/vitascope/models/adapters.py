"""The adapters (LoRAs) of a loaded model: registered once, chosen for each forward pass.

All registered adapters lie beside the weights; choosing others changes which of them the layers add, and
reads nothing. While none is chosen the layers are the original ones, to the bit.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer

from vitascope.config.named_paths import AdapterSpec
from vitascope.errors import CheckpointError
from vitascope.weights.adapter_files import Convert, Weights, placed_like, read_adapter

Chosen = tuple[tuple[str, float], ...]  # names and scales, in the order in which they are added


@dataclass(slots=True)
class _Adapted:
    """One network, its layers that have adapters, and the weights of the registered ones by name."""

    network: Any
    layers: list[Any] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)

    def add(self, inner: str, weights: Weights) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several are meant here
            self.network.load_lora_adapter(
                placed_like(weights, self.network), prefix=None, adapter_name=inner, low_cpu_mem_usage=True
            )
        self.network.eval().requires_grad_(requires_grad=False)
        self.layers = [m for m in self.network.modules() if isinstance(m, BaseTunerLayer)]

    def use(self, chosen: Chosen, inner: dict[str, str]) -> None:
        mine = [(inner[name], scale * self.weights[name]) for name, scale in chosen if name in self.weights]
        names = [name for name, _ in mine]
        for layer in self.layers:
            if not mine:
                layer.enable_adapters(enabled=False)
                continue
            layer.enable_adapters(enabled=True)
            layer.set_adapter(names, inference_mode=True)
            for name, scale in mine:
                layer.set_scale(name, scale)


class Adapters:
    """The registry of one loaded model.

    `networks` are those that an adapter is for; with two experts they are the high-noise ones, and `low` the
    low-noise ones. `convert` renames other layouts' keys to the networks' own (a diffusers loader's
    `lora_state_dict`); None where there is no such converter.
    """

    def __init__(
        self, networks: Sequence[Any], low: Sequence[Any] = (), *, convert: Convert | None = None
    ) -> None:
        self._high = [_Adapted(network) for network in networks]
        self._low = [_Adapted(network) for network in low]
        self._convert = convert
        self._inner: dict[str, str] = {}  # PEFT's names: ours could be those of attributes of its modules
        self._in_use: Chosen = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What is registered, in order."""
        return tuple(self._inner)

    def register(self, spec: AdapterSpec) -> None:
        """Read an adapter and lay it beside the weights of every network that it is for.

        Raises:
            CheckpointError: it cannot be read, does not fit, or that part of the name is taken.

        """
        adapted = self._meant(spec)
        if any(spec.name in a.weights for a in adapted):
            raise CheckpointError(f"The adapter {spec.name} is given twice.")
        # All of it is read and checked before any network changes.
        read = [read_adapter(spec.path, a.network, self._convert) for a in adapted]
        inner = self._inner.setdefault(spec.name, f"adapter{len(self._inner)}")
        for one, weights in zip(adapted, read, strict=True):
            one.add(inner, weights)
            one.weights[spec.name] = spec.weight
            one.use((), self._inner)

    def use(self, chosen: Chosen) -> None:
        """Let the next forward passes add these adapters, each at its scale; nothing is done twice."""
        if chosen == self._in_use:
            return
        for adapted in (*self._high, *self._low):
            adapted.use(chosen, self._inner)
        self._in_use = chosen

    def _meant(self, spec: AdapterSpec) -> list[_Adapted]:
        if spec.expert is not None and not self._low:
            raise CheckpointError(
                f"The adapter {spec.name}.{spec.expert} is for one of two experts; this model has no two: "
                f"write --lora {spec.name}=PATH."
            )
        return {None: [*self._high, *self._low], "high": self._high, "low": self._low}[spec.expert]
