"""Tiny CogVideoX pipelines: 2b, 5b and 1.5, each for text and for a first frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DiffusionPipeline,
)
from PIL import Image
from transformers import T5Config, T5EncoderModel

from tiny_models import CASES, Case, picture, t5_tokenizer
from vitascope.models.cogvideox.card import DYNAMIC
from vitascope.models.family import Media
from vitascope.request import GenerationRequest

CHANNELS, TEXT_TOKENS = 4, 16

# As the published folders have it.
_SCHEDULE = {
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
}


def _transformer(**config: Any) -> CogVideoXTransformer3DModel:
    torch.manual_seed(0)
    network = CogVideoXTransformer3DModel(
        **{
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "in_channels": CHANNELS,
            "out_channels": CHANNELS,
            "time_embed_dim": 8,
            "text_embed_dim": 32,
            "num_layers": 2,
            "sample_width": 4,
            "sample_height": 4,
            "sample_frames": 9,
            "max_text_seq_length": TEXT_TOKENS,
            **config,
        }
    )
    return network.eval()


def _vae(**config: Any) -> AutoencoderKLCogVideoX:
    torch.manual_seed(1)
    return AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8),
        latent_channels=CHANNELS,
        layers_per_block=1,
        norm_num_groups=2,
        **config,
    ).eval()


def _text() -> dict[str, Any]:
    torch.manual_seed(2)
    config = T5Config(vocab_size=128, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    return {"tokenizer": t5_tokenizer(), "text_encoder": T5EncoderModel(config).eval()}


def cogvideox_2b(**config: Any) -> DiffusionPipeline:
    """2b: fixed positions, DDIM."""
    scheduler = CogVideoXDDIMScheduler(**_SCHEDULE)
    return CogVideoXPipeline(transformer=_transformer(**config), vae=_vae(), scheduler=scheduler, **_text())


def cogvideox_5b() -> DiffusionPipeline:
    """5b: rotary positions, DPM."""
    transformer = _transformer(use_rotary_positional_embeddings=True)
    scheduler = CogVideoXDPMScheduler(**_SCHEDULE)
    vae = _vae(scaling_factor=0.7)
    return CogVideoXPipeline(transformer=transformer, vae=vae, scheduler=scheduler, **_text())


def cogvideox_5b_i2v(*, learned: bool = True) -> DiffusionPipeline:
    """5b for a first frame: learned and rotary positions at once, which fix the size."""
    transformer = _transformer(
        in_channels=2 * CHANNELS,
        use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=learned,
    )
    scheduler = CogVideoXDPMScheduler(**_SCHEDULE)
    return CogVideoXImageToVideoPipeline(
        transformer=transformer, vae=_vae(scaling_factor=0.7), scheduler=scheduler, **_text()
    )


_15 = {
    "use_rotary_positional_embeddings": True,
    "patch_size_t": 2,
    "patch_bias": False,
    "sample_height": 8,
    "sample_width": 6,
}


def cogvideox_15() -> DiffusionPipeline:
    """1.5: two latent frames a patch, rotary positions counted from the corner."""
    scheduler = CogVideoXDPMScheduler(**_SCHEDULE)
    vae = _vae(scaling_factor=0.7)
    return CogVideoXPipeline(transformer=_transformer(**_15), vae=vae, scheduler=scheduler, **_text())


def cogvideox_15_i2v() -> DiffusionPipeline:
    """1.5 for a first frame: its latents divided by the scale, and an offset embedding."""
    transformer = _transformer(in_channels=2 * CHANNELS, ofs_embed_dim=8, **_15)
    vae = _vae(scaling_factor=0.7, invert_scale_latents=True)
    return CogVideoXImageToVideoPipeline(
        transformer=transformer, vae=vae, scheduler=CogVideoXDPMScheduler(**_SCHEDULE), **_text()
    )


def _with_solver(pipeline: Any, name: str | None) -> Any:
    """The same pipeline, with the scheduler that a solver's name stands for."""
    kind = CogVideoXDDIMScheduler if name == "ddim" else CogVideoXDPMScheduler
    if not isinstance(pipeline.scheduler, kind):
        scheduler = kind.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
        pipeline = type(pipeline)(**pipeline.components | {"scheduler": scheduler})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def ask_cogvideox(pipeline: Any, request: GenerationRequest, media: Media, output_type: str) -> Any:
    """Ask a CogVideoX pipeline for what `request` says."""
    pictures = {} if media.first_frame is None else {"image": Image.fromarray(media.first_frame)}
    return _with_solver(pipeline, request.sample_solver)(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        height=request.height,
        width=request.width,
        num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        use_dynamic_cfg=request.sample_solver == DYNAMIC,
        max_sequence_length=request.max_sequence_length,
        generator=torch.Generator().manual_seed(request.seed),
        output_type=output_type,
        **pictures,
    ).frames


_PICTURE = Media(picture(1, 40))
_LONGER = {"num_frames": 17}
_OTHER = {"height": 64, "width": 32, **_LONGER}


def _case(name: str, build: Callable[[], DiffusionPipeline], **more: Any) -> Case:
    return Case(name, build, ask_cogvideox, **{"other": _OTHER} | more)


COGVIDEOX_CASES = {
    case.name: case
    for case in (
        _case("cogvideox_2b", cogvideox_2b),
        _case("cogvideox_5b", cogvideox_5b),
        _case("cogvideox_5b_i2v", lambda: cogvideox_5b_i2v(learned=False), media=_PICTURE),
        _case("cogvideox_5b_i2v_learned", cogvideox_5b_i2v, media=_PICTURE, other=_LONGER),
        _case("cogvideox_15", cogvideox_15),
        _case("cogvideox_15_i2v", cogvideox_15_i2v, media=_PICTURE),
    )
}
CASES.update(COGVIDEOX_CASES)
