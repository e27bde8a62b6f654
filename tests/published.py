"""Published checkpoints without their weights: every configuration as it lies in their repositories.

What tiny checkpoints of our own cannot show is here: null components, libraries' and old classes' names,
keys of other versions, tokenizers in the layouts of their time. Values follow the repositories' files;
vocabularies are short, networks two layers deep and weights none, since they are not what is looked at.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTokenizer

Json = dict[str, Any]
Parts = dict[str, tuple[list[str | None], Json]]  # component: its entry in the index, its files

DIFFUSERS, TRANSFORMERS = "diffusers", "transformers"
_DEPTHS = ("num_layers", "num_hidden_layers", "num_decoder_layers", "num_single_layers")
_NO_WEIGHTS = (2).to_bytes(8, "little") + b"{}"


def write(folder: Path, pipeline: str, parts: Parts, **settings: Any) -> Path:
    """Write a folder: its index and each component's files, `str` and `bytes` as they are, others as JSON."""
    folder.mkdir(parents=True)
    index = {"_class_name": pipeline, "_diffusers_version": "0.35.0.dev0", **settings}
    index |= {name: entry for name, (entry, _) in parts.items()}
    (folder / "model_index.json").write_text(json.dumps(index))
    for name, (_, files) in parts.items():
        for file, content in files.items():
            (folder / name).mkdir(exist_ok=True)
            data = content if isinstance(content, str | bytes) else json.dumps(content)
            (folder / name / file).write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def _shallow(config: Json) -> Json:
    """Keep two layers, so that a network is made in no time."""
    depths = {name: min(config[name], 2) for name in _DEPTHS if name in config}
    cut = {name: config[name][:2] for name in ("layer_types",) if name in config}
    nested = {name: _shallow(value) for name, value in config.items() if isinstance(value, dict)}
    return config | depths | cut | nested


def network(library: str, kind: str, **config: Any) -> tuple[list[str | None], Json]:
    """Return a component with a configuration in its library's form."""
    told = {"architectures": [kind], "torch_dtype": "bfloat16", "transformers_version": "4.48.0.dev0"}
    if library != TRANSFORMERS:
        told = {"_class_name": kind, "_diffusers_version": "0.33.0.dev0"}
    stem = "model" if library == TRANSFORMERS else "diffusion_pytorch_model"
    return [library, kind], {"config.json": told | _shallow(config), f"{stem}.safetensors": _NO_WEIGHTS}


def scheduler(kind: str, **config: Any) -> tuple[list[str | None], Json]:
    """Return a solver's configuration."""
    told = {"_class_name": kind, "_diffusers_version": "0.33.0.dev0", "num_train_timesteps": 1000}
    return [DIFFUSERS, kind], {"scheduler_config.json": told | config}


def tokenizer(kind: str, files: Json) -> tuple[list[str | None], Json]:
    """Return a tokenizer in the files that its repository has."""
    return [TRANSFORMERS, kind], files


NOTHING: tuple[list[str | None], Json] = ([None, None], {})

# ---- tokenizers


@cache
def _sentencepieces() -> bytes:
    """Return a SentencePiece model of a few pieces, with T5's special ones."""
    out = io.BytesIO()
    sentences = ["a cat runs over the red hill", "the dog sees a blue circle moving right"] * 9
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=out,
        vocab_size=48,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return out.getvalue()


def _special(**tokens: str) -> Json:
    return {name: {"content": token, "lstrip": False, "rstrip": False} for name, token in tokens.items()}


_T5_TOKENS = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def spiece_only() -> tuple[list[str | None], Json]:
    """CogVideoX's: a SentencePiece model and no tokenizer.json."""
    config = {"tokenizer_class": "T5Tokenizer", "extra_ids": 100, "legacy": True, "model_max_length": 226}
    return tokenizer(
        "T5Tokenizer",
        {
            "spiece.model": _sentencepieces(),
            "tokenizer_config.json": config | _T5_TOKENS | {"sp_model_kwargs": {}},
            "special_tokens_map.json": _special(**_T5_TOKENS),
            "added_tokens.json": {f"<extra_id_{i}>": 147 - i for i in range(100)},
        },
    )


