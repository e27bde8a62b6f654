"""Train the video autoencoder on object-centred crops of fresh clips, then on whole clips.

python -m training.vae --out training/runs/vae
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from training.clips import Scene, Thing, pose, render, sample_scene, single
from training.optim import Muon, learning_rate_factor
from training.parallel import add_arguments, average_gradients_, join
from training.vae_parallel import decode, encode_moments

LATENT_CHANNELS = 16
CONFIG = {
    "base_dim": 24,
    "decoder_base_dim": 32,
    "z_dim": LATENT_CHANNELS,
    "dim_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "temperal_downsample": [True, True],
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "is_residual": True,
    "scale_factor_spatial": 8,
    "scale_factor_temporal": 4,
    "latents_mean": [0.0] * LATENT_CHANNELS,
    "latents_std": [1.0] * LATENT_CHANNELS,
}
FRAMES, LONG, SIDE, WIDE, CROP = 17, 33, 64, 96, 32
DECODER = ("decoder.", "post_quant_conv.")


def recoloured(rng: np.random.Generator, scene: Scene) -> Scene:
    """Return the same scene in colours outside the palette: a user's first frame may hold any."""

    def any_rgb() -> tuple[float, float, float]:
        r, g, b = rng.uniform(0, 255, 3)
        return float(r), float(g), float(b)

    things = tuple(Thing(**{**thing.__dict__, "rgb": any_rgb()}) for thing in scene.things)
    return Scene(scene.background, any_rgb(), things, scene.layout)


def _scene(rng: np.random.Generator, hard: float) -> Scene:
    """Draw a scene; the share `hard` turns or bounces, whose edges change most from frame to frame."""
    if rng.random() < hard:
        return single(rng, "rotate" if rng.random() < 0.5 else "bounce")
    return sample_scene(rng, 0.45)


def _window(rng: np.random.Generator, scene: Scene, side: int, crop: int) -> tuple[int, int, int, int]:
    """Draw a square of `crop` pixels near the outline of one thing at one moment."""
    thing = scene.things[int(rng.integers(len(scene.things)))]
    x, y, radius, _ = (float(p[0]) for p in pose(thing, np.asarray([rng.random()])))
    turn = rng.uniform(0, 2 * np.pi)
    centre = np.asarray([y + radius * np.sin(turn), x + radius * np.cos(turn)]) * side + rng.uniform(-9, 9, 2)
    top, left = np.clip(centre - crop / 2, 0, side - crop).astype(int)
    return int(top), int(left), crop, crop


def draw_clip(rng: np.random.Generator, crop: int, frames: int = FRAMES, hard: float = 0.0) -> np.ndarray:
    """One training clip (frames, crop, crop, 3); some in odd colours, some with the middle blanked."""
    scene = _scene(rng, hard)
    if rng.random() < 0.15:
        scene = recoloured(rng, scene)
    side = WIDE if hard and crop < SIDE and rng.random() < 0.3 else SIDE
    video = render(scene, frames, side, side, _window(rng, scene, side, crop) if crop < SIDE else None)
    if rng.random() < 0.08:
        video[1:-1] = 127
    return video


def draw_batch(
    rng: np.random.Generator, size: int, crop: int, frames: int = FRAMES, hard: float = 0.0
) -> Tensor:
    """Draw a batch (B, 3, T, H, W) in [-1, 1]; the share `hard` turns or bounces."""
    clips = np.stack([draw_clip(rng, crop, frames, hard) for _ in range(size)])
    return torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float().div(127.5).sub(1)


def local_sharpness(video: Tensor) -> Tensor:
    """Root of the Laplacian's mean energy in windows of 5x5 pixels: how crisp, wherever the edge is."""
    flat = video.transpose(1, 2).flatten(0, 1)
    inner = flat[..., 1:-1, 1:-1]
    around = flat[..., :-2, 1:-1] + flat[..., 2:, 1:-1] + flat[..., 1:-1, :-2] + flat[..., 1:-1, 2:]
    return (F.avg_pool2d((4 * inner - around).square(), 5, 2) + 1e-4).sqrt()


