"""Tiny LTX-2 pipelines: random weights in the real layout, with the real compression of 32 x 32 x 8."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    FlowMatchEulerDiscreteScheduler,
    LTX2ConditionPipeline,
    LTX2ImageToVideoPipeline,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2 import (
    LTX2TextConnectors,
    LTX2VideoCondition,
    LTX2Vocoder,
    LTX2VocoderWithBWE,
)
from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES
from PIL import Image
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, GemmaTokenizer

from tiny_models import CASES, Case, picture
from vitascope.models.family import Media
from vitascope.request import GenerationRequest

HIDDEN, LAYERS, CHANNELS = 16, 2, 4

# Without guidance of any kind; a distilled checkpoint is made for that.
PLAIN = {
    "guidance_scale": 1.0,
    "audio_guidance_scale": 1.0,
    "stg_scale": 0.0,
    "audio_stg_scale": 0.0,
    "modality_scale": 1.0,
    "audio_modality_scale": 1.0,
    "guidance_rescale": 0.0,
    "audio_guidance_rescale": 0.0,
}
# diffusers' network without `perturbed_attn` ignores the perturbation: its pass repeats the conditional one.
NO_PERTURBATION = {"stg_scale": 0.0, "audio_stg_scale": 0.0}


def ltx2(*, distilled: bool = False) -> LTX2Pipeline:
    """LTX-2."""
    return _pipeline(modern=False, distilled=distilled, vocoder=_vocoder())


def ltx23(*, distilled: bool = False) -> LTX2Pipeline:
    """LTX-2.3."""
    return _pipeline(modern=True, distilled=distilled, vocoder=_vocoder_with_extension())


def ask_ltx2(
    pipeline: LTX2Pipeline, request: GenerationRequest, media: Media, output_type: str, **knobs: Any
) -> Any:
    """Ask the LTX-2 pipeline of the request's task; latents come as streams, "sound" is the waveform."""
    kind, pictures = _task(media)
    if kind is not LTX2Pipeline:
        pipeline = kind(**pipeline.components)
        pipeline.set_progress_bar_config(disable=True)
    out = pipeline(
        **pictures,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        height=request.height,
        width=request.width,
        num_frames=request.num_frames,
        frame_rate=request.fps,
        num_inference_steps=request.num_inference_steps,
        generator=torch.Generator().manual_seed(request.seed),
        output_type="np" if output_type == "sound" else output_type,
        **(_native(pipeline, request) | knobs),
    )
    if output_type == "latent":
        return {"video": out.frames, "audio": out.audio}
    return out.audio if output_type == "sound" else out.frames


def _task(media: Media) -> tuple[type, dict[str, Any]]:
    if media.first_frame is None:
        return LTX2Pipeline, {}
    first = Image.fromarray(media.first_frame)
    if media.last_frame is None:
        return LTX2ImageToVideoPipeline, {"image": first}
    ends = [(first, 0), (Image.fromarray(media.last_frame), -1)]
    return LTX2ConditionPipeline, {"conditions": [LTX2VideoCondition(frames=f, index=i) for f, i in ends]}


def _native(pipeline: LTX2Pipeline, request: GenerationRequest) -> dict[str, Any]:
    """What the pipelines leave to whoever calls them: the values that a checkpoint is made for."""
    modern = not pipeline.transformer.config.use_prompt_embeddings
    knobs = {
        "guidance_scale": request.guidance_scale,
        "use_cross_timestep": modern,
        "spatio_temporal_guidance_blocks": [1],
    }
    knobs |= {} if modern else NO_PERTURBATION
    knobs |= PLAIN if request.guidance_scale == 1.0 else {}
    if not pipeline.scheduler.config.use_dynamic_shifting:
        knobs["sigmas"] = DISTILLED_SIGMA_VALUES
    return knobs


def _pipeline(*, modern: bool, distilled: bool, vocoder: Any) -> LTX2Pipeline:
    return LTX2Pipeline(
        scheduler=_scheduler(distilled=distilled),
        vae=_video_vae(),
        audio_vae=_audio_vae(),
        text_encoder=_text_encoder(),
        tokenizer=_tokenizer(),
        connectors=_connectors(modern=modern),
        transformer=_transformer(modern=modern),
        vocoder=vocoder,
    )


def _scheduler(*, distilled: bool) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=not distilled,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        shift_terminal=None if distilled else 0.1,
    )


def _tokenizer() -> GemmaTokenizer:
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    pieces = [f"<0x{i:02X}>" for i in range(256)] + ["▁"] + [chr(c) for c in range(33, 127)]
    vocab = {piece: i for i, piece in enumerate(special + pieces)}
    return GemmaTokenizer(vocab=vocab, merges=[], model_max_length=1024, padding_side="left")