def umt5() -> tuple[list[str | None], Json]:
    """Wan's: a tokenizer.json beside the SentencePiece model, of a class that is called fast."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(c, -3.0) for c in "abcdefghijklmnopqrstuvwxyz,"] + [("▁cat", -4.0)]
    made = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    made.normalizer = normalizers.Sequence(
        [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    made.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    made.post_processor = processors.TemplateProcessing(
        single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"], special_tokens=[("</s>", 1)]
    )
    config = {
        "tokenizer_class": "T5Tokenizer",
        "extra_ids": 0,
        "model_max_length": 512,
        "additional_special_tokens": [],
    }
    return tokenizer(
        "T5TokenizerFast",
        {
            "tokenizer.json": made.to_str(),
            "spiece.model": _sentencepieces(),
            "tokenizer_config.json": config | _T5_TOKENS | {"clean_up_tokenization_spaces": True},
            "special_tokens_map.json": _special(**_T5_TOKENS),
        },
    )


def _byte_level(specials: list[str], words: list[str]) -> Tokenizer:
    """Make a BPE of bytes that knows a few words, as LLaMA 3's and Qwen's are."""
    vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    for word in words:
        for end in range(1, len(word)):
            merges.append((word[:end], word[end]))
            vocab.setdefault(word[: end + 1], len(vocab))
    made = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
    return made


def llama3() -> tuple[list[str | None], Json]:
    """HunyuanVideo's: a BPE of bytes under the name of a class that was made for another kind."""
    specials = [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ]
    made = _byte_level([*specials, "<image>", "<pad>"], ["Ġcat", "Ġruns"])
    begin = specials[0]
    made.post_processor = processors.TemplateProcessing(
        single=[begin, "$A"],
        pair=[begin, "$A", begin, "$B"],
        special_tokens=[(begin, made.token_to_id(begin))],
    )
    tokens = {"bos_token": begin, "eos_token": specials[1], "pad_token": "<pad>"}
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "legacy": True,
        "model_max_length": 256,
        "padding_side": "right",
    }
    return tokenizer(
        "LlamaTokenizerFast",
        {
            "tokenizer.json": made.to_str(),
            "tokenizer_config.json": config
            | tokens
            | {"unk_token": None, "use_default_system_prompt": False},
            "special_tokens_map.json": _special(**tokens),
        },
    )


def clip() -> tuple[list[str | None], Json]:
    """CLIP's of 2021: a vocabulary and merges, no tokenizer.json."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = letters + [f"{c}</w>" for c in letters] + ["<|startoftext|>", "<|endoftext|>"]
    tokens = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "do_lower_case": True,
        "model_max_length": 77,
        "errors": "replace",
    }
    return tokenizer(
        CLIPTokenizer.__name__,
        {
            "vocab.json": {token: i for i, token in enumerate(vocab)},
            "merges.txt": "#version: 0.2\n",
            "tokenizer_config.json": config | tokens | {"pad_token": "<|endoftext|>"},
            "special_tokens_map.json": _special(**tokens),
        },
    )


_CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def qwen() -> tuple[list[str | None], Json]:
    """HunyuanVideo 1.5's: Qwen2.5-VL's, whose chat template is a file of its own."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    made = _byte_level(specials, ["Ġcat"])
    told = json.loads(made.to_str())["model"]
    tokens = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    config = {"tokenizer_class": "Qwen2Tokenizer", "model_max_length": 131072, "add_prefix_space": False}
    return tokenizer(
        "Qwen2Tokenizer",
        {
            "vocab.json": told["vocab"],
            "merges.txt": "\n".join(" ".join(pair) for pair in told["merges"]),
            "added_tokens.json": {token: made.token_to_id(token) for token in specials},
            "tokenizer_config.json": config | tokens | {"bos_token": None, "unk_token": None},
            "special_tokens_map.json": _special(**tokens),
            "chat_template.jinja": _CHATML,
        },
    )


def byt5() -> tuple[list[str | None], Json]:
    """HunyuanVideo 1.5's second one, which needs no vocabulary."""
    config = {
        "tokenizer_class": "ByT5Tokenizer",
        "extra_ids": 0,
        "model_max_length": 1000000000000000019884624838656,
    }
    return tokenizer(
        "ByT5Tokenizer",
        {
            "tokenizer_config.json": config | _T5_TOKENS | {"additional_special_tokens": []},
            "special_tokens_map.json": _special(**_T5_TOKENS),
            "added_tokens.json": {"<color-0>": 259},
        },
    )


