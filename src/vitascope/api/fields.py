"""Every request field that is known here, as one table: what it means and what becomes of it.

The union of OpenAI's, vLLM-Omni's and SGLang's documented fields and our own. The documentation is made from
this table too. How it is applied is `reading.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from vitascope.api.loras import LORAS
from vitascope.api.values import (
    ANYTHING,
    ATTENTION_CACHE,
    COUNT,
    FLAG,
    INTEGER,
    NUMBER,
    OBJECT,
    SIZE,
    TEXT,
    Kind,
    choice,
    described,
)
from vitascope.card import MAX_OUTPUTS
from vitascope.media.inputs import RESIZE_MODES


class Use(Enum):
    """What becomes of a known field."""

    WISH = auto()  # goes to the model under its own name
    READ = auto()  # acted upon by `reading.py`
    SOURCE = auto()  # a picture
    BAG = auto()  # an object of further fields, taken as if they stood beside it
    INERT = auto()  # means nothing here by design: accepted, and the job's warnings say so
    OFF = auto()  # asks for something that is not offered: accepted while it asks for nothing
    REFUSED = auto()  # asks for something that is not offered
    PATH = auto()  # a path on the server, which a client never chooses


@dataclass(frozen=True, slots=True)
class Known:
    """One field: its use, its type, and a sentence: what it does, or why not and what to use instead."""

    use: Use
    kind: Kind
    about: str
    harmless: tuple[Any, ...] = ()  # the values of an OFF field that ask for nothing


def _wish(kind: Kind, about: str) -> Known:
    return Known(Use.WISH, kind, about)


def _read(kind: Kind, about: str) -> Known:
    return Known(Use.READ, kind, about)


def _inert(about: str) -> Known:
    return Known(Use.INERT, ANYTHING, about)


def _off(about: str, kind: Kind = FLAG, *harmless: Any) -> Known:
    return Known(Use.OFF, kind, about, harmless or (False,))


def _refused(about: str) -> Known:
    return Known(Use.REFUSED, ANYTHING, about)


def _path(about: str) -> Known:
    return Known(Use.PATH, ANYTHING, about)


_WISHES = {
    "prompt": _wish(TEXT, "What the clip should show."),
    "negative_prompt": _wish(TEXT, "What it should not show."),
    "height": _wish(INTEGER, "Height in pixels, beside `width` and instead of `size`."),
    "width": _wish(INTEGER, "Width in pixels, beside `height` and instead of `size`."),
    "num_frames": _wish(INTEGER, "Length in frames; wins over `seconds`."),
    "seconds": _wish(NUMBER, "Length in seconds, rounded to the model's nearest length."),
    "fps": _wish(NUMBER, "Frames a second; fractions are allowed."),
    "num_inference_steps": _wish(INTEGER, "Denoising steps."),
    "guidance_scale": _wish(NUMBER, "How closely the prompt is followed."),
    "guidance_scale_2": _wish(NUMBER, "The same for the second transformer of models that have two."),
    "boundary_ratio": _wish(
        NUMBER, "Where the second transformer of models that have two takes over: a part of all noise levels."
    ),
    "true_cfg_scale": _wish(
        NUMBER, "Guidance with a negative prompt, beside the built-in one of guidance-distilled models."
    ),
    "flow_shift": _wish(NUMBER, "Shift of the noise schedule."),
    "sample_solver": _wish(TEXT, "Solver, one of those that the model lists."),
    "max_sequence_length": _wish(INTEGER, "Tokens of the prompt that are read."),
    "strength": _wish(
        NUMBER,
        "How much of a source clip is made anew: the part of the steps that is taken; 0.8 if left out.",
    ),
    "attention_cache": _wish(
        ATTENTION_CACHE,
        "Steps from `start_step` to `end_step` whose self-attention is taken from an earlier one, "
        "all but every `interval`-th.",
    ),
}
_SEEDS = {"type": "array", "minItems": 1, "maxItems": MAX_OUTPUTS}
_SEED = described({"anyOf": [*INTEGER.schema["anyOf"], _SEEDS]})
_URL = {
    "type": "object",
    "required": ["image_url"],
    "additionalProperties": False,
    "properties": {"image_url": {"type": "string"}},
}
_PICTURE = described({"anyOf": [{"type": "string"}, _URL, {"type": "array", "maxItems": 1}]})
_CLIP_SHAPE = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
    "properties": {"id": {"type": "string"}, "video_url": {"type": "string"}},
}
_CLIP = described({"anyOf": [{"type": "string"}, _CLIP_SHAPE, {"type": "array", "maxItems": 1}]})
_READ = {
    "model": _read(TEXT, "Name of a served model or an alias; the default one if left out."),
    "size": _read(SIZE, "WIDTHxHEIGHT in pixels; the model's native size if left out."),
    "seed": _read(_SEED, "Makes clips repeatable, the first one's; drawn at random, and told, if left out."),
    "generate_sound": _read(FLAG, "Whether the clip has sound; must be what the model does."),
    "n": _read(COUNT, "Clips to make, with the seeds s, s + 1...; one if left out."),
    "num_outputs_per_prompt": _read(COUNT, "The same as `n`."),
    "task_type": _read(
        choice("t2v", "i2v", "flf2v", "v2v"),
        "t2v, i2v, flf2v or v2v; must be what the given pictures, or the clip, make of the request.",
    ),
    "lora": _read(
        LORAS, 'Adapter to add, {"name": ..., "scale": ...}, or a list of them; the model lists its own.'
    ),
    "resize_mode": _read(
        choice(*RESIZE_MODES),
        "What becomes of a picture or clip of another size: error (for OpenAI's own fields alone), "
        "crop (cover and cut; in any other) or pad.",
    ),
}
_SOURCES = {
    name: Known(Use.SOURCE, _PICTURE, about)
    for name, about in {
        "input_reference": 'The first frame: an upload, a data: URL or {"image_url": "data:..."}; '
        "where the operator allows, also an http(s) or file URL.",
        "image_reference": "The same as `input_reference`.",
        "reference_url": "The same as `input_reference`.",
        "last_frame_reference": "The last frame, given as the first one is.",
        "last_input_reference": "The same as `last_frame_reference`.",
    }.items()
}
_SAME_CLIP = "The same as `video`."
_CLIPS = {
    "video": Known(
        Use.SOURCE,
        _CLIP,
        'A clip (MP4, WebM, GIF) to be made anew: an upload, an earlier video as {"id": "video_..."}, or a '
        'URL as {"video_url": "data:..."}.',
    ),
    "video_reference": Known(Use.SOURCE, _CLIP, _SAME_CLIP),
    "video_url": Known(Use.SOURCE, _CLIP, _SAME_CLIP),
}
VIDEO_FIELDS = tuple(_CLIPS)
_BAGS = {
    name: Known(Use.BAG, OBJECT, "An object of further fields.")
    for name in ("extra_params", "extra_body", "extra_json", "extra_args", "video_params")
}
_LAUNCH = "it is fixed when the server is launched"
_ENCODER = "clips are always encoded at high quality"
_INERT = {
    "user": _inert("end users are not told apart"),
    "quality": _inert("every clip is computed exactly"),
    "generator_device": _inert("noise is drawn on the CPU, so that a seed means the same everywhere"),
    "return_stage_metrics": _inert("stage durations are always returned"),
    "enable_sequence_shard": _inert(_LAUNCH),
    "ulysses_degree": _inert(_LAUNCH),
    "ring_degree": _inert(_LAUNCH),
    "cfg_parallel_size": _inert(_LAUNCH),
    "tensor_parallel_size": _inert(_LAUNCH),
    "sp_degree": _inert(_LAUNCH),
    "tp_size": _inert(_LAUNCH),
    "output_quality": _inert(_ENCODER),
    "output_compression": _inert(_ENCODER),
    "x264_preset": _inert(_ENCODER),
    "preencode_mp4": _inert("clips are always encoded while they are decoded"),
    "preencode_batch_frames": _inert("clips are always encoded while they are decoded"),
    "frame_interpolation_exp": _inert("frame interpolation is not offered"),
    "frame_interpolation_scale": _inert("frame interpolation is not offered"),
    "upscaling_scale": _inert("upscaling is not offered"),
    "num_profiled_timesteps": _inert("profiling is not offered"),
}
_OFF = {
    "enable_teacache": _off("step caching is not offered"),
    "enable_cache_dit": _off("step caching is not offered"),
    "enable_frame_interpolation": _off(
        "frame interpolation is not offered; ask for more frames or a lower fps"
    ),
    "enable_upscaling": _off("upscaling is not offered; ask for a larger size"),
    "enhance_prompt": _off("prompts are used as they are given"),
    "profile": _off("profiling is not offered; see stage_durations in the answer"),
    "profile_all_stages": _off("profiling is not offered; see stage_durations in the answer"),
}
_NO_SOUND = "it takes no sound"
_NO_LATENT_EDIT = "it edits no latents; give the clip as video, to be made anew"
_ASPECT = "give the size in pixels, as size or as width and height"
_REFUSED = {
    "aspect_ratio": _refused(_ASPECT),
    "short_edge": _refused(_ASPECT),
    "input_references": _refused("give one first frame as input_reference, the last as last_frame_reference"),
    "source_video": _refused(_NO_LATENT_EDIT),
    "video_noise_mask": _refused(_NO_LATENT_EDIT),
    "audio_reference": _refused(_NO_SOUND),
    "source_audio": _refused(_NO_SOUND),
    "audio_noise_mask": _refused(_NO_SOUND),
    "sound_duration": _refused("sound, where a model makes it, is as long as the clip"),
    "start_time_seconds": _refused(_NO_SOUND),
    "control_reference": _refused("it takes no control video"),
    "control_type": _refused("it takes no control video"),
    "timeline_guides": _refused("it takes a first and a last frame only"),
    "guide_files": _refused("it takes a first and a last frame only"),
    "characters": _refused("it knows no characters"),
    "diffusers_kwargs": _refused("give each setting as a field of its own"),
    "video_codec_options": _refused(_ENCODER),
}
_DOWNLOAD = "download the clip from /v1/videos/{id}/content"
_PATHS = {
    "output_path": _path(_DOWNLOAD),
    "output_file_name": _path(_DOWNLOAD),
    "video_path": _path("upload the clip as video"),
    "image_path": _path("upload the picture as input_reference"),
    "control_path": _path("it takes no control video"),
    "perf_dump_path": _path("timings are in stage_durations of the answer"),
    "lora_path": _path("choose one of the adapters that the model lists, by its name in lora"),
    "frame_interpolation_model_path": _path("frame interpolation is not offered"),
    "upscaling_model_path": _path("upscaling is not offered"),
}

FIELDS: dict[str, Known] = {
    **_WISHES,
    **_READ,
    **_SOURCES,
    **_CLIPS,
    **_BAGS,
    **_INERT,
    **_OFF,
    **_REFUSED,
    **_PATHS,
}