def loss_terms(vae: AutoencoderKLWan, video: Tensor, noise: Tensor, blur: float = 0.0) -> dict[str, Tensor]:
    """Return pixel, edge, sharpness and posterior terms; `noise` is the posterior sample's.

    With `blur` the latents get that share of their spread as noise instead, for a decoder that forgives.
    """
    with torch.autocast(video.device.type, torch.bfloat16):
        mean, log_variance = encode_moments(vae, video)
        spread = blur * mean.detach().std((0, 2, 3, 4), keepdim=True) if blur else (0.5 * log_variance).exp()
        output = decode(vae, mean + noise * spread)
    difference = output - video
    edges = (difference[..., 1:] - difference[..., :-1]).abs().mean()
    edges = edges + (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
    return {
        "absolute": difference.abs().mean(),
        "square": difference.square().mean(),
        "edges": edges,
        "soft": (local_sharpness(output) - local_sharpness(video)).abs().mean(),
        "kl": 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean(),
    }


def total(terms: dict[str, Tensor], crisp: float = 1.0) -> Tensor:
    """Return the training loss: the mean error alone would leave every edge soft."""
    picture = terms["absolute"] + 2 * terms["square"] + terms["edges"] + crisp * terms["soft"]
    return picture + 5e-5 * terms["kl"]


def optimisers(vae: AutoencoderKLWan) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for all filters inside, AdamW for the rest."""
    learning = [p for p in vae.parameters() if p.requires_grad]
    inside = [p for p in learning if p.ndim >= 4 and min(p.shape[:2]) >= 16]
    ids = {id(p) for p in inside}
    rest = [p for p in learning if id(p) not in ids]
    return Muon(inside, lr=0.01), torch.optim.AdamW(rest, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0)


def batch_shape(step: int, steps: int, batch: int) -> tuple[int, int]:
    """Crop side and batch size: crops with some whole clips between, whole clips alone in the last part."""
    whole = step >= 0.86 * steps or step % 6 == 5
    return (SIDE, max(2, batch // 4)) if whole else (CROP, batch)


def frames_at(step: int, decoder_only: bool) -> int:
    """Frames of a step's clips: a decoder that saw 17 alone drifts in colour when it has to make more."""
    return LONG if decoder_only and step % 3 == 0 else FRAMES


def fresh_vae(seed: int) -> AutoencoderKLWan:
    """Build an untrained autoencoder, the same on every rank."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoencoderKLWan(**CONFIG)


class Training:
    """The state of a run: network, optimisers, average and step; saved and resumed as a whole."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        vae = AutoencoderKLWan.from_pretrained(args.init) if args.init else fresh_vae(args.seed)
        self.vae = vae.to(args.device)
        for name, p in self.vae.named_parameters():
            p.requires_grad_(not args.decoder_only or name.startswith(DECODER))
        self.muon, self.adam = optimisers(self.vae)
        self.trained = [p for p in self.vae.parameters() if p.requires_grad]
        self.average = {n: p.detach().clone() for n, p in self.vae.named_parameters()}
        self.step, self.spent = 0, 0.0

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, map_location=self.args.device)
        self.vae.load_state_dict(state["vae"])
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.average, self.step, self.spent = state["average"], state["step"], state["spent"]

    def save(self, folder: Path, spent: float) -> None:
        """Write the checkpoint, so that a kill in the middle leaves the old one, and the averaged weights."""
        state = {"vae": self.vae.state_dict(), "muon": self.muon.state_dict(), "adam": self.adam.state_dict(),
                 "average": self.average, "step": self.step, "spent": spent}  # fmt: skip
        temporary = folder / "state.tmp"
        torch.save(state, temporary)
        temporary.replace(folder / "state.pt")
        averaged = AutoencoderKLWan.from_config(self.vae.config)
        averaged.load_state_dict({**averaged.state_dict(), **{n: p.cpu() for n, p in self.average.items()}})
        averaged.save_pretrained(folder / "vae")

    def advance(self) -> dict[str, float]:
        """Take one optimiser step on fresh clips; return the terms of the loss."""
        args, factor = self.args, learning_rate_factor(self.step, self.args.steps)
        for optimiser, rate in ((self.muon, args.muon_rate), (self.adam, args.adam_rate)):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor
        crop, size = batch_shape(self.step, args.steps, args.batch)
        rng = np.random.default_rng((args.seed, self.step, args.rank))
        frames = frames_at(self.step, args.decoder_only)
        size = max(1, size * FRAMES // frames)
        video = draw_batch(rng, size, crop, frames, args.hard).to(args.device)
        shape = (size, LATENT_CHANNELS, (frames + 3) // 4, crop // 8, crop // 8)
        noise = torch.from_numpy(rng.standard_normal(shape, np.float32)).to(args.device)
        blur = float(rng.uniform(0.01, args.blur)) if args.decoder_only else 0.0
        terms = loss_terms(self.vae, video, noise, blur)
        self.vae.zero_grad(set_to_none=True)
        total(terms, args.crisp).backward()
        average_gradients_(self.trained, args.world)
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.muon.step()
        self.adam.step()
        decay = min(0.995, (1 + self.step) / (10 + self.step))
        self.step += 1
        with torch.no_grad():
            for name, p in self.vae.named_parameters():
                self.average[name].lerp_(p, 1 - decay)
        return {k: float(v.detach()) for k, v in terms.items()}


def train(args: argparse.Namespace) -> None:
    """Run or resume the training and write the diffusers folder."""
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    join(args)
    run = Training(args)
    if args.resume and (args.out / "state.pt").exists():
        run.load(args.out / "state.pt")
    began, last_save = time.process_time() - run.spent, time.time()
    log: list[dict[str, float]] = []
    while run.step < args.steps:
        log.append(run.advance())
        if args.rank:
            continue
        if run.step % args.log_every == 0 or run.step in (5, 20):
            means = {k: float(np.mean([line[k] for line in log])) for k in log[0]}
            means["psnr"] = 10 * np.log10(4 / means["square"])
            line = {"step": run.step, "core_s": round(time.process_time() - began)}
            print(json.dumps(line | {k: round(v, 5) for k, v in means.items()}), flush=True)
            log = []
        if time.time() - last_save > args.save_seconds or run.step == args.steps:
            run.save(args.out, time.process_time() - began)
            last_save = time.time()


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("training/runs/vae"))
    parser.add_argument("--init", type=Path, help="start from this diffusers folder")
    parser.add_argument("--decoder-only", action="store_true", help="keep the latents as they are")
    parser.add_argument(
        "--blur", type=float, default=0.12, help="most noise on the latents with --decoder-only"
    )
    parser.add_argument("--crisp", type=float, default=1.0, help="weight of the sharpness term")
    parser.add_argument(
        "--hard", type=float, default=0.0, help="share of turning and bouncing clips, some drawn larger"
    )
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--muon-rate", type=float, default=0.01)
    parser.add_argument("--adam-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save-seconds", type=float, default=120)
    parser.add_argument("--log-every", type=int, default=50)
    parser.add_argument("--resume", action="store_true")
    add_arguments(parser)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
