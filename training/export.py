"""Put the trained parts together as one diffusers folder that both Wan pipelines load.

The text-to-video transformer was trained like the conditioned one, and ships without the condition
channels of its first layer: the same function for an empty condition.

    python -m training.export --out src/vitascope/bundled/vitascope-tiny
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from training.text_encoder import save_tokenizer

EXAMPLES = (
    "a red circle moving right on a blue background",
    "a yellow triangle drifts up over purple",
    "a big green square bouncing on a white background",
)


def without_condition(net: WanTransformer3DModel) -> WanTransformer3DModel:
    """Build the same network for an empty condition: only the latents' input channels are left."""
    channels = net.config.out_channels
    plain = WanTransformer3DModel.from_config({**net.config, "in_channels": channels})
    state = net.state_dict()
    state["patch_embedding.weight"] = state["patch_embedding.weight"][:, :channels]
    plain.load_state_dict(state)
    return plain


def known_words(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Return the words of the vocabulary, without signs and special tokens."""
    return sorted(w for w in tokenizer.get_vocab() if w.isalpha())


def description(tokenizer: PreTrainedTokenizerFast, args: argparse.Namespace) -> dict[str, Any]:
    """Return what the server reads about the model beside the weights."""
    return {
        "name": "vitascope-tiny",
        "tasks": ["t2v", "i2v", "flf2v", "v2v"],
        "defaults": {
            "height": 64, "width": 64, "num_frames": 17, "fps": 8,
            "num_inference_steps": args.inference_steps, "guidance_scale": args.guidance,
            "guidance_scale_with_frames": args.frames_guidance,
            "flow_shift": args.flow_shift, "negative_prompt": "", "max_sequence_length": 64,
        },
        "limits": {"height": 128, "width": 128, "num_frames": 33},
        "known_words": known_words(tokenizer),
        "example_prompts": list(EXAMPLES),
    }  # fmt: skip


def write_index(folder: Path) -> None:
    """`model_index.json` with the tokenizer class that all transformers versions know."""
    index = {
        "_class_name": "WanPipeline",
        "_diffusers_version": "0.35.0",
        "boundary_ratio": None,
        "expand_timesteps": False,
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "transformer_2": [None, None],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def save_text_encoder(source: Path, folder: Path) -> None:
    """Half-precision weights that load as float32 unless asked otherwise."""
    UMT5EncoderModel.from_pretrained(source).half().save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2) + "\n")


def tidy(folder: Path) -> None:
    """Leave out what says where the parts lay, and let everybody read the files."""
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
        if path.name in ("config.json", "tokenizer_config.json"):
            config = json.loads(path.read_text())
            kept = {
                k: v for k, v in config.items() if k not in ("_name_or_path", "is_local", "local_files_only")
            }
            path.write_text(json.dumps(kept, indent=2) + "\n")


def export(args: argparse.Namespace) -> None:
    """Write everything beside the goal, then swap it in."""
    folder = args.out.with_name(args.out.name + ".new")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    statistics = json.loads((args.frames_network / "statistics.json").read_text())
    vae = AutoencoderKLWan.from_pretrained(args.vae)
    vae.register_to_config(latents_mean=statistics["mean"], latents_std=statistics["std"])
    vae.half().save_pretrained(folder / "vae")
    for_text = WanTransformer3DModel.from_pretrained(args.text_network / "transformer")
    without_condition(for_text).half().save_pretrained(folder / "transformer")
    for_frames = WanTransformer3DModel.from_pretrained(args.frames_network / "transformer")
    for_frames.half().save_pretrained(folder / "transformer_i2v")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.text / "tokenizer")
    save_tokenizer(tokenizer, folder / "tokenizer")
    save_text_encoder(args.text / "text_encoder", folder / "text_encoder")
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=args.flow_shift
    )
    scheduler.save_pretrained(folder / "scheduler")
    write_index(folder)
    (folder / "vitascope.json").write_text(json.dumps(description(tokenizer, args), indent=2) + "\n")
    tidy(folder)
    old = args.out.with_name(args.out.name + ".old")
    if args.out.exists():
        args.out.rename(old)
    folder.rename(args.out)
    shutil.rmtree(old, ignore_errors=True)
    size = sum(p.stat().st_size for p in args.out.rglob("*") if p.is_file())
    print(f"{args.out}: {size / 1e6:.2f} MB")


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("src/vitascope/bundled/vitascope-tiny"))
    parser.add_argument("--vae", type=Path, default=Path("training/runs/decoder/vae"))
    parser.add_argument("--text", type=Path, default=Path("training/runs/text"))
    parser.add_argument("--text-network", type=Path, default=Path("training/runs/transformer-text"))
    parser.add_argument("--frames-network", type=Path, default=Path("training/runs/transformer-frames"))
    parser.add_argument("--inference-steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--frames-guidance", type=float, default=2.0, help="where frames are given")
    parser.add_argument("--flow-shift", type=float, default=4.0)
    with torch.no_grad():
        export(parser.parse_args())


if __name__ == "__main__":
    main()
