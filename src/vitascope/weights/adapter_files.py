"""A LoRA file: read, its layout told from its keys, its scaling put into its weights, its fit checked.

Reads the layouts of PEFT, diffusers, kohya and LightX2V; renaming to diffusers' modules is done by diffusers'
own converters. Only safetensors are read.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import convert_unet_state_dict_to_peft
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vitascope.errors import CheckpointError
from vitascope.weights.checkpoint import read_json

Weights = dict[str, Tensor]
Convert = Callable[[Weights], Weights]

_log = logging.getLogger(__name__)

_PEFT_CONFIG = "adapter_config.json"
_DIFFUSERS_CONFIG = "lora_adapter_metadata"  # a key of the safetensors header
_PREFIXES = ("base_model.model.", "pipe.dit.")
_PREFIX = "transformer."
_ORIGINAL_PREFIX = "diffusion_model."  # what diffusers' converters know the authors' own names by
_KNOWN_PREFIXES = (_PREFIX, _ORIGINAL_PREFIX, "lora_unet_", "text_encoder.", "connectors.")
_PART = re.compile(r"(.+)\.(lora_A\.weight|lora_B\.weight|lora_B\.bias)")
_UP = re.compile(r"\.lora_(B|up)\.(weight|bias)$")
_FOREIGN = {"dora_scale": "DoRA", ".lokr_": "LoKr", ".hada_": "LoHa"}


def read_adapter(path: Path, network: nn.Module, convert: Convert | None) -> Weights:
    """Read a LoRA for one network: names of its modules with `.lora_A.weight` and so on, ready to be loaded.

    `path` is a .safetensors file or a folder that holds one; `convert` renames other layouts' keys.

    Raises:
        CheckpointError: it cannot be read, or does not fit; the message names the first key that does not.

    """
    file = _find(path)
    raw, config = _read(file)
    _check_kind(file, raw)
    weights = _renamed(file, _scaled(_bare(raw), config), network, convert)
    _check_fit(file, weights, network)
    return _with_all_biases(weights)


def _find(path: Path) -> Path:
    path = path.expanduser()
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        if len(files) != 1:
            found = ", ".join(f.name for f in files) or "none"
            raise CheckpointError(
                f"The adapter folder {path.name} must hold one .safetensors file; found: {found}."
            )
        return files[0]
    if not path.is_file():
        raise CheckpointError(f"There is no adapter {path.name}.")
    if path.suffix != ".safetensors":
        raise CheckpointError(f"The adapter {path.name} is no .safetensors file; other formats are not read.")
    return path


def _read(file: Path) -> tuple[Weights, Mapping[str, Any]]:
    """Return the tensors, and what PEFT or diffusers wrote about their scaling."""
    try:
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata() or {}
            weights = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118  (no dict)
    except (SafetensorError, OSError) as error:
        said = str(error).splitlines()[0]
        raise CheckpointError(f"The adapter {file.name} is damaged or cut short: {said}") from None
    beside = file.parent / _PEFT_CONFIG
    if beside.is_file():
        return weights, read_json(beside)
    if _DIFFUSERS_CONFIG not in header:
        return weights, {}
    told = json.loads(header[_DIFFUSERS_CONFIG])
    return weights, {k.removeprefix(_PREFIX): v for k, v in told.items()}


def _check_kind(file: Path, weights: Weights) -> None:
    if not weights:
        raise CheckpointError(f"The adapter {file.name} is empty.")
    for key in weights:
        for mark, kind in _FOREIGN.items():
            if mark in key:
                raise CheckpointError(f"The adapter {file.name} is a {kind} ({key}); only LoRA is read.")


def _bare(raw: Weights) -> Weights:
    """Take off what trainers put around names."""
    bare = {}
    for key, tensor in raw.items():
        for prefix in _PREFIXES:
            key = key.removeprefix(prefix)  # noqa: PLW2901
        bare[key.replace(".default.weight", ".weight")] = tensor
    return bare


def _scaled(weights: Weights, config: Mapping[str, Any]) -> Weights:
    """Multiply the second matrices by alpha / rank, so that every adapter counts as it is at scale 1.

    kohya's `.alpha` tensors under the authors' names are left to the converters.
    """
    if config.get("use_dora"):
        raise CheckpointError("The adapter's configuration asks for DoRA; only LoRA is read.")
    scaled = {}
    for key, tensor in weights.items():
        up = _UP.search(key)
        factor = _factor(key[: up.start()].removeprefix(_PREFIX), weights, key, config) if up else 1.0
        scaled[key] = tensor if factor == 1.0 else tensor * factor
    return scaled


def _factor(module: str, weights: Weights, key: str, config: Mapping[str, Any]) -> float:
    patterns = config.get("alpha_pattern") or {}
    alpha = patterns.get(get_pattern_key(list(patterns), module), config.get("lora_alpha"))
    matrix = weights[_UP.sub(r".lora_\1.weight", key)]
    if alpha is None or matrix.ndim < 2:
        return 1.0
    rank = matrix.shape[1]
    return float(alpha / math.sqrt(rank)) if config.get("use_rslora") else float(alpha / rank)


def _renamed(file: Path, weights: Weights, network: nn.Module, convert: Convert | None) -> Weights:
    """Bring all keys to the names of the network's own modules."""
    if _names_are_the_authors(weights, network):
        weights = {f"{_ORIGINAL_PREFIX}{key}": tensor for key, tensor in weights.items()}
    _tell_unapplied(file, weights)
    converted = _converted(file, weights, convert)
    own = {key.removeprefix(_PREFIX): tensor for key, tensor in converted.items()}
    return own if any("lora_A" in key for key in own) else _from_down_and_up(own)


