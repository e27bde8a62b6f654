"""What a launch may say: every key of Xinference's launch and our own, as one table.

`POST /v1/models` reads it, `vitascope launch` sends by it and docs/flags.md prints it. Imports no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any


class LaunchUse(Enum):
    """What becomes of a key."""

    ACTS = auto()
    INERT = auto()  # means nothing here by design: accepted, and the answer's warnings say so
    OFF = auto()  # asks for something that is not offered: accepted while it asks for what is so anyway


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchKey:
    """One key. `about` says what it does, or why it does not and what would do; a null asks for nothing.

    `granted` are the values of an OFF key that ask for what is so anyway.
    """

    name: str
    use: LaunchUse
    about: str
    granted: tuple[Any, ...] = ()

    def grants(self, value: Any) -> bool:
        """Whether a value asks for nothing, or for what is so anyway."""
        return value is None or any(_same(value, granted) for granted in self.granted)


def _same(value: Any, granted: Any) -> bool:
    if isinstance(value, str):
        return value.lower() == str(granted).lower()
    return bool(value == granted and isinstance(value, bool) == isinstance(granted, bool))


_ACTS = {
    "model_name": "A model that the operator registered, a built-in name of Xinference's that is known here, "
    "or a hub id (owner/name); with model_path only the name to serve it under, if model_uid says none.",
    "model_path": "Folder on the server or hub id to load, where the operator lets clients choose.",
    "model_uid": "Name under which requests ask for the model; if left out, its name.",
    "model_type": "video, the only type here.",
    "revision": "Branch, tag or commit of a hub model.",
    "device": "auto, cpu, cuda or cuda:N; the server's own if left out.",
    "dtype": "float32, bfloat16 or float16; the server's own if left out.",
    "torch_dtype": "The same as dtype.",
    "n_gpu": "auto: the server's device; 1: a GPU; 0 or null: the CPU. More than one is not offered.",
    "gpu_idx": "Number of the GPU: one, or a list of one.",
    "lora": "Adapters to offer, a list of NAME=PATH or NAME=PATH:WEIGHT; requests choose by name.",
    "peft_model_config": "The same in Xinference's words: its lora_list.",
    "transformer_path": "Files of weights (.safetensors, .gguf) on the server in place of the transformer's; "
    "transformer_2=FILE for the second of two experts.",
    "gguf_model_path": "The same in Xinference's words: one .gguf file.",
}
_INERT = {
    "model_size_in_billions": "a checkpoint has one size",
    "trust_remote_code": "no code of a model folder is ever run",
}
# why not, and what would do: keys, each with the values that ask for what is so anyway
_OFF: dict[str, dict[str, tuple[Any, ...]]] = {
    "weights cannot be offloaded yet; leave it out": {
        "cpu_offload": (False,),
        "sequential_cpu_offload": (False,),
        "group_offload": (False,),
        "use_stream": (False,),
    },
    "weights cannot be cast layer by layer yet; dtype sets the precision": {"layerwise_cast": (False,)},
    "weights cannot be quantised yet; dtype sets the precision": {"quantization": ("none",)},
    "no hub is searched for GGUF files; give one as gguf_model_path": {"gguf_quantization": ("none",)},
    "few-step weights go in as an adapter: lora": {
        "lightning_version": ("none",),
        "lightning_model_path": (),
    },
    "an adapter's weight is written behind its path: lora NAME=PATH:0.8": {
        "image_lora_load_kwargs": ({},),
        "image_lora_fuse_kwargs": ({},),
    },
    "models are not compiled yet; leave it out": {"compile_graph": (False,)},
    "the VAE's memory is not configurable yet; leave it out": {
        "vae_tiling": (False,),
        "vae_slicing": (False,),
        "enable_tiling": (False,),
        "enable_slicing": (False,),
    },
    "attention runs on torch's own kernels; leave it out": {"attention_backend": ("sdpa",)},
    "give the device as device, or its number as gpu_idx": {"device_map": ("auto",)},
    "the engine is vitascope's own, which reads diffusers folders; leave it out": {
        "model_engine": ("vitascope", "diffusers"),
        "model_format": ("diffusers",),
    },
    "one process serves a model; launch it again under another model_uid for a second": {
        "replica": (1,),
        "n_worker": (1,),
        "replica_config": ([],),
    },
    "there is one machine, this one; leave it out": {"worker_ip": ()},
    "the queue is bounded for the whole server, by its operator (max_queue)": {"request_limits": ()},
    "hub models come from the Hugging Face hub; give a folder as model_path for others": {
        "download_hub": ("huggingface", "auto")
    },
    "it is for language models; leave it out": {"enable_thinking": (False,), "multimodal_projector": ()},
    "models run in the server's own environment, and nothing is installed for one": {
        "enable_virtual_env": (False,),
        "virtual_env_packages": ([],),
        "virtual_env_find_links": ([],),
    },
    "the operator sets the server's environment": {"envs": ({},)},
}


def _rows() -> Iterator[LaunchKey]:
    for name, about in _ACTS.items():
        yield LaunchKey(name=name, use=LaunchUse.ACTS, about=about)
    for name, about in _INERT.items():
        yield LaunchKey(name=name, use=LaunchUse.INERT, about=about)
    for about, keys in _OFF.items():
        for name, granted in keys.items():
            yield LaunchKey(name=name, use=LaunchUse.OFF, about=about, granted=granted)


LAUNCH_KEYS = {row.name: row for row in _rows()}
