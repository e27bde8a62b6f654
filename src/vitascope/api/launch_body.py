"""From what a launch says to a `LaunchSpec`, by the table of `launch_keys.py`, so that nothing is dropped."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitascope.api.builtin_names import BUILT_IN, UNKNOWN_HERE
from vitascope.api.intake import Body
from vitascope.api.launch_keys import LAUNCH_KEYS, LaunchUse
from vitascope.api.values import INTEGER, OBJECT, TEXT, wrong_type
from vitascope.config import Settings
from vitascope.errors import InvalidRequest, UnknownField
from vitascope.launch import LaunchSpec
from vitascope.scheduler.launch_rules import LaunchRules, last_part

MAX_NAME_CHARS = 100
RESERVED_UIDS = ("instances",)  # `/v1/models/instances` is a route
DTYPES = {
    "float32": "float32", "fp32": "float32", "bfloat16": "bfloat16", "bf16": "bfloat16", "float16": "float16",
    "fp16": "float16", "auto": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What is to be launched, and what to tell the caller."""

    spec: LaunchSpec
    warnings: tuple[str, ...]


def registered_names(settings: Settings) -> list[str]:
    """Return the names that the operator gave to models; looks at folders."""
    return [name for name, _ in LaunchRules(settings).registered()]


def read_launch(body: Body, registered: Sequence[str]) -> Launch:
    """Understand a launch; `registered` are the names that the operator gave.

    Raises:
        UnknownField: a key that nobody knows; the message names the nearest one.
        InvalidRequest: a key that cannot be read or honoured; the message says what would do.

    """
    for file in body.files:
        raise wrong_type(file, "a plain value", b"")
    fields = body.fields
    warnings = [warning for name, value in fields.items() if (warning := _checked(name, value))]
    said = {name: value for name, value in fields.items() if value is not None}
    _check_type(said.get("model_type", "video"))
    name, path, uid = (_text(said, key) for key in ("model_name", "model_path", "model_uid"))
    if path is None and name is None:
        raise InvalidRequest("Missing required parameter: 'model_name'.", param="model_name")
    loras = _loras(said)
    if "peft_model_config" in said and loras:
        warnings.append(
            "peft_model_config only offers its adapters; a request that is to have one names it as lora."
        )
    model = path or _model_named(str(name), registered)
    uid = uid or (name if name and "/" not in name else None)
    _check_free(uid or last_part(model))
    spec = LaunchSpec(
        model=model,
        uid=uid,
        revision=_text(said, "revision"),
        device=_device(fields, said),
        dtype=_dtype(said),
        lora=loras,
        transformer_path=_weights(said),
        name=_shown_name(name) if path else None,
    )
    return Launch(spec=spec, warnings=tuple(warnings))


def _checked(name: str, value: Any) -> str | None:
    """Refuse a key that is unknown or asks for what is not offered; return what to tell of an idle one."""
    key = LAUNCH_KEYS.get(name)
    if key is None:
        match = difflib.get_close_matches(name[:80], LAUNCH_KEYS, n=1)
        meant = f"; did you mean '{match[0]}'?" if match else "; docs/flags.md lists the known ones."
        raise UnknownField(f"Unknown parameter: '{name[:80]}'{meant}", param=name[:80])
    if key.use is LaunchUse.OFF and not key.grants(value):
        raise InvalidRequest(f"{name} is {str(value)[:60]!r}: {key.about}.", param=name)
    idle = key.use is LaunchUse.INERT and value is not None
    return f"{name} has no effect here: {key.about}." if idle else None


def _check_type(given: Any) -> None:
    if TEXT.read("model_type", given) != "video":
        raise InvalidRequest(
            f"model_type is {given[:40]!r}; this server makes videos: model_type='video'.", param="model_type"
        )


def _text(said: Mapping[str, Any], name: str) -> str | None:
    if name not in said:
        return None
    text = str(TEXT.read(name, said[name])).strip()
    if not text or "\0" in text:
        raise InvalidRequest(f"{name} is no name.", param=name)
    return text


def _model_named(name: str, registered: Sequence[str]) -> str:
    """Return what a name stands for: the operator's comes before Xinference's."""
    if name in registered:
        return name
    if name in UNKNOWN_HERE:
        raise InvalidRequest(
            f"{name} is a model that nothing here can run; GET /v1/model_registrations/video lists those "
            "that can be launched by name.",
            param="model_name",
        )
    return BUILT_IN[name].model_id if name in BUILT_IN else name


