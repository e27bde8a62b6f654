"""Complete pipelines of a few thousand random weights, with tokenizers made offline.

A family joins the contract suite with one `Case` for each way of using it: how to build the diffusers
pipeline that is its reference, what to ask for, and how to ask the reference the same.
"""

from __future__ import annotations

import atexit
import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLWan,
    DiffusionPipeline,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
    WanVideoToVideoPipeline,
)
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

from vitascope.card import Wish, resolve
from vitascope.config.model_source import ModelSource
from vitascope.engine.load import load_family
from vitascope.models.family import Family, Media
from vitascope.request import GenerationRequest

torch.set_num_threads(1)  # sums in one order: results are compared to the bit

SIZE = {"height": 32, "width": 32, "num_frames": 9}
OTHER = {"height": 64, "width": 32, "num_frames": 5, "num_inference_steps": 4}


def picture(seed: int, size: int = 32) -> np.ndarray:
    """Return some uint8 picture, (size, size, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Case:
    """One way of using a family. `ask` runs the reference and returns what its `output_type` says.

    `other` is another size and number of steps that the case must do as well. `tolerance`, of the largest
    latent, is 0 where results equal the reference's to the bit.
    """

    name: str
    build: Callable[[], DiffusionPipeline]
    ask: Callable[[DiffusionPipeline, GenerationRequest, Media, str], Any]
    wish: dict[str, Any] = field(default_factory=dict)
    media: Media = field(default_factory=Media)
    other: dict[str, Any] = field(default_factory=lambda: dict(OTHER))
    tolerance: float = 0.0


@dataclass(frozen=True)
class Tiny:
    """A case's folder, the family loaded from it, and its reference."""

    case: Case
    folder: Path
    family: Family
    pipeline: DiffusionPipeline

    def request(self, **wishes: Any) -> GenerationRequest:
        """Resolve the case's wish, changed by `wishes`, against the card."""
        asked: dict[str, Any] = {"prompt": "a cat runs", "negative_prompt": "bad", "seed": 7, **SIZE}
        asked |= {"num_inference_steps": 3, "guidance_scale": 4.0}
        asked |= {"first_frame": "a" * 64} if self.case.media.first_frame is not None else {}
        asked |= {"last_frame": "b" * 64} if self.case.media.last_frame is not None else {}
        asked |= {"video": "c" * 64} if self.case.media.video is not None else {}
        return resolve(Wish(**(asked | self.case.wish | wishes)), self.family.card)

    def reference(self, request: GenerationRequest, output_type: str = "latent") -> Any:
        """Run the diffusers pipeline on the same request."""
        return self.case.ask(self.pipeline, request, self.case.media, output_type)


# ---- Wan


def t5_tokenizer() -> T5Tokenizer:
    """One token a character, for T5 and UMT5."""
    specials = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    characters = [(chr(c), -3.0) for c in range(33, 127)]
    return T5Tokenizer(vocab=specials + characters, extra_ids=0, model_max_length=512)


def _wan_transformer(in_channels: int = 16, out_channels: int = 16, seed: int = 0, **config: Any) -> Any:
    torch.manual_seed(seed)
    return WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=in_channels,
        out_channels=out_channels,
        text_dim=32,
        ffn_dim=32,
        num_layers=2,
        **config,
    ).eval()


