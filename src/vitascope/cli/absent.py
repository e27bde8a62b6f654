"""Flags and keys that users of other programs know and this version lacks: each is refused by name."""

from __future__ import annotations

_BY_FEATURE = {
    "Reusing work across steps": (
        "enable_teacache teacache_params enable_cache_dit cache_dit_params cache_dit_config enable_spectrum "
        "cfg_gate_step progressive_mode"
    ),
    "Several devices for one clip": (
        "num_gpus tp_size sp_degree ulysses_degree ring_degree enable_cfg_parallel cfg_parallel_size dp_size "
        "data_parallel_size use_fsdp_inference hsdp_replicate_dim hsdp_shard_dim nnodes node_rank"
    ),
    "Offloading weights": (
        "dit_cpu_offload dit_layerwise_offload text_encoder_cpu_offload image_encoder_cpu_offload "
        "vae_cpu_offload component_residency cpu_offload_components pin_cpu_memory vae_tiling vae_slicing"
    ),
    "Quantising weights": "quantization transformer_quantization load_in_8bit load_in_4bit",
    "Compiling the model": "enable_torch_compile regional_compile enable_breakable_cuda_graph",
    "Choosing an attention backend": "attention_backend attention_backend_config attention_backend_override",
    "Adapters by another flag than --lora": (
        "lora_path lora_nickname lora_scale lora_alpha lora_merge_mode lora_weight_name"
    ),
    "Other guidance than classifier-free": "guidance_rescale cfg_normalization boundary_ratio",
    "Several clips in one run": "prompt_path prompt_file num_outputs_per_prompt num_videos_per_prompt",
    "Video as input": "video_path",
    "Interpolating frames": "enable_frame_interpolation frame_interpolation_exp frame_interpolation_scale",
    "Upscaling": "enable_upscaling upscaling_scale upscaling_model_path",
    "Choosing how the file is encoded": "output_quality output_compression x264_preset",
    "Code from a model folder": "trust_remote_code pipeline_class_name diffusers_kwargs",
    "Writing a profile": "profile perf_dump_path num_profiled_timesteps profile_all_stages",
}

ABSENT = {name: feature for feature, names in _BY_FEATURE.items() for name in names.split()}


def refusal(name: str) -> str | None:
    """Say why a name is refused, or None for one that is not known to be absent."""
    feature = ABSENT.get(name)
    return (
        None
        if feature is None
        else f"{name}: this version has nothing for it ({feature.lower()}); leave it out."
    )
