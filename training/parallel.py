"""Data parallelism over plain processes (gloo): each draws its own batch, gradients are averaged."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--rank`, `--world` and `--rendezvous`."""
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument(
        "--world", type=int, default=1, help="number of processes, started by hand with ranks 0.."
    )
    parser.add_argument(
        "--rendezvous", type=Path, help="a file that does not exist yet, the same for all ranks"
    )


def join(args: argparse.Namespace) -> None:
    """Meet the other ranks; does nothing when alone."""
    if args.world > 1:
        url = args.rendezvous.resolve().as_uri()
        dist.init_process_group("gloo", init_method=url, rank=args.rank, world_size=args.world)


def sum_over_ranks(tensors: Sequence[Tensor], world: int) -> list[Tensor]:
    """Return the sum of each tensor over all ranks."""
    if world == 1:
        return list(tensors)
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    return [
        part.view_as(t) for t, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True)
    ]


def average_gradients_(parameters: Sequence[nn.Parameter], world: int) -> None:
    """Replace every gradient by its mean over all ranks."""
    if world == 1:
        return
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    for p, total in zip(parameters, sum_over_ranks(gradients, world), strict=True):
        p.grad = total / world
