"""Encode clips once: latents and condition latents in shards that the transformer's training draws from.

A shard names its scenes by seed, so captions are written afresh at every draw. Shards may be added while
training runs.

    python -m training.latents --vae training/runs/vae/vae --out training/runs/latents --clips 20000
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from training.clips import DIRECTIONS, Scene, pair, render, single
from training.vae_parallel import encode_moments

BUCKETS = {
    "64x64x17": (64, 64, 17),
    "96x96x17": (96, 96, 17),
    "64x64x9": (64, 64, 9),
    "64x64x33": (64, 64, 33),
}


def scene_at(seed: int, index: int) -> Scene:
    """Scene number `index` of a data set: three singles to every pair."""
    rng = np.random.default_rng((seed, index))
    return pair(rng) if index % 4 == 3 else single(rng)


def to_tensor(videos: np.ndarray) -> Tensor:
    """(B, T, H, W, 3) bytes to (B, 3, T, H, W) in [-1, 1]."""
    return torch.from_numpy(videos).permute(0, 4, 1, 2, 3).float().div(127.5).sub(1)


def condition_video(video: Tensor, last: bool) -> Tensor:
    """Return the given frames, zeros elsewhere, as diffusers' image-to-video pipeline builds them."""
    condition = torch.zeros_like(video)
    condition[:, :, 0] = video[:, :, 0]
    if last:
        condition[:, :, -1] = video[:, :, -1]
    return condition


@torch.no_grad()
def encode(vae: AutoencoderKLWan, video: Tensor) -> Tensor:
    """Posterior means, not normalised."""
    with torch.autocast(video.device.type, torch.bfloat16):
        return encode_moments(vae, video)[0]


def encode_shard(
    vae: AutoencoderKLWan, seed: int, indices: Sequence[int], bucket: str
) -> dict[str, np.ndarray]:
    """Latents of scenes and, for every second one, of its given frames (first, or both ends)."""
    height, width, frames = BUCKETS[bucket]
    latents, conditions = [], []
    for start in range(0, len(indices), 16):
        chosen = indices[start : start + 16]
        video = to_tensor(np.stack([render(scene_at(seed, i), frames, height, width) for i in chosen]))
        latents.append(encode(vae, video).half().numpy())
        for last in (False, True):
            rows = [k for k, i in enumerate(chosen) if condition_kind(i) == 1 + last]
            conditions.append(
                (np.asarray([chosen[k] for k in rows]), encode(vae, condition_video(video[rows], last)))
            )
    order = np.concatenate([i for i, _ in conditions])
    values = torch.cat([c for _, c in conditions]).half().numpy()[np.argsort(order)]
    return {"seed": np.asarray(seed), "indices": np.asarray(indices), "latents": np.concatenate(latents),
            "conditions": values}  # fmt: skip


def pool_of(scene: Scene) -> str:
    """Name the pool of a scene, so that training can draw the hard ones more often."""
    motion = scene.things[0].motion
    if len(scene.things) == 2:
        return "pair"
    return "move" if motion in DIRECTIONS else "rotate" if motion == "rotate" else "other"


def condition_kind(index: int) -> int:
    """Which condition is stored for a scene: 0 none, 1 the first frame, 2 the first and the last."""
    return (0, 1, 0, 2)[(index // 4) % 4]


@dataclass
class Latents:
    """All shards of one bucket in memory, normalised; `refresh` picks up new ones."""

    folder: Path
    bucket: str
    mean: Tensor
    std: Tensor

    def __post_init__(self) -> None:
        self.seen: set[str] = set()
        self.latents: list[Tensor] = []
        self.conditions: list[Tensor | None] = []
        self.keys: list[tuple[int, int]] = []
        self.pools: dict[str, list[int]] = {}

    def _normalised(self, array: np.ndarray) -> Tensor:
        shape = (1, -1, 1, 1, 1)
        return ((torch.from_numpy(array).float() - self.mean.view(shape)) / self.std.view(shape)).half()

    def refresh(self) -> int:
        """Load shards that have appeared since; returns the number of clips."""
        for path in sorted(self.folder.glob(f"{self.bucket}.*.npz")):
            if path.name in self.seen:
                continue
            self.seen.add(path.name)
            with np.load(path) as shard:
                seed, indices = int(shard["seed"]), shard["indices"].tolist()
                conditions = iter(self._normalised(shard["conditions"]))
                for index, latent in zip(indices, self._normalised(shard["latents"]), strict=True):
                    position = len(self.keys)
                    self.keys.append((seed, index))
                    self.latents.append(latent)
                    self.conditions.append(next(conditions) if condition_kind(index) else None)
                    self.pools.setdefault(pool_of(scene_at(seed, index)), []).append(position)
        return len(self.keys)


def statistics(folder: Path, shards: int = 4) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each latent channel over the first shards of the main bucket."""
    paths = sorted(folder.glob("64x64x17.*.npz"))[:shards]
    latents = torch.from_numpy(np.concatenate([np.load(p)["latents"] for p in paths])).float()
    return latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))


def main() -> None:
    """Parse the command line and encode; shards that exist are skipped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", type=Path, default=Path("training/runs/vae/vae"))
    parser.add_argument("--out", type=Path, default=Path("training/runs/latents"))
    parser.add_argument("--bucket", choices=BUCKETS, default="64x64x17")
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--pool", help="only the scenes of this pool, such as rotate: the rare ones are few")
    parser.add_argument("--shard", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    vae = AutoencoderKLWan.from_pretrained(args.vae).eval()
    began = time.process_time()
    for first in range(args.first, args.first + args.clips, args.shard):
        path = args.out / f"{args.bucket}.{args.seed}.{first:07d}.npz"
        if path.exists():
            continue
        indices = range(first, first + args.shard)
        if args.pool:
            indices = [i for i in indices if pool_of(scene_at(args.seed, i)) == args.pool]
        shard = encode_shard(vae, args.seed, indices, args.bucket)
        temporary = path.with_suffix(".tmp.npz").with_name(f".{path.name}")
        np.savez(temporary, **shard)
        temporary.replace(path)
        print(f"{path.name} {time.process_time() - began:.0f} core seconds", flush=True)


if __name__ == "__main__":
    main()
