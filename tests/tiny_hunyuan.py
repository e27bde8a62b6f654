"""HunyuanVideo and HunyuanVideo 1.5 in a few thousand random weights: their pipelines, and cases.

The tokenizers know the pieces of the models' templates as single tokens, as many as the real ones make of
them, so that the references run with their own templates and lengths.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    ClassifierFreeGuidance,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoImageToVideoPipeline,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from diffusers.pipelines.hunyuan_video import pipeline_hunyuan_video, pipeline_hunyuan_video_image2video
from PIL import Image
from transformers import (
    ByT5Tokenizer,
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaModel,
    LlamaTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2Tokenizer,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
)
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextConfig, Qwen2_5_VLTextModel

from tiny_models import CASES, Case, picture
from vitascope.models.family import Media
from vitascope.request import GenerationRequest

TEXT_TEMPLATE = pipeline_hunyuan_video.DEFAULT_PROMPT_TEMPLATE
PICTURE_TEMPLATE = pipeline_hunyuan_video_image2video.DEFAULT_PROMPT_TEMPLATE

# ---- tokenizers


def byte_characters() -> list[str]:
    """Return the 256 characters that byte-level tokenizers write bytes as."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


def _teach(tokenizer: Any, text: str, specials: list[str], num_tokens: int) -> None:
    """Make a byte-level tokenizer read `text` as `num_tokens` tokens: most of it is one, its tail letters."""
    tokenizer.add_special_tokens({"additional_special_tokens": specials})
    parts = [p for p in re.split("(" + "|".join(map(re.escape, specials)) + ")", text) if p]
    longest = max(parts, key=len)
    tokenizer.add_tokens([p for p in parts if p not in (longest, *specials)])
    tokenizer.add_tokens([longest[: len(parts) - num_tokens]])
    assert len(tokenizer(text).input_ids) == num_tokens


def _llama_tokenizer(template: dict[str, Any]) -> LlamaTokenizer:
    pieces = ["<unk>", "<s>", "</s>", "<pad>"] + [f"<0x{i:02X}>" for i in range(256)] + ["▁"]
    tokenizer = LlamaTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=[],
        pad_token="<pad>",
        model_max_length=2048,
        padding_side="right",
    )
    specials = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>", "\n\n", "sys"]
    _teach(tokenizer, template["template"].split("{}")[0], specials, template["crop_start"])
    return tokenizer


def _clip_tokenizer() -> CLIPTokenizer:
    letters = byte_characters()
    tokens = letters + [c + "</w>" for c in letters] + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=[], model_max_length=77)


# ---- HunyuanVideo

_LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "vocab_size": 400,
    "pad_token_id": 3,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _hunyuan_vae() -> AutoencoderKLHunyuanVideo:
    torch.manual_seed(1)
    return AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    ).eval()


def _hunyuan_transformer(in_channels: int = 4, **config: Any) -> HunyuanVideoTransformer3DModel:
    torch.manual_seed(0)
    return HunyuanVideoTransformer3DModel(
        in_channels=in_channels,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=1,
        text_embed_dim=16,
        pooled_projection_dim=16,
        rope_axes_dim=(2, 4, 4),
        **config,
    ).eval()


def _clip_text() -> CLIPTextModel:
    torch.manual_seed(2)
    config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=16,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        projection_dim=16,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    return CLIPTextModel(config).eval()


def _llava(tokenizer: LlamaTokenizer) -> LlavaForConditionalGeneration:
    torch.manual_seed(3)
    vision = CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=16,
        projection_dim=16,
        num_attention_heads=2,
        num_hidden_layers=3,
        image_size=48,
        patch_size=2,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**_LLAMA),
        pad_token_id=3,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return LlavaForConditionalGeneration(config).eval()


def hunyuan_t2v() -> DiffusionPipeline:
    """HunyuanVideo, text to video."""
    torch.manual_seed(3)
    return HunyuanVideoPipeline(
        text_encoder=LlamaModel(LlamaConfig(**_LLAMA)).eval(),
        tokenizer=_llama_tokenizer(TEXT_TEMPLATE),
        transformer=_hunyuan_transformer(),
        vae=_hunyuan_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=_clip_text(),
        tokenizer_2=_clip_tokenizer(),
    )


def hunyuan_i2v(way: str) -> DiffusionPipeline:
    """HunyuanVideo-I2V: `token_replace` embeds guidance, `latent_concat` (33 channels) does not."""
    tokenizer = _llama_tokenizer(PICTURE_TEMPLATE)
    concat = way == "latent_concat"
    return HunyuanVideoImageToVideoPipeline(
        text_encoder=_llava(tokenizer),
        tokenizer=tokenizer,
        transformer=_hunyuan_transformer(
            9 if concat else 4, guidance_embeds=not concat, image_condition_type=way
        ),
        vae=_hunyuan_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=_clip_text(),
        tokenizer_2=_clip_tokenizer(),
        image_processor=CLIPImageProcessorPil(
            crop_size={"height": 48, "width": 48}, size={"shortest_edge": 48}
        ),
    )


def ask_hunyuan(pipeline: Any, request: GenerationRequest, media: Media, output_type: str) -> Any:
    """Ask a HunyuanVideo pipeline for what `request` says."""
    config = pipeline.transformer.config
    # The reference throws the first four frames away where the picture lies beside the latents.
    unseen = 4 if config.image_condition_type == "latent_concat" else 0
    scales = {"guidance_scale": request.guidance_scale, "true_cfg_scale": request.true_cfg_scale}
    if not config.guidance_embeds:
        scales = {"true_cfg_scale": request.guidance_scale}
    pictures = {} if media.first_frame is None else {"image": Image.fromarray(media.first_frame)}
    return pipeline(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        height=request.height,
        width=request.width,
        num_frames=request.num_frames + unseen,
        num_inference_steps=request.num_inference_steps,
        max_sequence_length=request.max_sequence_length,
        generator=torch.Generator().manual_seed(request.seed),
        output_type=output_type,
        **scales,
        **pictures,
    ).frames


