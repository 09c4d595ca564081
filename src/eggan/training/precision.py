"""bfloat16 where a training asks for it and the machine gains by it."""

from __future__ import annotations

import torch

__all__ = ["gains_by_bfloat16", "in_bfloat16"]


def gains_by_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16: a CPU with AVX2 at most imitates it, ten times slower than float32."""
    return device.type != "cpu" or torch.backends.cpu.get_cpu_capability() not in ("NO AVX", "AVX2")


def in_bfloat16(device: torch.device, asked: bool = True) -> torch.autocast:
    """Context in which networks compute in bfloat16, if asked to and the device gains by it, else in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=asked and gains_by_bfloat16(device))
