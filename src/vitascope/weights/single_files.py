"""A transformer in one file, .safetensors or .gguf, in place of the weights in the folder.

The folder's config.json still says what the network is; names may be diffusers' own or the authors'. Renaming
and quantised layers are diffusers'. Everything is compared with the network by headers alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from diffusers import GGUFQuantizationConfig
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from torch import Tensor, nn

from vitascope.errors import CheckpointError
from vitascope.weights.gguf_files import blocks_of_diffusers, read_gguf_layout
from vitascope.weights.layouts import Stored, WeightFile, read_layout
from vitascope.weights.networks import Read, Source, check_fit, default_dtype, dtype_of, without_weights

SUFFIXES = (".gguf", ".safetensors")
_PREFIXES = ("model.diffusion_model.", "diffusion_model.")  # ComfyUI's: of a whole model, of a transformer
_Tensors = dict[str, Tensor]


def read_single(path: Path) -> WeightFile:
    """Read the header of a file by its suffix.

    Raises:
        CheckpointError: it is missing, damaged, or of another format.
        ConfigurationError: it is GGUF, and the gguf package is not installed.

    """
    if not path.is_file():
        raise CheckpointError(
            f"There is no file {str(path)!r}; give a .safetensors or .gguf file of weights."
        )
    if path.suffix not in SUFFIXES:
        raise CheckpointError(
            f"{path.name} is no {' or '.join(SUFFIXES)} file; other formats can run code when they are read, "
            "and are not."
        )
    return (read_gguf_layout if path.suffix == ".gguf" else read_layout)(path, path.name)


def load_single(kind: Any, source: Source, read: Read, device: torch.device, dtype: torch.dtype) -> Any:
    """Make a diffusers network of its folder's configuration and one file; `read` brings tensors as stored.

    Raises:
        CheckpointError: a tensor that is missing, of another shape or kind, or unknown to the network.

    """
    network = check_single(kind, source, dtype)
    chosen = _chosen(source.files[0])
    found = read({one.name: one.dtype for one in chosen.values()}, device)
    tensors = _renamed(
        kind, {bare: _wrapped(found.pop(one.name), one) for bare, one in chosen.items()}, network
    )
    if any(one.quant is not None for one in chosen.values()):
        return _with_blocks(kind, source, tensors, device, dtype)
    for name, tensor in tensors.items():
        tensors[name] = tensor.to(dtype_of(kind, name, tensor.dtype, dtype)).contiguous()
    network.load_state_dict({name: tensors[name] for name in network.state_dict()}, assign=True)
    return network.eval().requires_grad_(requires_grad=False).to(device)


def check_single(kind: Any, source: Source, dtype: torch.dtype) -> Any:
    """Compare a file's headers with the network of the folder's configuration; return that network, empty.

    Raises:
        CheckpointError: as for `load_single`.

    """
    network = without_weights(kind, source.folder, dtype)
    chosen = _chosen(source.files[0])
    if any(one.quant for one in chosen.values()) and kind.__name__ not in SINGLE_FILE_LOADABLE_CLASSES:
        raise CheckpointError(
            f"{source.files[0].shown} holds quantised tensors, which diffusers cannot put into "
            f"a {kind.__name__}."
        )
    with torch.device("meta"):
        empty = {bare: _wrapped(torch.empty(one.shape, dtype=one.dtype), one) for bare, one in chosen.items()}
        renamed = _renamed(kind, empty, network)
    check_fit(source, network, {name: _seen(tensor) for name, tensor in renamed.items()})
    return network


def describe_single(file: WeightFile) -> str:
    """Say what a file holds: how many tensors of which types."""
    kinds = Counter(
        str(one.dtype).removeprefix("torch.") if one.quant is None else one.quant.kind.name
        for one in file.tensors
    )
    return f"{file.shown}: " + ", ".join(f"{count} tensors {kind}" for kind, count in kinds.most_common())


def _chosen(file: WeightFile) -> dict[str, Stored]:
    """Return the transformer's tensors by their names without a prefix that stands for it.

    A prefix of the first kind parts it from the other networks of a whole model; those are left alone.
    """
    for prefix in _PREFIXES:
        found = {one.name.removeprefix(prefix): one for one in file.tensors if one.name.startswith(prefix)}
        if found:
            return found
    return {one.name: one for one in file.tensors}


def _renamed(kind: Any, tensors: _Tensors, network: nn.Module) -> _Tensors:
    """Bring the authors' names, and tensors that they keep as one, into diffusers' form."""
    known: Collection[str] = network.state_dict().keys()
    convert = SINGLE_FILE_LOADABLE_CLASSES.get(kind.__name__, {}).get("checkpoint_mapping_fn")
    if convert is None or 2 * len(tensors.keys() & known) >= len(tensors):
        return tensors
    config: Any = network.config
    try:
        return dict(convert(checkpoint=tensors, config=config))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError):
        return tensors  # not in the authors' form either: the comparison will say by which name


def _wrapped(tensor: Tensor, stored: Stored) -> Tensor:
    """Let a tensor of blocks know its type, so that it keeps it while it is renamed, cut and joined."""
    if stored.quant is None:
        return tensor
    wrapped: Tensor = blocks_of_diffusers().GGUFParameter(tensor, quant_type=stored.quant.kind)
    return wrapped


def _seen(tensor: Any) -> tuple[tuple[int, ...], torch.dtype]:
    """Return the shape in weights, and the dtype that stands for them."""
    if isinstance(tensor, nn.Parameter):  # blocks; nothing else is wrapped here
        return tuple(tensor.quant_shape), torch.float32  # type: ignore[attr-defined]  # diffusers' subclass
    return tuple(tensor.shape), tensor.dtype


def _with_blocks(
    kind: Any, source: Source, tensors: _Tensors, device: torch.device, dtype: torch.dtype
) -> Any:
    """Let linear layers keep their blocks and unpack them in each pass; all else is unpacked once."""
    blocks = blocks_of_diffusers()
    with default_dtype(dtype):
        network = kind.from_single_file(
            tensors,
            config=str(source.folder),
            quantization_config=GGUFQuantizationConfig(compute_dtype=dtype),
            dtype=dtype,
            device=device,
            local_files_only=True,
        )
    for module in network.modules():
        for name, held in module.named_parameters(recurse=False):
            in_linear = isinstance(module, blocks.GGUFLinear) and name == "weight"
            if isinstance(held, blocks.GGUFParameter) and not in_linear:
                unpacked = blocks.dequantize_gguf_tensor(held).to(dtype)
                setattr(module, name, nn.Parameter(unpacked, requires_grad=False))
    return network.eval().requires_grad_(requires_grad=False).to(device)
