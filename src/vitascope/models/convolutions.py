"""A faster 3-D convolution on the CPU, for the decoders of video VAEs."""

from __future__ import annotations

from types import MethodType

import torch
from torch import Tensor, nn


def use_fast_convolutions(*parts: nn.Module) -> None:
    """Send 3-D convolutions on the CPU to oneDNN, which PyTorch does only for large ones.

    Several times faster at small sizes; sums run in another order, so that pixels differ by about 1e-5 of
    their range. Encoders are best left alone: condition latents stay equal to the reference's to the bit.
    """
    if not torch.backends.mkldnn.enabled:
        return
    for module in (m for part in parts for m in part.modules()):
        if (
            isinstance(module, nn.Conv3d)
            and module.padding_mode == "zeros"
            and module.weight.device.type == "cpu"
        ):
            vars(module)["_conv_forward"] = MethodType(_onednn_forward, module)


def _onednn_forward(conv: nn.Conv3d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.aten.mkldnn_convolution(  # type: ignore[no-any-return]
        x, weight, bias, list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups
    )
