"""Train the video transformer on cached latents: text, first frame and both ends as conditions, all at once.

Then go on with what each of the two networks that ship is for (`make finish-transformers`).

    python -m training.transformer --out training/runs/transformer
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import WanTransformer3DModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from training.captions import describe
from training.latents import BUCKETS, Latents, condition_kind, scene_at, statistics
from training.optim import Muon, learning_rate_factor
from training.parallel import add_arguments, average_gradients_, join
from training.text_encoder import ROLES
from training.transformer_forward import Text, run_block, velocity

SHIFT = 7.0
FINE_SHIFT = 3.0
FRAMES_SHIFT = 2.0
GIVEN_WEIGHT = 3.0
CHANNELS = 16
HELD_BACK = 64
TEXT_MULTIPLE = 48
CONFIG = {
    "patch_size": [1, 2, 2],
    "num_attention_heads": 4,
    "attention_head_dim": 48,
    "in_channels": 2 * CHANNELS + 4,
    "out_channels": CHANNELS,
    "text_dim": 128,
    "freq_dim": 128,
    "ffn_dim": 512,
    "num_layers": 6,
    "cross_attn_norm": True,
    "rope_max_seq_len": 64,
}


@dataclass(frozen=True)
class Stage:
    """What a moment of the training draws, by the share of all steps that is done."""

    pools: dict[str, float]
    conditioned: float
    most_pads: int
    other_buckets: float
    shift: float
    both_ends: float = 0.5
    """Of the conditioned clips, the share whose last frame is given too."""


def stage(done: float) -> Stage:
    """One thing and text alone first; then everything; many pads, sizes and finer noise in the last part.

    Colours and directions are decided at the highest noise and learnt first; outlines need the middle.
    """
    one = {"move": 0.7, "rotate": 0.1, "other": 0.2}
    if done < 0.03:
        return Stage(one, conditioned=0.0, most_pads=0, other_buckets=0.0, shift=SHIFT)
    if done < 0.07:
        return Stage(one | {"pair": 0.1}, conditioned=0.2, most_pads=16, other_buckets=0.0, shift=SHIFT)
    everything = {"move": 0.18, "rotate": 0.4, "other": 0.18, "pair": 0.24}
    if done < 0.16:
        return Stage(everything, conditioned=0.42, most_pads=48, other_buckets=0.0, shift=SHIFT)
    return Stage(
        everything, conditioned=0.42, most_pads=512, other_buckets=0.14, shift=FINE_SHIFT, both_ends=0.7
    )


def specialised(plan: Stage, only: str) -> Stage:
    """Return the plan for one of the two networks that ship, once they have learnt everything together.

    Where frames are given, what moves where is known early: finer noise, and all pools alike.
    """
    if only == "text":
        return replace(plan, conditioned=0.0)
    alike = {"move": 0.4, "rotate": 0.2, "other": 0.2, "pair": 0.2}
    return replace(plan, pools=alike, conditioned=1.0, shift=FRAMES_SHIFT)


def build_transformer(seed: int) -> WanTransformer3DModel:
    """Build an untrained network that starts near the identity, with padding tokens that carry nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = WanTransformer3DModel(**CONFIG)
    with torch.no_grad():
        net.condition_embedder.time_proj.weight.mul_(0.1)
        net.condition_embedder.time_proj.bias.zero_()
        net.proj_out.weight.zero_()
        net.proj_out.bias.zero_()
        for block in net.blocks:
            block.scale_shift_table.zero_()
            block.scale_shift_table[:, (2, 5)] = 0.3
        for name, p in net.condition_embedder.text_embedder.named_parameters():
            p.mul_(3.0 if name.endswith("weight") else 0.0)
        for block in net.blocks:
            block.attn2.to_k.bias.zero_()
            block.attn2.to_v.bias.zero_()
    for p in silent_biases(net):
        p.requires_grad_(False)
    return net


def silent_biases(net: WanTransformer3DModel) -> list[nn.Parameter]:
    """Biases held at zero, so that a zero padding token has a zero key and a zero value."""
    text = net.condition_embedder.text_embedder
    return [
        text.linear_1.bias,
        text.linear_2.bias,
        *(p for block in net.blocks for p in (block.attn2.to_k.bias, block.attn2.to_v.bias)),
    ]  # type: ignore[list-item]