# ---- HunyuanVideo 1.5

_CHAT = (
    "{% for m in messages %}<|im_start|>{{m['role']}}\n{{m['content']}}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _qwen_tokenizer() -> Qwen2Tokenizer:
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer(
        vocab={t: i for i, t in enumerate(byte_characters() + specials)}, merges=[], model_max_length=4096
    )
    tokenizer.chat_template = _CHAT
    system = inspect.signature(HunyuanVideo15Pipeline._get_mllm_prompt_embeds).parameters["system_message"]
    head = f"<|im_start|>system\n{system.default}<|im_end|>\n<|im_start|>user\n"
    _teach(tokenizer, head, specials[1:], 108)
    return tokenizer


def _hunyuan15_vae() -> AutoencoderKLHunyuanVideo15:
    torch.manual_seed(1)
    return AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(16, 16, 16),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=4,
        downsample_match_channel=False,
        upsample_match_channel=False,
    ).eval()


def _hunyuan15_transformer(**config: Any) -> HunyuanVideo15Transformer3DModel:
    torch.manual_seed(0)
    return HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        num_refiner_layers=1,
        mlp_ratio=2.0,
        text_embed_dim=16,
        text_embed_2_dim=32,
        image_embed_dim=12,
        rope_axes_dim=(2, 2, 4),
        target_size=32,
        **config,
    ).eval()


def _qwen() -> Qwen2_5_VLTextModel:
    torch.manual_seed(2)
    config = Qwen2_5_VLTextConfig(
        vocab_size=400,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=256,
        bos_token_id=256,
        eos_token_id=256,
        rope_parameters={"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6},
    )
    return Qwen2_5_VLTextModel(config).eval()


def _byt5() -> T5EncoderModel:
    torch.manual_seed(3)
    config = T5Config(vocab_size=400, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    return T5EncoderModel(config).eval()


def _hunyuan15_parts(guider: dict[str, Any], **config: Any) -> dict[str, Any]:
    return {
        "transformer": _hunyuan15_transformer(**config),
        "vae": _hunyuan15_vae(),
        "text_encoder": _qwen(),
        "tokenizer": _qwen_tokenizer(),
        "text_encoder_2": _byt5(),
        "tokenizer_2": ByT5Tokenizer(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=5.0),
        "guider": ClassifierFreeGuidance(guidance_scale=6.0, **guider),
    }


def _siglip() -> SiglipVisionModel:
    torch.manual_seed(4)
    config = SiglipVisionConfig(
        hidden_size=12,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    return SiglipVisionModel(config).eval()


def hunyuan15_t2v(**guider: Any) -> DiffusionPipeline:
    """HunyuanVideo 1.5, text to video."""
    return HunyuanVideo15Pipeline(**_hunyuan15_parts(guider, task_type="t2v"))


def hunyuan15_i2v(**config: Any) -> DiffusionPipeline:
    """HunyuanVideo 1.5, picture to video."""
    return HunyuanVideo15ImageToVideoPipeline(
        image_encoder=_siglip(),
        feature_extractor=SiglipImageProcessorPil(size={"height": 28, "width": 28}),
        **_hunyuan15_parts({}, task_type="i2v", **config),
    )


def ask_hunyuan15(pipeline: Any, request: GenerationRequest, media: Media, output_type: str) -> Any:
    """Ask a HunyuanVideo 1.5 pipeline for what `request` says."""
    size: dict[str, Any] = {"height": request.height, "width": request.width}
    if media.first_frame is not None:
        # The reference takes the size from the picture; here it is told.
        pipeline.video_processor.calculate_default_height_width = lambda **_: tuple(size.values())
        picture = {"image": Image.fromarray(media.first_frame)}
    pipeline.guider = pipeline.guider.new(guidance_scale=request.guidance_scale)
    return pipeline(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps,
        generator=torch.Generator().manual_seed(request.seed),
        output_type=output_type,
        **(size if media.first_frame is None else picture),
    ).frames


# ---- cases

# The references carry padded text, masked, through every block; here it is left out. What is masked adds
# exact zeros, but sums of other lengths round otherwise: 3 to 5e-7 of the largest latent was seen.
_ROUNDING = 2e-6
_PICTURE = Media(picture(1, 40))
_QUOTING = 'a cat says "hello" and “bye”'

HUNYUAN_CASES = [
    Case("hunyuan_t2v", hunyuan_t2v, ask_hunyuan, wish={"true_cfg_scale": 3.0}, tolerance=_ROUNDING),
    Case(
        "hunyuan_i2v_concat",
        lambda: hunyuan_i2v("latent_concat"),
        ask_hunyuan,
        media=_PICTURE,
        tolerance=_ROUNDING,
    ),
    Case(
        "hunyuan_i2v_replace",
        lambda: hunyuan_i2v("token_replace"),
        ask_hunyuan,
        wish={"true_cfg_scale": 3.0},
        media=_PICTURE,
        tolerance=_ROUNDING,
    ),
    Case("hunyuan15_t2v", hunyuan15_t2v, ask_hunyuan15, wish={"prompt": _QUOTING}, tolerance=_ROUNDING),
    Case("hunyuan15_i2v", hunyuan15_i2v, ask_hunyuan15, media=_PICTURE, tolerance=_ROUNDING),
]
CASES.update({case.name: case for case in HUNYUAN_CASES})
