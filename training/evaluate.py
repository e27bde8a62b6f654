"""Make clips with the stock pipelines and judge them from the decoded MP4: the model card's table.

python -m training.evaluate --model src/vitascope/bundled/vitascope-tiny --out training/runs/evaluation
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline, WanPipeline, WanTransformer3DModel
from numpy.typing import NDArray
from PIL import Image

from training.captions import describe
from training.checker import compare, judge, largest_step, psnr, sharpness
from training.clips import DIRECTIONS, Scene, pair, render, single
from training.latents import to_tensor
from training.report import Figures, markdown, merge, renew_card, sheet

Clip = NDArray[np.uint8]
SEED = 20_000
SHOWN = 12


@dataclass(frozen=True)
class Case:
    """One held-back caption, its scene and the seed of its noise."""

    scene: Scene
    caption: str
    seed: int


def cases(kind: str, count: int) -> list[Case]:
    """Return the held-back captions of one row of the table."""
    made = []
    for i in range(count):
        rng = np.random.default_rng((SEED, sum(map(ord, kind)), i))
        motion = list(DIRECTIONS)[i % 8] if kind == "move" else kind
        scene = pair(rng) if kind == "two" else single(rng, motion)
        made.append(Case(scene, describe(rng, scene), i))
    return made


def through_mp4(frames: Clip, path: Path | None = None, fps: int = 8) -> Clip:
    """Encode with H.264 4:2:0, decode again; the file is kept if a path is given."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "14"})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    if path is not None:
        path.write_bytes(buffer.getvalue())
    buffer.seek(0)
    with av.open(buffer) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def to_bytes(video: NDArray[np.float32]) -> Clip:
    """Frames in [0, 1] to bytes."""
    return np.clip(video * 255 + 0.5, 0, 255).astype(np.uint8)


class Model:
    """Both stock pipelines on one folder."""

    def __init__(self, args: argparse.Namespace) -> None:
        folder, device, guidance = args.model, args.device, args.guidance
        self.text = WanPipeline.from_pretrained(folder).to(device)
        conditioned = WanTransformer3DModel.from_pretrained(folder, subfolder="transformer_i2v").to(device)
        self.image = WanImageToVideoPipeline.from_pretrained(folder, transformer=conditioned).to(device)
        defaults = json.loads((folder / "vitascope.json").read_text())["defaults"]
        self.options = {
            "num_inference_steps": args.inference_steps or defaults["num_inference_steps"],
            "max_sequence_length": args.max_sequence_length or defaults["max_sequence_length"],
            "guidance_scale": defaults["guidance_scale"] if guidance is None else guidance,
            "output_type": "np",
        }
        with_frames = defaults["guidance_scale_with_frames"] if guidance is None else guidance
        self.image_options = self.options | {"guidance_scale": with_frames}
        for pipeline in (self.text, self.image):
            pipeline.set_progress_bar_config(disable=True)

    def from_text(
        self, chosen: list[Case], size: tuple[int, int, int] = (64, 64, 17), batch: int = 20
    ) -> list[Clip]:
        """Clips of captions alone."""
        height, width, frames = size
        clips: list[Clip] = []
        for start in range(0, len(chosen), batch):
            part = chosen[start : start + batch]
            noise = [torch.Generator().manual_seed(c.seed) for c in part]
            video = self.text([c.caption for c in part], height=height, width=width, num_frames=frames,
                              generator=noise, **self.options).frames  # fmt: skip
            clips += [to_bytes(v) for v in video]
        return clips

    def from_images(self, chosen: list[Case], both_ends: bool) -> list[Clip]:
        """Clips of captions and the first frame, or the first and the last, of the true clip."""
        clips = []
        for case in chosen:
            truth = render(case.scene)
            ends = {"last_image": Image.fromarray(truth[-1])} if both_ends else {}
            noise = torch.Generator().manual_seed(case.seed)
            video = self.image(Image.fromarray(truth[0]), case.caption, height=64, width=64, num_frames=17,
                               generator=noise, **ends, **self.image_options)  # fmt: skip
            clips.append(to_bytes(video.frames[0]))
        return clips


def percent(marks: list[bool]) -> float:
    """Share of true marks in per cent."""
    return round(100 * float(np.mean(marks)), 1)


def score(chosen: list[Case], clips: list[Clip]) -> dict[str, float]:
    """Shares of clips that show what was asked for, sharpness beside the truth's, drift of the background."""
    verdicts = [judge(c, case.scene.layout) for case, c in zip(chosen, clips, strict=True)]
    marks = [compare(v, case.scene) for case, v in zip(chosen, verdicts, strict=True)]
    frames, height, width = clips[0].shape[:3]
    truths = [through_mp4(render(c.scene, frames, height, width)) for c in chosen]
    return {
        "clips": len(chosen),
        **{part: percent([m[part] for m in marks]) for part in marks[0]},
        "sharpness": round(
            float(np.mean([sharpness(c) for c in clips]) / np.mean([sharpness(t) for t in truths])), 3
        ),
        "drift": round(float(np.mean([v.background_drift for v in verdicts])), 2),
    }