def _shown_name(name: str | None) -> str | None:
    """Return what a model is called that is loaded from elsewhere: no place of its own."""
    if name is None or "/" in name:
        return None
    if len(name) > MAX_NAME_CHARS:
        raise InvalidRequest(f"model_name must have at most {MAX_NAME_CHARS} characters.", param="model_name")
    return name


def _check_free(uid: str) -> None:
    if uid in RESERVED_UIDS:
        raise InvalidRequest(f"The name {uid!r} is taken by a route; give a model_uid.", param="model_uid")


def _device(fields: Mapping[str, Any], said: Mapping[str, Any]) -> str | None:
    """Say where the model goes, in whichever of the three ways; two that differ contradict each other."""
    wishes = {
        "device": _text(said, "device"),
        "gpu_idx": _gpu_number(said["gpu_idx"]) if "gpu_idx" in said else None,
        "n_gpu": _gpu_count(fields.get("n_gpu", "auto")),
    }
    chosen = [device for device in wishes.values() if device not in {None, "auto"}]
    finest = max((str(device) for device in chosen), key=len, default=None)
    if any(device != finest and not str(finest).startswith(f"{device}:") for device in chosen):
        given = " and ".join(name for name, device in wishes.items() if device in chosen)
        raise InvalidRequest(f"{given} contradict each other; give one of them.", param="device")
    return finest or wishes["device"]


def _gpu_number(given: Any) -> str:
    numbers = given if isinstance(given, list) else [given]
    if len(numbers) != 1:
        raise InvalidRequest(
            f"gpu_idx lists {len(numbers)} devices; a model runs on one: give one number.", param="gpu_idx"
        )
    number = INTEGER.read("gpu_idx", numbers[0])
    if number < 0:
        raise InvalidRequest(f"gpu_idx is {number}; GPUs are counted from 0.", param="gpu_idx")
    return f"cuda:{number}"


def _gpu_count(given: Any) -> str | None:
    """Read how many GPUs; Xinference's null is the CPU alone."""
    if given is None or given == "auto":
        return "cpu" if given is None else None
    count = INTEGER.read("n_gpu", given)
    if count not in {0, 1}:
        raise InvalidRequest(
            f"n_gpu is {count}; a model runs on one device: 1, 0 (the CPU) or 'auto'.", param="n_gpu"
        )
    return "cuda" if count else "cpu"


def _dtype(said: Mapping[str, Any]) -> str | None:
    given = {name: _text(said, name) for name in ("dtype", "torch_dtype") if name in said}
    for name, text in given.items():
        if str(text).removeprefix("torch.") not in DTYPES:
            raise InvalidRequest(
                f"{name} is {str(text)[:40]!r}; use float32, bfloat16 or float16.", param=name
            )
    found = {DTYPES[str(text).removeprefix("torch.")] for text in given.values()}
    if len(found) > 1:
        raise InvalidRequest("dtype contradicts torch_dtype; give one of them.", param="dtype")
    return found.pop() if found else None


def _loras(said: Mapping[str, Any]) -> tuple[str, ...]:
    return (*_texts("lora", said), *_peft(said.get("peft_model_config", {})))


def _weights(said: Mapping[str, Any]) -> tuple[str, ...]:
    gguf = _text(said, "gguf_model_path")
    return (*_texts("transformer_path", said), *(() if gguf is None else (gguf,)))


def _texts(name: str, said: Mapping[str, Any]) -> list[str]:
    """Read one text or a list of them."""
    given = said.get(name, [])
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list):
        raise wrong_type(name, "an array", given)
    return [str(TEXT.read(name, text)) for text in texts]


def _peft(given: Any) -> list[str]:
    """Read `{"lora_list": [{"lora_name": ..., "local_path": ...}]}` as `NAME=PATH`."""
    name = "peft_model_config"
    config = OBJECT.read(name, given)
    for key, value in config.items():
        if key != "lora_list" and value:
            raise InvalidRequest(
                f"{name}.{key[:40]} cannot be honoured; an adapter's weight is written behind its path: "
                "lora=['NAME=PATH:0.8'].",
                param=name,
            )
    adapters = config.get("lora_list") or []
    if not isinstance(adapters, list) or not all(isinstance(item, dict) for item in adapters):
        raise wrong_type(f"{name}.lora_list", "an array of objects", adapters)
    return [f"{_part(item, 'lora_name')}={_part(item, 'local_path')}" for item in adapters]


def _part(item: Mapping[str, Any], key: str) -> str:
    return str(TEXT.read(f"peft_model_config.lora_list.{key}", item.get(key)))