def _text_encoder() -> Gemma3ForConditionalGeneration:
    torch.manual_seed(1)
    config = Gemma3Config(
        text_config={
            "vocab_size": 400,
            "hidden_size": HIDDEN,
            "intermediate_size": 16,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "max_position_embeddings": 2048,
            "sliding_window": 64,
        },
        vision_config={
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 28,
            "patch_size": 14,
        },
        mm_tokens_per_image=4,
        boi_token_index=397,
        eoi_token_index=398,
        image_token_index=399,
    )
    return Gemma3ForConditionalGeneration(config).eval()


def _connectors(*, modern: bool) -> LTX2TextConnectors:
    torch.manual_seed(2)
    own = (
        {
            "per_modality_projections": True,
            "video_hidden_dim": 16,
            "audio_hidden_dim": 8,
            "video_gated_attn": True,
            "audio_gated_attn": True,
            "proj_bias": True,
        }
        if modern
        else {}
    )
    return LTX2TextConnectors(
        caption_channels=HIDDEN,
        text_proj_in_factor=LAYERS + 1,
        video_connector_num_attention_heads=2,
        video_connector_attention_head_dim=8,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=128,
        audio_connector_num_attention_heads=2,
        audio_connector_attention_head_dim=4 if modern else 8,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=128,
        rope_double_precision=False,
        rope_type="split",
        **own,
    ).eval()


def _transformer(*, modern: bool) -> LTX2VideoTransformer3DModel:
    torch.manual_seed(3)
    own = (
        {
            "gated_attn": True,
            "cross_attn_mod": True,
            "audio_gated_attn": True,
            "audio_cross_attn_mod": True,
            "use_prompt_embeddings": False,
            "perturbed_attn": True,
        }
        if modern
        else {}
    )
    return LTX2VideoTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=8,
        num_layers=2,
        caption_channels=HIDDEN,
        rope_double_precision=False,
        rope_type="split",
        **own,
    ).eval()


def _video_vae() -> AutoencoderKLLTX2Video:
    torch.manual_seed(4)
    vae = AutoencoderKLLTX2Video(
        latent_channels=CHANNELS,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 16, 32),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        decoder_causal=False,
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
    ).eval()
    _spread(vae)
    return vae


def _audio_vae() -> AutoencoderKLLTX2Audio:
    torch.manual_seed(5)
    vae = AutoencoderKLLTX2Audio(
        base_channels=4,
        ch_mult=(1, 1, 1),
        num_res_blocks=1,
        latent_channels=2,
        resolution=32,
        mel_bins=8,
    ).eval()
    _spread(vae)
    return vae


def _vocoder() -> LTX2Vocoder:
    torch.manual_seed(6)
    return LTX2Vocoder(
        in_channels=16,
        hidden_channels=32,
        upsample_kernel_sizes=[16, 15, 8, 4, 4],
        upsample_factors=[6, 5, 2, 2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3, 5]],
        output_sampling_rate=24000,
    ).eval()


def _vocoder_with_extension() -> LTX2VocoderWithBWE:
    torch.manual_seed(7)
    return LTX2VocoderWithBWE(
        in_channels=16,
        hidden_channels=32,
        upsample_kernel_sizes=[11, 4, 4, 4, 4],
        upsample_factors=[5, 2, 2, 4, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3, 5]],
        bwe_in_channels=16,
        bwe_hidden_channels=32,
        bwe_resnet_kernel_sizes=[3],
        bwe_resnet_dilations=[[1, 3, 5]],
        num_mel_channels=8,
    ).eval()


def _spread(vae: AutoencoderKLLTX2Audio | AutoencoderKLLTX2Video) -> None:
    """Give latents a mean and a spread of their own, so that a forgotten scale shows."""
    vae.latents_mean.normal_()
    vae.latents_std.uniform_(0.5, 2.0)


_SIZES = {"height": 64, "width": 64, "num_frames": 9}
_OTHER = {"height": 64, "width": 96, "num_frames": 17, "num_inference_steps": 4}
_FIXED = {"num_inference_steps": 8, "guidance_scale": 1.0}
_ONE = Media(picture(1, 50))
_TWO = Media(picture(1, 50), picture(2, 71))

LTX2_CASES = {
    case.name: case
    for case in (
        Case("ltx2_t2v", ltx2, ask_ltx2, wish=_SIZES, other=_OTHER),
        Case("ltx2_i2v", ltx2, ask_ltx2, wish=_SIZES, other=_OTHER, media=_ONE),
        Case("ltx23_t2v", ltx23, ask_ltx2, wish=_SIZES, other=_OTHER),
        Case("ltx23_i2v", ltx23, ask_ltx2, wish=_SIZES, other=_OTHER, media=_ONE),
        Case("ltx23_flf2v", ltx23, ask_ltx2, wish=_SIZES, other=_OTHER, media=_TWO),
        Case(
            "ltx23_distilled_t2v",
            lambda: ltx23(distilled=True),
            ask_ltx2,
            wish=_SIZES | _FIXED,
            other=_OTHER | _FIXED,
        ),
    )
}

CASES.update(LTX2_CASES)
