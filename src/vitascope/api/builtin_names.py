"""Xinference's built-in video models by name: which hub ids they stand for here.

Each id is of a diffusers folder that a family here reads. The rest of Xinference's eighteen is named as such.
"""

from __future__ import annotations

from dataclasses import dataclass

from vitascope.request import Task

HUB = "huggingface"


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """One name: the hub id, the family that reads its folder, what it does."""

    name: str
    model_id: str
    family: str
    tasks: tuple[Task, ...]


_WAN = "Wan-AI"
_ALL: tuple[Task, ...] = ("t2v", "i2v", "flf2v")
_FROM_TEXT: tuple[Task, ...] = ("t2v", "v2v")
_BUILT_IN = (
    BuiltIn("CogVideoX-2b", "THUDM/CogVideoX-2b", "cogvideox", ("t2v",)),
    BuiltIn("CogVideoX-5b", "THUDM/CogVideoX-5b", "cogvideox", ("t2v",)),
    BuiltIn("HunyuanVideo", "hunyuanvideo-community/HunyuanVideo", "hunyuan_video", ("t2v",)),
    BuiltIn("LTX-2-dev", "Lightricks/LTX-2", "ltx2", _ALL),
    BuiltIn("LTX-2.3-dev", "diffusers/LTX-2.3-Diffusers", "ltx2", _ALL),
    BuiltIn("LTX-2.3-distilled", "diffusers/LTX-2.3-Distilled-Diffusers", "ltx2", _ALL),
    BuiltIn("Wan2.1-1.3B", f"{_WAN}/Wan2.1-T2V-1.3B-Diffusers", "wan", _FROM_TEXT),
    BuiltIn("Wan2.1-14B", f"{_WAN}/Wan2.1-T2V-14B-Diffusers", "wan", _FROM_TEXT),
    BuiltIn("Wan2.1-i2v-14B-480p", f"{_WAN}/Wan2.1-I2V-14B-480P-Diffusers", "wan", ("i2v",)),
    BuiltIn("Wan2.1-i2v-14B-720p", f"{_WAN}/Wan2.1-I2V-14B-720P-Diffusers", "wan", ("i2v",)),
    BuiltIn("Wan2.1-flf2v-14B-720p", f"{_WAN}/Wan2.1-FLF2V-14B-720P-diffusers", "wan", ("flf2v",)),
    BuiltIn("Wan2.2-A14B", f"{_WAN}/Wan2.2-T2V-A14B-Diffusers", "wan", _FROM_TEXT),
    BuiltIn("Wan2.2-i2v-A14B", f"{_WAN}/Wan2.2-I2V-A14B-Diffusers", "wan", ("i2v", "flf2v")),
    BuiltIn("Wan2.2-ti2v-5B", f"{_WAN}/Wan2.2-TI2V-5B-Diffusers", "wan", ("t2v", "i2v", "v2v")),
)
BUILT_IN = {model.name: model for model in _BUILT_IN}
UNKNOWN_HERE = frozenset(
    {"LTX-2-distilled", "MiniMax-H3", "Wan2.2-Animate-2-14B", "Wan2.2-Animate-2-14B-Distilled"}
)


def known_as(model_id: str) -> str | None:
    """Return the built-in name of a hub id, if it has one."""
    return next((model.name for model in _BUILT_IN if model.model_id == model_id), None)
