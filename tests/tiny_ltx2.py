"""Tiny LTX-2 folders: random weights in the real layout, with the real compression of 32 x 32 x 8."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    FlowMatchEulerDiscreteScheduler,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder, LTX2VocoderWithBWE
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, GemmaTokenizer

HIDDEN, LAYERS, CHANNELS = 16, 2, 4


def save_ltx2(folder: Path, version: str = "2.3", *, distilled: bool = False) -> Path:
    """Write a whole folder of LTX-2 ("2.0") or LTX-2.3 ("2.3")."""
    modern = version == "2.3"
    pipeline = LTX2Pipeline(
        scheduler=_scheduler(distilled=distilled),
        vae=_video_vae(),
        audio_vae=_audio_vae(),
        text_encoder=_text_encoder(),
        tokenizer=_tokenizer(),
        connectors=_connectors(modern=modern),
        transformer=_transformer(modern=modern),
        vocoder=_vocoder_with_extension() if modern else _vocoder(),
    )
    pipeline.save_pretrained(folder)
    return folder


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
