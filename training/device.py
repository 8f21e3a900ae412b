"""Where training runs, and whether it can be done in bf16 there."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

NOT_HERE = "this processor has no bf16 instructions, so fit.precision = fp32 is used"


def pick_device(name: str = "auto") -> torch.device:
    """`auto`: CUDA, else MPS, else CPU."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def has_bf16(device: torch.device) -> bool:
    """Whether training in bf16 runs on `device`, and at speed: most processors without instructions for it refuse
    it or are slower than with fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        backend: Any = torch.backends.mkldnn
        operations: Any = torch.ops.mkldnn
        return bool(backend.is_available() and operations._is_mkldnn_bf16_supported())
    return False


def autocast(device: torch.device, bf16: bool) -> contextlib.AbstractContextManager[Any]:
    """The context in which a forward pass computes: bf16 where it is safe, or fp32 throughout."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else contextlib.nullcontext()