def _wan_vae(**config: Any) -> AutoencoderKLWan:
    torch.manual_seed(1)
    small = {"base_dim": 3, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    return AutoencoderKLWan(**small, temperal_downsample=[False, True, True], **config).eval()


def _wan22_vae() -> AutoencoderKLWan:
    return _wan_vae(
        z_dim=48,
        in_channels=12,
        out_channels=12,
        is_residual=True,
        patch_size=2,
        scale_factor_spatial=16,
        latents_mean=[0.1] * 48,
        latents_std=[1.5] * 48,
    )


def _wan_text() -> dict[str, Any]:
    torch.manual_seed(2)
    config = UMT5Config(
        vocab_size=128, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
    )
    return {
        "tokenizer": t5_tokenizer(),
        "text_encoder": UMT5EncoderModel(config).eval(),
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    }


def _clip_vision() -> dict[str, Any]:
    torch.manual_seed(3)
    config = CLIPVisionConfig(
        hidden_size=16,
        projection_dim=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        intermediate_size=32,
        patch_size=14,
    )
    processor = CLIPImageProcessorPil(crop_size={"height": 28, "width": 28}, size={"shortest_edge": 28})
    return {"image_encoder": CLIPVisionModel(config).eval(), "image_processor": processor}


_NO_CLIP = {"image_encoder": None, "image_processor": None}


def _wan21_pictures(**config: Any) -> DiffusionPipeline:
    transformer = _wan_transformer(36, image_dim=16, added_kv_proj_dim=24, **config)
    return WanImageToVideoPipeline(vae=_wan_vae(), transformer=transformer, **_clip_vision(), **_wan_text())


def wan21_t2v() -> DiffusionPipeline:
    """Wan 2.1 text to video."""
    return WanPipeline(vae=_wan_vae(), transformer=_wan_transformer(), **_wan_text())


def wan22_t2v() -> DiffusionPipeline:
    """Wan 2.2 A14B, text: two experts."""
    experts = {"transformer": _wan_transformer(), "transformer_2": _wan_transformer(seed=5)}
    return WanPipeline(vae=_wan_vae(), boundary_ratio=0.875, **experts, **_wan_text())


def wan22_i2v() -> DiffusionPipeline:
    """Wan 2.2 A14B, pictures: two experts, no image encoder."""
    experts = {"transformer": _wan_transformer(36), "transformer_2": _wan_transformer(36, seed=5)}
    return WanImageToVideoPipeline(vae=_wan_vae(), boundary_ratio=0.9, **experts, **_NO_CLIP, **_wan_text())


def wan22_5b() -> DiffusionPipeline:
    """Wan 2.2 5B: one transformer for text and pictures."""
    transformer = _wan_transformer(48, 48)
    return WanPipeline(vae=_wan22_vae(), transformer=transformer, expand_timesteps=True, **_wan_text())


def ask_wan(pipeline: Any, request: GenerationRequest, media: Media, output_type: str) -> Any:
    """Ask a Wan pipeline for what `request` says."""
    if media.first_frame is not None and isinstance(pipeline, WanPipeline):
        parts = {name: part for name, part in pipeline.components.items() if part is not None}
        pipeline = WanImageToVideoPipeline(**parts, **_NO_CLIP, expand_timesteps=True)
        pipeline.set_progress_bar_config(disable=True)
    pictures = {
        name: Image.fromarray(frame)
        for name, frame in (("image", media.first_frame), ("last_image", media.last_frame))
        if frame is not None
    }
    return pipeline(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        height=request.height,
        width=request.width,
        num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        guidance_scale_2=request.guidance_scale_2,
        max_sequence_length=request.max_sequence_length,
        generator=torch.Generator().manual_seed(request.seed),
        output_type=output_type,
        **pictures,
    ).frames


def ask_wan_clip(pipeline: Any, request: GenerationRequest, media: Media, output_type: str) -> Any:
    """Ask Wan's video-to-video pipeline, on the networks of another one, for what `request` says."""
    parts = {name: pipeline.components[name] for name in WanVideoToVideoPipeline._get_signature_types()}
    pipeline = WanVideoToVideoPipeline(**parts)
    pipeline.vae_scale_factor_spatial = pipeline.vae.config.scale_factor_spatial  # it takes each VAE's for 8
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        video=[Image.fromarray(frame) for frame in media.video],
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        height=request.height,
        width=request.width,
        num_inference_steps=request.num_inference_steps,
        strength=request.strength,
        guidance_scale=request.guidance_scale,
        max_sequence_length=request.max_sequence_length,
        generator=torch.Generator().manual_seed(request.seed),
        output_type=output_type,
    ).frames


def clip(seed: int, num_frames: int = 9, size: int = 32) -> np.ndarray:
    """Return some uint8 clip, (num_frames, size, size, 3)."""
    return np.stack([picture(seed + i, size) for i in range(num_frames)])


_ONE = Media(picture(1, 40))
_TWO = Media(picture(1, 40), picture(2, 48))

WAN_CASES = [
    Case("wan21_t2v", wan21_t2v, ask_wan),
    Case(
        "wan21_v2v",
        wan21_t2v,
        ask_wan_clip,
        wish={"num_inference_steps": 4},  # of which 0.8 are three
        media=Media(video=clip(3)),
        other={"height": 64, "width": 32, "num_inference_steps": 5, "strength": 0.6},
    ),
    Case("wan21_i2v", _wan21_pictures, ask_wan, media=_ONE),
    Case("wan21_flf2v", lambda: _wan21_pictures(pos_embed_seq_len=2 * 5), ask_wan, media=_TWO),
    Case("wan22_t2v", wan22_t2v, ask_wan, wish={"num_inference_steps": 4, "guidance_scale_2": 3.0}),
    Case("wan22_i2v", wan22_i2v, ask_wan, wish={"num_inference_steps": 4}, media=_ONE),
    Case("wan22_flf2v", wan22_i2v, ask_wan, wish={"num_inference_steps": 4}, media=_TWO),
    Case("wan22_5b_t2v", wan22_5b, ask_wan),
    Case("wan22_5b_i2v", wan22_5b, ask_wan, media=_ONE),
]

CASES = {case.name: case for case in WAN_CASES}


# ---- folders and families, made once a session


@functools.cache
def _home() -> Path:
    home = tempfile.TemporaryDirectory(prefix="vitascope-tiny-")
    atexit.register(home.cleanup)
    return Path(home.name)


@functools.cache
def tiny(name: str) -> Tiny:
    """Build, save and load one of the contract's cases."""
    return made(CASES[name])


def aligned(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """Give weights memory of their own, as our loading does.

    diffusers leaves them where they lie in the mapped file, at any address; some kernels take other paths for
    those than for aligned ones, and round otherwise.
    """
    for network in pipeline.components.values():
        if isinstance(network, torch.nn.Module):
            for tensor in (*network.parameters(), *network.buffers()):
                tensor.data = tensor.data.clone()
    return pipeline


def made(case: Case) -> Tiny:
    """Build, save and load a case."""
    built = case.build()
    folder = _home() / case.name
    built.save_pretrained(folder, safe_serialization=True)
    reference = aligned(type(built).from_pretrained(folder))
    reference.set_progress_bar_config(disable=True)
    return Tiny(case, folder, load_family(ModelSource(folder), device="cpu"), reference)