class Captioner:
    """Writes and encodes captions; the encoder stays as it is."""

    def __init__(self, folder: Path, device: str) -> None:
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
        encoder = UMT5EncoderModel.from_pretrained(folder / "text_encoder")
        self.encoder = encoder.float().eval().requires_grad_(False).to(device)
        self.device = device

    @torch.no_grad()
    def encode(
        self, captions: list[str], pads: list[int], unknown: np.random.Generator | None = None
    ) -> Text:
        """States of all captions, and one padding token that stands for `pads` of them.

        Rows are filled up to few lengths, with tokens that count for nothing: each length is compiled once.
        """
        rows = self.tokenizer(captions).input_ids
        if unknown is not None:
            for row in rows:
                if unknown.random() < 0.05:
                    row.insert(int(unknown.integers(ROLES, len(row))), 2)
        length = -(-max(len(row) + 1 for row in rows) // TEXT_MULTIPLE) * TEXT_MULTIPLE - 1
        ids = torch.zeros(len(rows), length + 1, dtype=torch.long)
        count = torch.full((len(rows), length + 1), -1e4)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            count[i, : len(row)] = 0
            count[i, length] = math.log(pads[i]) if pads[i] else -1e4
        ids = ids.to(self.device)
        states = self.encoder(ids, (ids != 0).float()).last_hidden_state * (ids != 0).unsqueeze(-1)
        return Text(states, count.to(self.device))


def condition_mask(kind: int, shape: tuple[int, ...]) -> Tensor:
    """Return the four mask channels (4, T, H, W): which of the four frames of each latent frame are given."""
    mask = torch.zeros(4, *shape)
    if kind:
        mask[:, 0] = 1
    if kind == 2:
        mask[3, -1] = 1
    return mask


@dataclass
class Batch:
    """Clean latents, condition channels and text of one step."""

    latents: Tensor
    condition: Tensor
    text: Text


def draw(rng: np.random.Generator, data: Latents, captioner: Captioner, size: int, plan: Stage) -> Batch:
    """Draw a batch of `size` clips; some with a condition, one caption in ten dropped."""
    latents, conditions, captions, pads = [], [], [], []
    names = list(plan.pools)
    shares = np.asarray(list(plan.pools.values())) / sum(plan.pools.values())
    for _ in range(size):
        kind = 1 + int(rng.random() < plan.both_ends) if rng.random() < plan.conditioned else 0
        pool = data.pools[names[int(rng.choice(len(names), p=shares))]]
        position = pool[int(rng.integers(len(pool)))]
        while data.keys[position][1] < HELD_BACK or (kind and condition_kind(data.keys[position][1]) != kind):
            position = pool[int(rng.integers(len(pool)))]
        latent = data.latents[position].float()
        given = data.conditions[position] if kind else None
        image = torch.zeros_like(latent) if given is None else given.float()
        latents.append(latent)
        conditions.append(torch.cat((condition_mask(kind, latent.shape[1:]), image)))
        captions.append("" if rng.random() < 0.1 else describe(rng, scene_at(*data.keys[position])))
        pads.append(int(math.exp(rng.uniform(0, math.log(plan.most_pads + 1)))) if plan.most_pads else 0)
    text = captioner.encode(captions, pads, rng)
    return Batch(torch.stack(latents), torch.stack(conditions), text)


def shifted(uniform: Tensor, shift: float) -> Tensor:
    """Noise levels of the shifted flow schedule at uniform times."""
    return shift * uniform / (1 + (shift - 1) * uniform)


def flow_loss(
    net: WanTransformer3DModel,
    batch: Batch,
    sigma: Tensor,
    noise: Tensor,
    block_runner: Callable[..., Tensor] = run_block,
) -> Tensor:
    """Mean square error of the velocity, one value a clip; latent frames that hold a given one weigh more."""
    level = sigma.view(-1, 1, 1, 1, 1)
    noisy = (1 - level) * batch.latents + level * noise
    with torch.autocast(noisy.device.type, torch.bfloat16):
        channels = torch.cat((noisy, batch.condition), 1)
        predicted = velocity(net, channels, sigma * 1000, batch.text, block_runner)
    weight = 1 + (GIVEN_WEIGHT - 1) * batch.condition[:, 3:4]
    return (weight * (predicted - (noise - batch.latents)).square()).mean((1, 2, 3, 4))


@torch.no_grad()
def probe(net: WanTransformer3DModel, data: Latents, captioner: Captioner, device: str) -> dict[str, float]:
    """Loss at a high noise level on held-back clips, with their own captions and with their neighbours'."""
    rng = np.random.default_rng(0)
    chosen = [p for p in range(len(data.keys)) if data.keys[p][1] < HELD_BACK][:48]
    captions = [describe(rng, scene_at(*data.keys[p])) for p in chosen]
    latents = torch.stack([data.latents[p].float() for p in chosen]).to(device)
    empty = torch.zeros(len(chosen), CHANNELS + 4, *latents.shape[2:], device=device)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(device)
    sigma = torch.full((len(chosen),), 0.97, device=device)
    losses = {}
    for name, texts in (("right", captions), ("wrong", captions[1:] + captions[:1])):
        text = captioner.encode(texts, [0] * len(texts))
        losses[name] = round(float(flow_loss(net, Batch(latents, empty, text), sigma, noise).mean()), 4)
    return losses


def optimisers(net: WanTransformer3DModel, args: argparse.Namespace) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for the blocks' matrices, AdamW for the rest."""
    trained = [(n, p) for n, p in net.named_parameters() if p.requires_grad]
    matrices = [p for n, p in trained if n.startswith("blocks.") and p.ndim == 2]
    ids = {id(p) for p in matrices}
    rest = [p for _, p in trained if id(p) not in ids]
    muon = Muon(matrices, lr=args.muon_rate, weight_decay=0.01, rank=args.rank, world=args.world)
    return muon, torch.optim.AdamW(rest, lr=args.adam_rate, betas=(0.9, 0.95), weight_decay=0.0)


class Training:
    """The state of a run: network, optimisers, average and step; saved and resumed as a whole."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.net = build_transformer(args.seed).to(args.device)
        self.net.rope.freqs_cos = self.net.rope.freqs_cos.float()
        self.net.rope.freqs_sin = self.net.rope.freqs_sin.float()
        self.muon, self.adam = optimisers(self.net, args)
        self.trained = [p for p in self.net.parameters() if p.requires_grad]
        self.block_runner = torch.compile(run_block, dynamic=False) if args.compile else run_block
        self.average = {n: p.detach().clone() for n, p in self.net.named_parameters()}
        self.step, self.spent = 0, 0.0

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, map_location=self.args.device)
        self.net.load_state_dict(state["net"])
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.average, self.step, self.spent = state["average"], state["step"], state["spent"]

    def save(self, folder: Path, spent: float) -> None:
        """Write the checkpoint and the averaged network."""
        state = {"net": self.net.state_dict(), "muon": self.muon.state_dict(), "adam": self.adam.state_dict(),
                 "average": self.average, "step": self.step, "spent": spent}  # fmt: skip
        temporary = folder / "state.tmp"
        torch.save(state, temporary)
        temporary.replace(folder / "state.pt")
        averaged = WanTransformer3DModel(**CONFIG)
        averaged.load_state_dict({n: p.cpu() for n, p in self.average.items()}, strict=True)
        averaged.save_pretrained(folder / "transformer")

    def advance(self, batch: Batch, sigma: Tensor, noise: Tensor) -> tuple[float, float]:
        """One optimiser step; returns the loss and the gradient's norm."""
        args, factor = self.args, learning_rate_factor(self.step, self.args.steps)
        for optimiser, rate in ((self.muon, args.muon_rate), (self.adam, args.adam_rate)):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor
        loss = flow_loss(self.net, batch, sigma, noise, self.block_runner).mean()
        self.net.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients_(self.trained, args.world)
        norm = float(nn.utils.clip_grad_norm_(self.trained, 1.0))
        self.muon.step()
        self.adam.step()
        self.step += 1
        decay = min(args.average, (1 + self.step) / (20 + self.step))
        with torch.no_grad():
            for name, p in self.net.named_parameters():
                self.average[name].lerp_(p, 1 - decay)
        return float(loss.detach()), norm


def bucket_at(rng: np.random.Generator, plan: Stage, data: dict[str, Latents]) -> str:
    """Pick the main bucket, or now and then one of the others that has clips."""
    names = list(BUCKETS)
    others = [n for n in names[1:] if data[n].keys]
    return (
        others[int(rng.integers(len(others)))] if others and rng.random() < plan.other_buckets else names[0]
    )


def batch_size(bucket: str, most: int) -> int:
    """Fewer clips of the larger buckets, so that a step costs about the same."""
    height, width, frames = BUCKETS[bucket]
    return max(2, min(most, most * 64 * 64 * 20 // (height * width * (frames + 3))))


def train(args: argparse.Namespace) -> None:
    """Run or resume the training."""
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    join(args)
    run = Training(args)
    if args.resume and (args.out / "state.pt").exists():
        run.load(args.out / "state.pt")
    elif args.start:
        run.load(args.start / "state.pt")
    captioner = Captioner(args.text, args.device)
    mean, std = statistics(args.latents)
    (args.out / "statistics.json").write_text(json.dumps({"mean": mean.tolist(), "std": std.tolist()}))
    data = {name: Latents(args.latents, name, mean, std) for name in BUCKETS}
    began, last_save, losses = time.process_time() - run.spent, time.time(), []
    while run.step < args.steps:
        step = run.step
        if step % 100 == 0 or not data["64x64x17"].keys:
            clips = {name: store.refresh() for name, store in data.items()}
        plan = stage(step / args.steps)
        plan = specialised(plan, args.only) if args.only else plan
        bucket = bucket_at(np.random.default_rng((args.seed, step)), plan, data)
        rng = np.random.default_rng((args.seed, step, args.rank))
        size = batch_size(bucket, args.batch)
        batch = draw(rng, data[bucket], captioner, size, plan)
        noise = torch.randn(
            batch.latents.shape, generator=torch.Generator().manual_seed(step * 64 + args.rank)
        )
        uniform = torch.from_numpy(
            (rng.permutation(len(noise)) + rng.random(len(noise))) / len(noise)
        ).float()
        batch = Batch(batch.latents.to(args.device), batch.condition.to(args.device), batch.text)
        losses.append(run.advance(batch, shifted(uniform, plan.shift).to(args.device), noise.to(args.device)))
        if args.rank:
            continue
        if run.step % args.log_every == 0 or run.step in (3, 20):
            loss, norm = np.mean(losses, 0)
            line = {"step": run.step, "core_s": round(time.process_time() - began)}
            line |= {"clips": clips["64x64x17"], "loss": round(float(loss), 4), "norm": round(float(norm), 3)}
            if run.step % (4 * args.log_every) == 0:
                line["probe"] = probe(run.net, data["64x64x17"], captioner, args.device)
            print(json.dumps(line), flush=True)
            losses = []
        if time.time() - last_save > args.save_seconds or run.step == args.steps:
            run.save(args.out, time.process_time() - began)
            last_save = time.time()


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("training/runs/transformer"))
    parser.add_argument("--text", type=Path, default=Path("training/runs/text"))
    parser.add_argument("--latents", type=Path, default=Path("training/runs/latents"))
    parser.add_argument("--steps", type=int, default=13_800)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--muon-rate", type=float, default=0.0125)
    parser.add_argument("--adam-rate", type=float, default=3e-3)
    parser.add_argument("--average", type=float, default=0.998, help="decay of the averaged weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--start", type=Path, help="go on from this run's state")
    parser.add_argument("--only", choices=("text", "frames"), help="what one of the two networks is for")
    parser.add_argument("--save-seconds", type=float, default=240)
    parser.add_argument("--log-every", type=int, default=50)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--compile", action="store_true", help="fuse the blocks' small operations; wants g++")
    add_arguments(parser)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