def _names_are_the_authors(weights: Weights, network: nn.Module) -> bool:
    """Whether keys lack every prefix and name no module of diffusers' network."""
    if any(key.startswith(_KNOWN_PREFIXES) for key in weights):
        return False
    modules = {name for name, _ in network.named_modules()}
    return not any(key.partition(".lora")[0] in modules for key in weights)


def _converted(file: Path, weights: Weights, convert: Convert | None) -> Weights:
    if convert is None:
        return weights
    try:
        return convert(dict(weights))
    except KeyError as error:
        raise CheckpointError(f"The adapter {file.name} lacks {error.args[0]!r}.") from None
    except (ValueError, IndexError, NameError, RuntimeError, AttributeError) as error:
        # The converters know no names of errors; what they could not place is listed in some messages.
        unplaced = re.search(r"\['([^']+)'", str(error))
        key = unplaced[1] if unplaced else next(iter(weights))
        raise CheckpointError(
            f"The adapter {file.name} does not fit: no layer of this model takes {key!r}."
        ) from None


def _tell_unapplied(file: Path, weights: Weights) -> None:
    """Warn of weight differences beside the LoRA that diffusers' converters leave out."""
    for key, tensor in weights.items():
        left_out = key.endswith(".diff") and "head.head" not in key
        left_out = left_out or (key.endswith(".diff_b") and "norm" in key)
        if left_out and bool(tensor.any()):
            _log.warning("adapter %s: %s and the like are not applied", file.name, key)
            return


def _from_down_and_up(weights: Weights) -> Weights:
    """Rename diffusers' older layouts and kohya's words under diffusers' names, with their alphas."""
    alphas = {k.removesuffix(".alpha"): float(t) for k, t in weights.items() if k.endswith(".alpha")}
    rest = {k: t for k, t in weights.items() if not k.endswith(".alpha")}
    renamed = {
        k.replace(".lora_down.", ".lora_A.").replace(".lora_up.", ".lora_B."): t for k, t in rest.items()
    }
    if not any("lora_A" in key for key in renamed):
        renamed = convert_unet_state_dict_to_peft(renamed)
    for module, alpha in alphas.items():
        up = f"{module}.lora_B.weight"
        if up in renamed:
            renamed[up] = renamed[up] * (alpha / renamed[up].shape[1])
    return renamed


def _check_fit(file: Path, weights: Weights, network: nn.Module) -> None:
    """Refuse what would be left out or would not multiply."""
    modules = dict(network.named_modules())
    for key, tensor in weights.items():
        part = _PART.fullmatch(key)
        layer = _original(modules.get(part[1])) if part else None
        if part is None or not isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d):
            raise CheckpointError(
                f"The adapter {file.name} does not fit: no layer of this model takes {key!r}."
            )
        wanted = _wanted(part[1], part[2], weights, layer)
        if wanted is None:
            raise CheckpointError(
                f"The adapter {file.name} is not whole: {key!r} stands without its other half."
            )
        if tuple(tensor.shape) != wanted:
            raise CheckpointError(
                f"The adapter {file.name} does not fit: {key!r} is {tuple(tensor.shape)}; "
                f"this model needs {wanted}."
            )


def _with_all_biases(weights: Weights) -> Weights:
    """Give every layer a bias where one has one: PEFT makes them for all, and would leave the rest empty."""
    ups = {key.removesuffix(".weight"): t for key, t in weights.items() if key.endswith(".lora_B.weight")}
    if not any(f"{up}.bias" in weights for up in ups):
        return weights
    return {f"{up}.bias": t.new_zeros(t.shape[0]) for up, t in ups.items()} | weights


def _original(layer: Any) -> Any:
    """Return the layer below the adapters that were registered before."""
    return layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer


def _wanted(module: str, part: str, weights: Weights, layer: Any) -> tuple[int, ...] | None:
    """Return the shape that a matrix must have beside its other half; None if that is missing."""
    down, up = weights.get(f"{module}.lora_A.weight"), weights.get(f"{module}.lora_B.weight")
    if down is None or up is None:
        return None
    is_linear = isinstance(layer, nn.Linear)  # one of quantised blocks has a weight of another shape
    rows, *columns = (layer.out_features, layer.in_features) if is_linear else layer.weight.shape
    if part == "lora_A.weight":
        return (down.shape[0], *columns)
    if part == "lora_B.bias":
        return (rows,)
    return (rows, down.shape[0], *[1] * (len(columns) - 1))


def placed_like(weights: Weights, network: Any) -> Weights:
    """Return the weights where the network lies and in its dtype."""
    dtype: torch.dtype = network.dtype
    return {key: tensor.to(network.device, dtype).contiguous() for key, tensor in weights.items()}
