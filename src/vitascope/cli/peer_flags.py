"""Flags and keys of vLLM-Omni and SGLang: which are spellings of ours, which ask for what is so anyway.

Every other one of the table is refused by name. A flag that a command has itself is never looked up here, so
that a row goes silent when its feature arrives.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

# feature: flags, as `name` or `name=value|value`, where the values ask for what is so anyway. A `?` behind
# the name marks a switch: `--name`, or `--name true|false`.
_BY_FEATURE = {
    "Reusing work across steps": (
        "cache_backend=none cache_config enable_cache_dit_summary?=false enable_teacache?=false "
        "teacache_params enable_cache_dit?=false cache_dit_params cache_dit_config enable_spectrum?=false "
        "cfg_gate_step progressive_mode=fullres progressive_levels=1 progressive_delta"
    ),
    "Several devices for one clip": (
        "num_gpus=1 tp_size=1 tensor_parallel_size=1 pipeline_parallel_size=1 sp_size=1 sp_degree=1 usp=1 "
        "ulysses_degree=1 ring_degree=1 kv_gather_degree=1 enable_cfg_parallel?=false cfg_parallel_size=1 "
        "use_hsdp?=false use_fsdp_inference?=false hsdp_replicate_dim=1 hsdp_shard_dim=1 nnodes=1 "
        "node_rank=0 vae_patch_parallel_size=1 vae_sp?=true|false enable_sequence_shard?=true|false "
        "encoder_parallel=auto dist_init_addr dist_timeout gpu_ids"
    ),
    "Several replicas behind one address": "dp_size=1 data_parallel_size=1 api_server_count=1",
    "Choosing the device by number; --device cuda:N does": "base_gpu_id",
    "Offloading weights": (
        "enable_cpu_offload?=false enable_layerwise_offload?=false dit_cpu_offload?=false "
        "dit_layerwise_offload?=false text_encoder_cpu_offload?=false image_encoder_cpu_offload?=false "
        "vae_cpu_offload?=false component_residency cpu_offload_components layerwise_offload_components "
        "dit_offload_prefetch_size dit_layerwise_resident_layers offload_during_compile?=true|false"
    ),
    "Pinning offloaded weights; none are offloaded": "pin_cpu_memory?=true|false",
    "Working on the VAE in tiles or slices": (
        "vae_tiling?=false vae_slicing?=false vae_use_tiling?=false vae_use_slicing?=false "
        "tile_sample_min_height tile_sample_min_width"
    ),
    "Loading a part of the VAE": "load_encoder?=true load_decoder?=true",
    "Quantising weights": (
        "quantization=none transformer_quantization=none load_in_8bit?=false load_in_4bit?=false "
        "kv_cache_quant=off"
    ),
    "Compiling the model": (
        "enforce_eager?=true enable_torch_compile?=false regional_compile?=false "
        "enable_breakable_cuda_graph?=false"
    ),
    "Choosing an attention backend": (
        "attention_backend=torch_sdpa attention_backend_config attention_backend_override=torch_sdpa "
        "mask_strategy_file_path moba_config_path"
    ),
    "A precision for each part; --vae-dtype is float32 or the model's own": (
        "vae_precision=fp32 vae_decode_precision=fp32 text_encoder_precisions image_encoder_precision"
    ),
    "Kernels that lose precision": "quality=exact|lossless",
    "Adapters by another flag than --lora": (
        "lora_path lora_nickname lora_scale lora_alpha lora_merge_mode lora_weight_name"
    ),
    "Other guidance than classifier-free": (
        "guidance_rescale=0|0.0 cfg_normalization=0|0.0 enable_cfg_renorm?=false cfg_renorm_min "
        "embedded_cfg_scale"
    ),
    "Other values than the model's for every request; each request may name its own": (
        "seed flow_shift boundary_ratio default_sampling_params"
    ),
    "Naming the task; the given pictures decide it": "task_type",
    "Rounding the number of frames; a wrong one is refused": (
        "adjust_frames?=false num_frames_round_down?=false"
    ),
    "Noise from another device than the CPU": "generator_device=cpu",
    "Choosing the length of the sound or the clip itself": (
        "sound_duration auto_duration?=false auto_duration_min auto_duration_max"
    ),
    "Rewriting prompts": (
        "enable_prompt_rewrite?=false enhance_prompt?=false prompt_enhancer_config pe_server_url"
    ),
    "Interpolating frames": (
        "enable_frame_interpolation?=false frame_interpolation_exp frame_interpolation_scale "
        "frame_interpolation_model_path"
    ),
    "Upscaling": "enable_upscaling?=false upscaling_scale upscaling_model_path",
    "Choosing how the file is encoded": "output_quality=default output_compression x264_preset",
    "Returning frames instead of files; --return-frames writes them": "return_file_paths_only?=true",
    "Returning latents": "return_trajectory_latents?=false return_trajectory_decoded?=false",
    "Code from a model folder; none is ever run": "trust_remote_code?=true|false",
    "Other pipelines than the model folder's own": (
        "backend=auto pipeline pipeline_class_name pipeline_config_path scheduler_class_override "
        "diffusers_kwargs model_id model_subfolder model_variant text_encoder_configs dmd_denoising_steps"
    ),
    "Writing a profile; --perf-dump-path writes times": (
        "profile?=false num_profiled_timesteps profile_all_stages?=false"
    ),
    "Language models": "omni?=true model_type=auto|diffusion|video",
    "Pictures from this machine's disk": "allowed_local_media_path",
    "Choosing how many clips step together": (
        "max_num_seqs batching_mode batching_max_size batching_delay_ms batching_config"
    ),
    "Bounding the device's memory": "gpu_memory_utilization",
    "Tuning itself": "performance_mode=auto|manual mode=auto|manual",
    "Warming up": (
        "warmup_mode=off warmup_resolutions warmup_num_frames warmup_steps warmup_sampling_params"
    ),
    "Ports between its processes": "scheduler_port master_port strict_ports?=true",
    "Another web page": "webui?=false webui_port",
    "Settings of models that are not here": (
        "action translation_speed rotation_speed_deg pitch_limit_deg action_mode domain_id raw_action_dim "
        "action_fps bot_task system_prompt streaming?=false num_frame_per_block"
    ),
    "Choosing the precision": "dtype=auto",
}  # fmt: skip

# Another's name to our own option.
_SPELLINGS = {
    "model": "model_path",
    "revision": "model_revision",
    "download_dir": "model_cache_dir",
    "served_model_name": "model_name",
    "alias": "model_alias",
    "transformer_weights_path": "transformer_path",
    "allowed_media_domains": "allow_media_domain",
    "precision": "dtype",
    "dit_precision": "dtype",
    "prompt_file": "prompt_path",
    "num_videos_per_prompt": "num_outputs_per_prompt",
}
# What is granted for one value alone, and is an option of ours where the command has it.
_GRANTED_AS_OURS = dict.fromkeys(("vae_precision", "vae_decode_precision"), (("vae_dtype", "float32"),))
_SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFlag:
    """One row. `own` are our options with their values, None or `{}` in them standing for the value given."""

    name: str
    feature: str
    is_switch: bool = False
    granted: tuple[str, ...] = ()
    own: tuple[tuple[str, str | None], ...] = ()

    def meaning(self, value: str | list[str], known: Collection[str]) -> dict[str, str | list[str]] | None:
        """Return the own options it stands for, none if it asks for what is so anyway; None: refuse it.

        `known` are the options of the command at hand.
        """
        values = value if isinstance(value, list) else [value]
        is_granted = all(item.lower() in self.granted for item in values)
        if self.own and (is_granted or not self.granted) and all(name in known for name, _ in self.own):
            off = self.is_switch and value == "false"
            return {} if off else {name: _value(name, _filled(fixed, value)) for name, fixed in self.own}
        return {} if is_granted else None


def _filled(fixed: str | None, value: str | list[str]) -> str | list[str]:
    return value if fixed is None or isinstance(value, list) else fixed.format(value)


def _value(own: str, value: str | list[str]) -> str | list[str]:
    return _DTYPES.get(value, value) if own == "dtype" and isinstance(value, str) else value


def _rows() -> Iterator[PeerFlag]:
    for feature, names in _BY_FEATURE.items():
        for word in names.split():
            name, _, values = word.partition("=")
            yield PeerFlag(
                name=name.removesuffix("?"),
                feature=feature,
                is_switch=name.endswith("?"),
                granted=tuple(values.split("|")) if values else (),
                own=_GRANTED_AS_OURS.get(name, ()),
            )
    for name, own in _SPELLINGS.items():
        yield PeerFlag(name=name, feature=f"There is no {own} to set", own=((own, None),))
    for name in ("transformer_2_path", "transformer_2_weights_path"):
        second = (("transformer_path", "transformer_2={}"),)
        yield PeerFlag(name=name, feature="There is no transformer_path to set", own=second)
    for name, (width, height) in _SIZES.items():
        size = (("width", str(width)), ("height", str(height)))
        yield PeerFlag(name=name, feature="There is no size to set", is_switch=True, own=size)
    for name in ("2k", "4k"):
        yield PeerFlag(name=name, feature="A name for that size; --width and --height set it", is_switch=True)


PEER_FLAGS = {row.name: row for row in _rows()}


def refusal(refused: Sequence[tuple[PeerFlag, str | list[str]]]) -> str:
    """Say in one sentence what is refused and why."""
    told = ", ".join(f"{_typed(row, value)} ({_lower(row.feature)})" for row, value in refused)
    return f"This version has nothing for {told}; leave {'it' if len(refused) == 1 else 'them'} out."


def _typed(row: PeerFlag, value: str | list[str]) -> str:
    if row.is_switch and value == "true":
        return row.name
    return f"{row.name} {','.join(value) if isinstance(value, list) else value}"


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]
