"""How OpenAPI describes a launch: from the table of keys, so that it cannot lag behind."""

from __future__ import annotations

from typing import Any

from vitascope.api.launch_keys import LAUNCH_KEYS, LaunchKey, LaunchUse
from vitascope.api.request_schema import JSON, request_body
from vitascope.api.values import OBJECT, TEXT

_TEXTS: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_SHAPES: dict[str, dict[str, Any]] = {
    "gpu_idx": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]},
    "n_gpu": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
    "lora": _TEXTS,
    "transformer_path": _TEXTS,
    "peft_model_config": OBJECT.schema,
}
_EXAMPLES: dict[str, dict[str, Any]] = {
    "A model by name": {"model_name": "Wan2.1-1.3B"},
    "As Xinference's client sends it": {
        "model_uid": "wan-2",
        "model_name": "Wan2.1-1.3B",
        "model_type": "video",
        "replica": 1,
        "n_worker": 1,
        "n_gpu": "auto",
        "quantization": None,
        "model_path": None,
        "peft_model_config": None,
        "envs": None,
    },
}


def _described(key: LaunchKey) -> dict[str, Any]:
    if key.use is LaunchUse.OFF:
        return {"enum": [*key.granted, None], "description": f"Not offered: {key.about}."}
    if key.use is LaunchUse.INERT:
        return {"description": f"No effect here: {key.about}."}
    return {**_SHAPES.get(key.name, TEXT.schema), "description": key.about}


def _launch_body() -> dict[str, Any]:
    """Describe the body in the one format that clients send."""
    properties = {key.name: _described(key) for key in LAUNCH_KEYS.values()}
    body = request_body(properties, examples=_EXAMPLES)
    return {"required": True, "content": {JSON: body["content"][JSON]}}


LAUNCH_BODY = _launch_body()