def gemma() -> tuple[list[str | None], Json]:
    """LTX-2's: Gemma 3's, with a chat template."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    pieces = [f"<0x{i:02X}>" for i in range(256)] + ["▁", *map(chr, range(33, 127))]
    vocab = {piece: i for i, piece in enumerate(special + pieces)}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    made.post_processor = processors.TemplateProcessing(
        single=["<bos>", "$A"], pair=["<bos>", "$A", "<bos>", "$B"], special_tokens=[("<bos>", 2)]
    )
    tokens = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    images = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    config = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "add_eos_token": False, **images}
    return tokenizer(
        "GemmaTokenizerFast",
        {
            "tokenizer.json": made.to_str(),
            "tokenizer_config.json": config
            | tokens
            | {"extra_special_tokens": images, "padding_side": "left", "processor_class": "Gemma3Processor"},
            "special_tokens_map.json": images | _special(**tokens),
            "chat_template.jinja": _CHATML,
        },
    )


# ---- Wan

_UNIPC = {
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "disable_corrector": [],
    "dynamic_thresholding_ratio": 0.995,
    "final_sigmas_type": "zero",
    "lower_order_final": True,
    "predict_x0": True,
    "prediction_type": "flow_prediction",
    "rescale_betas_zero_snr": False,
    "sample_max_value": 1.0,
    "solver_order": 2,
    "solver_p": None,
    "solver_type": "bh2",
    "steps_offset": 0,
    "thresholding": False,
    "time_shift_type": "exponential",
    "timestep_spacing": "linspace",
    "trained_betas": None,
    "use_beta_sigmas": False,
    "use_dynamic_shifting": False,
    "use_exponential_sigmas": False,
    "use_flow_sigmas": True,
    "use_karras_sigmas": False,
}
_WAN = {
    "added_kv_proj_dim": None,
    "attention_head_dim": 128,
    "cross_attn_norm": True,
    "eps": 1e-06,
    "ffn_dim": 13824,
    "freq_dim": 256,
    "image_dim": None,
    "in_channels": 16,
    "num_attention_heads": 40,
    "num_layers": 40,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "pos_embed_seq_len": None,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 1024,
    "text_dim": 4096,
}
_WAN_PICTURES = {"in_channels": 36, "added_kv_proj_dim": 5120, "image_dim": 1280}
_WAN_5B = {
    "in_channels": 48,
    "out_channels": 48,
    "num_attention_heads": 24,
    "num_layers": 30,
    "ffn_dim": 14336,
}
_WAN_VAE = {
    "attn_scales": [],
    "base_dim": 96,
    "dim_mult": [1, 2, 4, 4],
    "dropout": 0.0,
    "latents_mean": [0.1] * 16,
    "latents_std": [2.0] * 16,
    "num_res_blocks": 2,
    "temperal_downsample": [False, True, True],
    "z_dim": 16,
}
_WAN_5B_VAE = {
    "base_dim": 160,
    "clip_output": False,
    "decoder_base_dim": 256,
    "in_channels": 12,
    "is_residual": True,
    "latents_mean": [0.1] * 48,
    "latents_std": [2.0] * 48,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "scale_factor_temporal": 4,
    "z_dim": 48,
}
_UMT5 = {
    "classifier_dropout": 0.0,
    "d_ff": 10240,
    "d_kv": 64,
    "d_model": 4096,
    "decoder_start_token_id": 0,
    "dense_act_fn": "gelu_new",
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": True,
    "is_gated_act": True,
    "model_type": "umt5",
    "num_decoder_layers": 24,
    "num_heads": 64,
    "num_layers": 24,
    "output_past": True,
    "pad_token_id": 0,
    "scalable_attention": True,
    "tie_word_embeddings": False,
    "tokenizer_class": "T5Tokenizer",
    "use_cache": True,
    "vocab_size": 256384,
}
_CLIP_VISION = {
    "hidden_act": "gelu",
    "hidden_size": 1280,
    "image_size": 224,
    "intermediate_size": 5120,
    "layer_norm_eps": 1e-05,
    "model_type": "clip_vision_model",
    "num_attention_heads": 16,
    "num_channels": 3,
    "num_hidden_layers": 32,
    "patch_size": 14,
    "projection_dim": 1024,
}
_CLIP_PIXELS = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "CLIPImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 224},
}
_PIXELS = ([TRANSFORMERS, "CLIPImageProcessor"], {"preprocessor_config.json": _CLIP_PIXELS})


def _wan(*, flow_shift: float = 3.0, vae: Json | None = None, **transformer: Any) -> Parts:
    return {
        "scheduler": scheduler("UniPCMultistepScheduler", flow_shift=flow_shift, **_UNIPC),
        "text_encoder": network(TRANSFORMERS, "UMT5EncoderModel", **_UMT5),
        "tokenizer": umt5(),
        "transformer": network(DIFFUSERS, "WanTransformer3DModel", **(_WAN | transformer)),
        "vae": network(DIFFUSERS, "AutoencoderKLWan", **(_WAN_VAE | (vae or {}))),
    }


def _wan_clip() -> Parts:
    vision = network(TRANSFORMERS, "CLIPVisionModel", **(_CLIP_VISION | {"torch_dtype": "float32"}))
    return {"image_encoder": vision, "image_processor": _PIXELS}


def _wan_experts(**transformer: Any) -> Parts:
    parts = _wan(**transformer)
    return parts | {"transformer_2": parts["transformer"]}


_NO_CLIP: Parts = {"image_encoder": NOTHING, "image_processor": NOTHING}

# ---- HunyuanVideo

_HUNYUAN = {
    "attention_head_dim": 128,
    "guidance_embeds": True,
    "in_channels": 16,
    "mlp_ratio": 4.0,
    "num_attention_heads": 24,
    "num_layers": 20,
    "num_refiner_layers": 2,
    "num_single_layers": 40,
    "out_channels": 16,
    "patch_size": 2,
    "patch_size_t": 1,
    "pooled_projection_dim": 768,
    "qk_norm": "rms_norm",
    "rope_axes_dim": [16, 56, 56],
    "rope_theta": 256.0,
    "text_embed_dim": 4096,
}
_HUNYUAN_VAE = {
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["HunyuanVideoDownBlock3D"] * 4,
    "in_channels": 3,
    "latent_channels": 16,
    "layers_per_block": 2,
    "mid_block_add_attention": True,
    "norm_num_groups": 32,
    "out_channels": 3,
    "scaling_factor": 0.476986,
    "spatial_compression_ratio": 8,
    "temporal_compression_ratio": 4,
    "up_block_types": ["HunyuanVideoUpBlock3D"] * 4,
}
_LLAMA = {
    "attention_bias": False,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 8192,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "vocab_size": 128320,
}
_CLIP_TEXT = {
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "projection_dim": 768,
    "vocab_size": 49408,
}
_LLAVA = {
    "ignore_index": -100,
    "image_seq_length": 576,
    "image_token_index": 128257,
    "model_type": "llava",
    "pad_token_id": 128258,
    "projector_hidden_act": "gelu",
    "text_config": _LLAMA,
    "vision_config": _CLIP_VISION
    | {"hidden_size": 1024, "image_size": 336, "intermediate_size": 4096, "num_hidden_layers": 24}
    | {"projection_dim": 768, "vocab_size": 32000, "hidden_act": "quick_gelu"},
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
}


def _euler(shift: float, **more: Any) -> tuple[list[str | None], Json]:
    config = {"base_image_seq_len": 256, "base_shift": 0.5, "invert_sigmas": False, "shift": shift}
    config |= {"max_image_seq_len": 4096, "max_shift": 1.15, "shift_terminal": None}
    config |= {"use_beta_sigmas": False, "use_dynamic_shifting": False, "use_karras_sigmas": False}
    return scheduler("FlowMatchEulerDiscreteScheduler", **(config | more))


def _hunyuan(text: tuple[list[str | None], Json], **transformer: Any) -> Parts:
    return {
        "scheduler": _euler(7.0),
        "text_encoder": text,
        "text_encoder_2": network(TRANSFORMERS, "CLIPTextModel", **_CLIP_TEXT),
        "tokenizer": llama3(),
        "tokenizer_2": clip(),
        "transformer": network(DIFFUSERS, "HunyuanVideoTransformer3DModel", **(_HUNYUAN | transformer)),
        "vae": network(DIFFUSERS, "AutoencoderKLHunyuanVideo", **_HUNYUAN_VAE),
    }


def _hunyuan_pictures(**transformer: Any) -> Parts:
    text = network(TRANSFORMERS, "LlavaForConditionalGeneration", **_LLAVA)
    return _hunyuan(text, **transformer) | {"image_processor": _PIXELS}


# ---- HunyuanVideo 1.5

_HUNYUAN_15 = {
    "attention_head_dim": 128,
    "image_embed_dim": 1152,
    "in_channels": 65,
    "mlp_ratio": 4.0,
    "num_attention_heads": 16,
    "num_layers": 54,
    "num_refiner_layers": 2,
    "out_channels": 32,
    "patch_size": 1,
    "patch_size_t": 1,
    "qk_norm": "rms_norm",
    "rope_axes_dim": [16, 56, 56],
    "rope_theta": 256.0,
    "target_size": 640,
    "task_type": "t2v",
    "text_embed_2_dim": 1472,
    "text_embed_dim": 3584,
    "use_meanflow": False,
}
_HUNYUAN_15_VAE = {
    "block_out_channels": [128, 256, 512, 1024, 1024],
    "downsample_match_channel": True,
    "in_channels": 3,
    "latent_channels": 32,
    "layers_per_block": 2,
    "out_channels": 3,
    "scaling_factor": 1.03682,
    "spatial_compression_ratio": 16,
    "temporal_compression_ratio": 4,
    "upsample_match_channel": True,
}
_QWEN = {
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "layer_types": ["full_attention"] * 28,
    "max_position_embeddings": 128000,
    "max_window_layers": 28,
    "model_type": "qwen2_5_vl_text",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"},
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "use_sliding_window": False,
    "vocab_size": 152064,
}
_BYT5 = {
    "d_ff": 3584,
    "d_kv": 64,
    "d_model": 1472,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
    "feed_forward_proj": "gated-gelu",
    "model_type": "t5",
    "num_decoder_layers": 4,
    "num_heads": 6,
    "num_layers": 12,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
    "vocab_size": 1510,
}
_SIGLIP = {
    "attention_dropout": 0.0,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "image_size": 384,
    "intermediate_size": 4304,
    "layer_norm_eps": 1e-06,
    "model_type": "siglip_vision_model",
    "num_attention_heads": 16,
    "num_channels": 3,
    "num_hidden_layers": 27,
    "patch_size": 14,
}
_SIGLIP_PIXELS = {
    "do_convert_rgb": None,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "SiglipImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 384, "width": 384},
}


def _hunyuan_15(*, shift: float, guidance_scale: float = 6.0, **transformer: Any) -> Parts:
    guider = {"_class_name": "ClassifierFreeGuidance", "_diffusers_version": "0.36.0.dev0", "enabled": True}
    guider |= {"guidance_rescale": 0.0, "guidance_scale": guidance_scale, "start": 0.0, "stop": 1.0}
    guider |= {"use_original_formulation": False}
    return {
        "guider": ([DIFFUSERS, "ClassifierFreeGuidance"], {"guider_config.json": guider}),
        "scheduler": _euler(shift),
        "text_encoder": network(TRANSFORMERS, "Qwen2_5_VLTextModel", **_QWEN),
        "text_encoder_2": network(TRANSFORMERS, "T5EncoderModel", **_BYT5),
        "tokenizer": qwen(),
        "tokenizer_2": byt5(),
        "transformer": network(DIFFUSERS, "HunyuanVideo15Transformer3DModel", **(_HUNYUAN_15 | transformer)),
        "vae": network(DIFFUSERS, "AutoencoderKLHunyuanVideo15", **_HUNYUAN_15_VAE),
    }


def _hunyuan_15_pictures(**more: Any) -> Parts:
    pixels = ([TRANSFORMERS, "SiglipImageProcessor"], {"preprocessor_config.json": _SIGLIP_PIXELS})
    vision = network(TRANSFORMERS, "SiglipVisionModel", **_SIGLIP)
    return _hunyuan_15(task_type="i2v", **more) | {"feature_extractor": pixels, "image_encoder": vision}


# ---- CogVideoX

_COG = {
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_head_dim": 64,
    "dropout": 0.0,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 16,
    "max_text_seq_length": 226,
    "norm_elementwise_affine": True,
    "norm_eps": 1e-05,
    "num_attention_heads": 48,
    "num_layers": 42,
    "out_channels": 16,
    "patch_size": 2,
    "sample_frames": 49,
    "sample_height": 60,
    "sample_width": 90,
    "spatial_interpolation_scale": 1.875,
    "temporal_compression_ratio": 4,
    "temporal_interpolation_scale": 1.0,
    "text_embed_dim": 4096,
    "time_embed_dim": 512,
    "timestep_activation_fn": "silu",
    "use_rotary_positional_embeddings": True,
}
_COG_15 = {
    "patch_bias": False,
    "patch_size_t": 2,
    "sample_frames": 81,
    "sample_height": 300,
    "sample_width": 300,
    "use_learned_positional_embeddings": False,
}
_COG_VAE = {
    "act_fn": "silu",
    "block_out_channels": [128, 256, 256, 512],
    "down_block_types": ["CogVideoXDownBlock3D"] * 4,
    "force_upcast": True,
    "in_channels": 3,
    "latent_channels": 16,
    "latents_mean": None,
    "latents_std": None,
    "layers_per_block": 3,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_height": 480,
    "sample_width": 720,
    "scaling_factor": 0.7,
    "shift_factor": None,
    "temporal_compression_ratio": 4,
    "up_block_types": ["CogVideoXUpBlock3D"] * 4,
    "use_post_quant_conv": False,
    "use_quant_conv": False,
}
_COG_SCHEDULE = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "clip_sample_range": 1.0,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "sample_max_value": 1.0,
    "set_alpha_to_one": True,
    "snr_shift_scale": 1.0,
    "steps_offset": 0,
    "timestep_spacing": "trailing",
    "trained_betas": None,
}
_T5 = _UMT5 | {"model_type": "t5", "vocab_size": 32128, "relative_attention_num_buckets": 32}


def _cog(*, solver: str = "CogVideoXDPMScheduler", vae: Json | None = None, **transformer: Any) -> Parts:
    snr = {"snr_shift_scale": 3.0} if solver == "CogVideoXDDIMScheduler" else {}
    return {
        "scheduler": scheduler(solver, **(_COG_SCHEDULE | snr)),
        "text_encoder": network(TRANSFORMERS, "T5EncoderModel", **_T5),
        "tokenizer": spiece_only(),
        "transformer": network(DIFFUSERS, "CogVideoXTransformer3DModel", **(_COG | transformer)),
        "vae": network(DIFFUSERS, "AutoencoderKLCogVideoX", **(_COG_VAE | (vae or {}))),
    }


# ---- LTX-2

_LTX2 = {
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_head_dim": 128,
    "attention_out_bias": True,
    "audio_attention_head_dim": 64,
    "audio_cross_attention_dim": 2048,
    "audio_hop_length": 160,
    "audio_in_channels": 128,
    "audio_num_attention_heads": 32,
    "audio_out_channels": 128,
    "audio_patch_size": 1,
    "audio_patch_size_t": 1,
    "audio_pos_embed_max_pos": 20,
    "audio_sampling_rate": 16000,
    "audio_scale_factor": 4,
    "base_height": 2048,
    "base_width": 2048,
    "caption_channels": 3840,
    "causal_offset": 1,
    "cross_attention_dim": 4096,
    "cross_attn_timestep_scale_multiplier": 1000,
    "in_channels": 128,
    "norm_elementwise_affine": False,
    "norm_eps": 1e-06,
    "num_attention_heads": 32,
    "num_layers": 48,
    "out_channels": 128,
    "patch_size": 1,
    "patch_size_t": 1,
    "pos_embed_max_pos": 20,
    "qk_norm": "rms_norm_across_heads",
    "rope_double_precision": True,
    "rope_theta": 10000.0,
    "rope_type": "split",
    "timestep_scale_multiplier": 1000,
    "vae_scale_factors": [8, 32, 32],
}
_LTX2_VAE = {
    "block_out_channels": [256, 512, 1024, 2048],
    "decoder_block_out_channels": [256, 512, 1024],
    "decoder_causal": False,
    "decoder_inject_noise": [False] * 4,
    "decoder_layers_per_block": [5, 5, 5, 5],
    "decoder_spatial_padding_mode": "reflect",
    "decoder_spatio_temporal_scaling": [True, True, True],
    "down_block_types": ["LTX2VideoDownBlock3D"] * 4,
    "downsample_type": ["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
    "encoder_causal": True,
    "encoder_spatial_padding_mode": "zeros",
    "in_channels": 3,
    "latent_channels": 128,
    "layers_per_block": [4, 6, 6, 2, 2],
    "out_channels": 3,
    "patch_size": 4,
    "patch_size_t": 1,
    "resnet_norm_eps": 1e-06,
    "scaling_factor": 1.0,
    "spatial_compression_ratio": 32,
    "spatio_temporal_scaling": [True, True, True, True],
    "temporal_compression_ratio": 8,
    "timestep_conditioning": False,
    "upsample_factor": [2, 2, 2],
    "upsample_residual": [True, True, True],
}
_LTX2_AUDIO_VAE = {
    "attn_resolutions": None,
    "base_channels": 128,
    "causality_axis": "height",
    "ch_mult": [1, 2, 4],
    "double_z": True,
    "dropout": 0.0,
    "in_channels": 2,
    "is_causal": True,
    "latent_channels": 8,
    "mel_bins": 64,
    "mel_hop_length": 160,
    "mid_block_add_attention": False,
    "norm_type": "pixel",
    "num_res_blocks": 2,
    "output_channels": 2,
    "resolution": 256,
    "sample_rate": 16000,
}
_LTX2_CONNECTORS = {
    "audio_connector_attention_head_dim": 128,
    "audio_connector_num_attention_heads": 30,
    "audio_connector_num_layers": 2,
    "audio_connector_num_learnable_registers": 128,
    "caption_channels": 3840,
    "causal_temporal_positioning": False,
    "connector_rope_base_seq_len": 4096,
    "rope_double_precision": True,
    "rope_theta": 10000.0,
    "rope_type": "split",
    "text_proj_in_factor": 49,
    "video_connector_attention_head_dim": 128,
    "video_connector_num_attention_heads": 30,
    "video_connector_num_layers": 2,
    "video_connector_num_learnable_registers": 128,
}
_LTX2_VOCODER = {
    "hidden_channels": 1024,
    "in_channels": 128,
    "leaky_relu_negative_slope": 0.1,
    "out_channels": 2,
    "output_sampling_rate": 24000,
    "resnet_dilations": [[1, 3, 5]] * 3,
    "resnet_kernel_sizes": [3, 7, 11],
    "upsample_factors": [6, 5, 2, 2, 2],
    "upsample_kernel_sizes": [16, 15, 8, 4, 4],
}
_GEMMA = {
    "boi_token_index": 255999,
    "eoi_token_index": 256000,
    "eos_token_id": [1, 106],
    "image_token_index": 262144,
    "initializer_range": 0.02,
    "mm_tokens_per_image": 256,
    "model_type": "gemma3",
    "text_config": {
        "attention_bias": False,
        "final_logit_softcapping": None,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 3840,
        "intermediate_size": 15360,
        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 8,
        "max_position_embeddings": 131072,
        "model_type": "gemma3_text",
        "num_attention_heads": 16,
        "num_hidden_layers": 48,
        "num_key_value_heads": 8,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "rope_theta": 1000000.0,
        "sliding_window": 1024,
        "vocab_size": 262208,
    },
    "vision_config": {
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 1152,
        "image_size": 896,
        "intermediate_size": 4304,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
        "vision_use_head": False,
    },
}


def _ltx2(*, distilled: bool = False, **transformer: Any) -> Parts:
    dynamic = {
        "base_image_seq_len": 1024,
        "base_shift": 0.95,
        "max_shift": 2.05,
        "stochastic_sampling": False,
    }
    dynamic |= {"use_dynamic_shifting": not distilled, "shift_terminal": None if distilled else 0.1}
    return {
        "audio_vae": network(DIFFUSERS, "AutoencoderKLLTX2Audio", **_LTX2_AUDIO_VAE),
        "connectors": network("ltx2", "LTX2TextConnectors", **_LTX2_CONNECTORS),
        "scheduler": _euler(1.0, **dynamic),
        "text_encoder": network(TRANSFORMERS, "Gemma3ForConditionalGeneration", **_GEMMA),
        "tokenizer": gemma(),
        "transformer": network(DIFFUSERS, "LTX2VideoTransformer3DModel", **(_LTX2 | transformer)),
        "vae": network(DIFFUSERS, "AutoencoderKLLTX2Video", **_LTX2_VAE),
        "vocoder": network("ltx2", "LTX2Vocoder", **_LTX2_VOCODER),
    }


def _made(pipeline: str, parts: Callable[[], Parts], **settings: Any) -> Callable[[Path], Path]:
    return lambda folder: write(folder, pipeline, parts(), **settings)


_T2V, _I2V = "WanPipeline", "WanImageToVideoPipeline"
_H15, _H15_I2V = "HunyuanVideo15Pipeline", "HunyuanVideo15ImageToVideoPipeline"

PUBLISHED: dict[str, Callable[[Path], Path]] = {
    "Wan2.1-T2V-1.3B": _made(_T2V, lambda: _wan(num_attention_heads=12, num_layers=30, ffn_dim=8960)),
    "Wan2.1-T2V-14B": _made(_T2V, _wan),
    "Wan2.1-I2V-14B-480P": _made(_I2V, lambda: _wan(**_WAN_PICTURES) | _wan_clip()),
    "Wan2.1-I2V-14B-720P": _made(_I2V, lambda: _wan(flow_shift=5.0, **_WAN_PICTURES) | _wan_clip()),
    "Wan2.1-FLF2V-14B-720P": _made(
        _I2V, lambda: _wan(flow_shift=5.0, pos_embed_seq_len=514, **_WAN_PICTURES) | _wan_clip()
    ),
    "Wan2.2-T2V-A14B": _made(_T2V, _wan_experts, boundary_ratio=0.875, expand_timesteps=False),
    "Wan2.2-I2V-A14B": _made(
        _I2V, lambda: _wan_experts(in_channels=36) | _NO_CLIP, boundary_ratio=0.9, expand_timesteps=False
    ),
    "Wan2.2-TI2V-5B": _made(
        _T2V,
        lambda: _wan(flow_shift=5.0, vae=_WAN_5B_VAE, **_WAN_5B) | {"transformer_2": NOTHING},
        boundary_ratio=None,
        expand_timesteps=True,
    ),
    "HunyuanVideo": _made(
        "HunyuanVideoPipeline", lambda: _hunyuan(network(TRANSFORMERS, "LlamaModel", **_LLAMA))
    ),
    "HunyuanVideo-I2V": _made(
        "HunyuanVideoImageToVideoPipeline", lambda: _hunyuan_pictures(image_condition_type="token_replace")
    ),
    "HunyuanVideo-I2V-33ch": _made(
        "HunyuanVideoImageToVideoPipeline",
        lambda: _hunyuan_pictures(
            image_condition_type="latent_concat", in_channels=33, guidance_embeds=False
        ),
    ),
    "HunyuanVideo-1.5-480p_t2v": _made(_H15, lambda: _hunyuan_15(shift=5.0)),
    "HunyuanVideo-1.5-720p_t2v": _made(_H15, lambda: _hunyuan_15(shift=9.0, target_size=960)),
    "HunyuanVideo-1.5-480p_t2v_distilled": _made(_H15, lambda: _hunyuan_15(shift=5.0, guidance_scale=1.0)),
    "HunyuanVideo-1.5-720p_i2v": _made(_H15_I2V, lambda: _hunyuan_15_pictures(shift=7.0, target_size=960)),
    "HunyuanVideo-1.5-480p_i2v_step_distilled": _made(
        _H15_I2V, lambda: _hunyuan_15_pictures(shift=7.0, guidance_scale=1.0, use_meanflow=True)
    ),
    "CogVideoX-2b": _made(
        "CogVideoXPipeline",
        lambda: _cog(
            solver="CogVideoXDDIMScheduler",
            vae={"scaling_factor": 1.15258426},
            num_attention_heads=30,
            num_layers=30,
            use_rotary_positional_embeddings=False,
        ),
    ),
    "CogVideoX-5b": _made("CogVideoXPipeline", _cog),
    "CogVideoX-5b-I2V": _made(
        "CogVideoXImageToVideoPipeline", lambda: _cog(in_channels=32, use_learned_positional_embeddings=True)
    ),
    "CogVideoX1.5-5B": _made("CogVideoXPipeline", lambda: _cog(ofs_embed_dim=None, **_COG_15)),
    "CogVideoX1.5-5B-I2V": _made(
        "CogVideoXImageToVideoPipeline",
        lambda: _cog(vae={"invert_scale_latents": True}, in_channels=32, ofs_embed_dim=512, **_COG_15),
    ),
    "LTX-2": _made("LTX2Pipeline", _ltx2),
    "LTX-2-distilled": _made("LTX2Pipeline", lambda: _ltx2(distilled=True)),
}