def round_trip(vae: AutoencoderKLWan, chosen: list[Case]) -> list[Clip]:
    """Real clips through the autoencoder: the ceiling of everything else."""
    clips = []
    for case in chosen:
        video = to_tensor(render(case.scene)[None]).to(vae.device)
        with torch.no_grad():
            output = vae.decode(vae.encode(video).latent_dist.mean).sample
        clips.append(to_bytes((output[0].permute(1, 2, 3, 0).cpu().numpy() + 1) / 2))
    return clips


def ends(chosen: list[Case], clips: list[Clip], both: bool) -> dict[str, float]:
    """Fidelity at the given ends, and the share of clips that go from one to the other without a cut."""
    pairs = [(clip, render(case.scene)) for clip, case in zip(clips, chosen, strict=True)]
    figures = {"first PSNR": round(float(np.mean([psnr(c[0], t[0]) for c, t in pairs])), 1)}
    if both:
        figures["last PSNR"] = round(float(np.mean([psnr(c[-1], t[-1]) for c, t in pairs])), 1)
        figures["continuous"] = percent([largest_step(c) < 3 for c in clips])
    return figures


def fill(out: Path, name: str, chosen: list[Case], make: Callable[[], list[Clip]]) -> Figures:
    """Make, encode, judge and picture the clips of one row; add it to the figures."""
    began, stem = time.time(), name.replace(" ", "-")
    (out / stem).mkdir(parents=True, exist_ok=True)
    clips = [through_mp4(c, out / stem / f"{i:03d}.mp4") for i, c in enumerate(make())]
    values = score(chosen, clips) | (ends(chosen, clips, ENDS[name]) if name in ENDS else {})
    sheet(out / f"{stem}.webp", clips[:SHOWN])
    (out / f"{stem}.txt").write_text("".join(f"{c.caption}\n" for c in chosen[:SHOWN]))
    print(json.dumps({"row": name, "s": round(time.time() - began), **values}), flush=True)
    return merge(out / "figures.json", name, values)


Row = tuple[list[Case], Callable[[], list[Clip]]]
SIZES = {"96x96": (96, 96, 17), "9 frames": (64, 64, 9), "33 frames": (64, 64, 33)}
ENDS = {"first frame given": False, "both ends given": True}


def model_rows(args: argparse.Namespace) -> dict[str, Row]:
    """Every row of the table: its cases and how their clips are made."""
    model = Model(args)
    few = args.few
    moves = cases("move", max(args.clips, few))
    rows: dict[str, Row] = {
        "round trip": (moves[: 2 * few], lambda: round_trip(model.text.vae, moves[: 2 * few])),
        "move": (moves, lambda: model.from_text(moves)),
    }
    for kind in ("rotate", "grow", "shrink", "bounce", "still", "two"):
        chosen = cases(kind, few)
        rows[kind] = (chosen, partial(model.from_text, chosen))
    for name, size in SIZES.items():
        rows[name] = (moves[:few], partial(model.from_text, moves[:few], size, 10))
    for name, both in ENDS.items():
        rows[name] = (moves[:few], partial(model.from_images, moves[:few], both))
    return rows


def autoencoder_rows(args: argparse.Namespace) -> dict[str, Row]:
    """Make the gate's rows: real clips through a bare autoencoder."""
    vae = AutoencoderKLWan.from_pretrained(args.model)
    sets = {"one": cases("move", args.clips), "two": cases("two", args.few)}
    return {f"round trip, {name}": (s, partial(round_trip, vae, s)) for name, s in sets.items()}


def evaluate(args: argparse.Namespace) -> None:
    """Fill the rows that are asked for and write the table."""
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    wanted = args.only.split(",") if args.only else None
    if wanted is None:
        (args.out / "figures.json").unlink(missing_ok=True)
    rows = autoencoder_rows(args) if args.vae_only else model_rows(args)
    for name, (chosen, make) in rows.items():
        if wanted is None or name in wanted:
            (args.out / "table.md").write_text(markdown(fill(args.out, name, chosen, make)) + "\n")
    print((args.out / "table.md").read_text(), end="")
    if args.card:
        renew_card(args.card, args.out)


def main() -> None:
    """Parse the command line and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("src/vitascope/bundled/vitascope-tiny"))
    parser.add_argument("--out", type=Path, default=Path("training/runs/evaluation"))
    parser.add_argument("--clips", type=int, default=200, help="captions of the main row")
    parser.add_argument("--few", type=int, default=40, help="captions of every other row")
    parser.add_argument("--only", default="", help="rows to fill, with commas; all if empty")
    parser.add_argument("--inference-steps", type=int, help="default: the model's")
    parser.add_argument(
        "--max-sequence-length", type=int, help="padding of the captions; default: the model's"
    )
    parser.add_argument("--guidance", type=float, help="default: the model's")
    parser.add_argument("--card", type=Path, help="model card to put the table and the sheets into")
    parser.add_argument("--vae-only", action="store_true", help="round trip of a bare autoencoder folder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    evaluate(parser.parse_args())


if __name__ == "__main__":
    main()
