"""Fill the model card's table: clips by the stock pipelines, judged from the decoded MP4.

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

Clip = NDArray[np.uint8]
SEED = 20_000


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
                               generator=noise, **ends, **self.options)  # fmt: skip
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


def sheet(path: Path, chosen: list[Case], clips: list[Clip], columns: int = 2, shown: int = 6) -> None:
    """Draw a contact sheet: every clip a strip of frames, twice enlarged."""
    strips = []
    for clip in clips:
        picks = np.linspace(0, len(clip) - 1, shown).round().astype(int)
        strips.append(
            np.pad(np.concatenate(list(clip[picks]), 1), ((0, 2), (0, 6), (0, 0)), constant_values=255)
        )
    rows = -(-len(strips) // columns)
    strips += [np.full_like(strips[0], 255)] * (rows * columns - len(strips))
    picture = np.concatenate(
        [np.concatenate(strips[c * rows : (c + 1) * rows], 0) for c in range(columns)], 1
    )
    Image.fromarray(picture).resize(
        (picture.shape[1] * 2, picture.shape[0] * 2), Image.Resampling.NEAREST
    ).save(path)
    path.with_suffix(".txt").write_text("\n".join(c.caption for c in chosen) + "\n")


@dataclass
class Report:
    """Collects the rows, writes clips and sheets as they come."""

    out: Path
    rows: dict[str, dict[str, float]]

    def add(self, name: str, chosen: list[Case], make: Callable[[], list[Clip]]) -> list[Clip]:
        """Make, encode, judge and picture the clips of one row."""
        began = time.time()
        folder = self.out / name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        clips = [through_mp4(c, folder / f"{i:03d}.mp4") for i, c in enumerate(make())]
        self.rows[name] = score(chosen, clips)
        sheet(self.out / f"{folder.name}.png", chosen[:24], clips[:24])
        print(json.dumps({"row": name, "s": round(time.time() - began), **self.rows[name]}), flush=True)
        return clips

    def add_ends(self, name: str, chosen: list[Case], clips: list[Clip], both_ends: bool) -> None:
        """Fidelity at the given ends, and the largest step between frames."""
        truths = [render(c.scene) for c in chosen]
        row = self.rows[name]
        row["first PSNR"] = round(
            float(np.mean([psnr(c[0], t[0]) for c, t in zip(clips, truths, strict=True)])), 1
        )
        if both_ends:
            pairs = list(zip(clips, truths, strict=True))
            row["last PSNR"] = round(float(np.mean([psnr(c[-1], t[-1]) for c, t in pairs])), 1)
            row["continuous"] = percent([largest_step(c) < 3 for c in clips])

    def markdown(self) -> str:
        """Return the table."""
        heads = list(dict.fromkeys(k for row in self.rows.values() for k in row))
        lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        for name, row in self.rows.items():
            lines.append(f"| {name} | " + " | ".join(str(row.get(h, "")) for h in heads) + " |")
        return "\n".join(lines)


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
    """Fill the report and write it."""
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    earlier = args.out / "figures.json"
    known = json.loads(earlier.read_text()) if args.only and earlier.exists() else {}
    report = Report(args.out, known)
    rows = autoencoder_rows(args) if args.vae_only else model_rows(args)
    for name, (chosen, make) in rows.items():
        if args.only and name not in args.only.split(","):
            continue
        clips = report.add(name, chosen, make)
        if name in ENDS:
            report.add_ends(name, chosen, clips, ENDS[name])
    (args.out / "figures.json").write_text(json.dumps(report.rows, indent=2) + "\n")
    (args.out / "table.md").write_text(report.markdown() + "\n")
    print(report.markdown())


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
    parser.add_argument("--vae-only", action="store_true", help="round trip of a bare autoencoder folder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    evaluate(parser.parse_args())


if __name__ == "__main__":
    main()
