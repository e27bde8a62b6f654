"""Muon for matrices and filters, and the learning-rate schedule of all trainings."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from training.parallel import sum_over_ranks


def orthogonalise(gradients: Tensor, steps: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrices (N, R, C), by the Newton-Schulz iteration of Jordan et al. (2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = gradients.shape[1] <= gradients.shape[2]
    x = (gradients if wide else gradients.mT).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).float()


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose update is orthogonalised; filters are seen as (out, everything else).

    With several ranks each orthogonalises its share of the matrices and the updates are summed.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.rank, self.world = rank, world

    def _gradient(self, p: nn.Parameter, momentum: float = 0.95) -> Tensor:
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(state["momentum"], momentum).reshape(p.shape[0], -1)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            gradients = [self._gradient(p) for p in params]
            updates = [torch.zeros_like(g) for g in gradients]
            shapes: dict[torch.Size, list[int]] = {}
            for i, g in enumerate(gradients):
                if i % self.world == self.rank:
                    shapes.setdefault(g.shape, []).append(i)
            for shape, indices in shapes.items():
                for i, u in zip(
                    indices, orthogonalise(torch.stack([gradients[i] for i in indices])), strict=True
                ):
                    updates[i] = u * 0.2 * max(shape) ** 0.5
            for p, u in zip(params, sum_over_ranks(updates, self.world), strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(u.reshape(p.shape), alpha=-group["lr"])


def learning_rate_factor(step: int, steps: int, warmup: int = 20, flat: float = 0.3) -> float:
    """Warm up, hold for the share `flat` of all steps, then fall in a line to one per cent."""
    fall = min(1.0, (1 - step / steps) / (1 - flat))
    return min(1.0, (step + 1) / warmup) * max(0.01, fall)
