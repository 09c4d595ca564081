"""Files of a run that are whole or absent: written beside, synced, then renamed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

__all__ = ["write_atomically", "write_safetensors", "write_state"]


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a path beside, then rename it; what stood there stays until the new one is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    try:
        write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_state(path: Path, state: dict[str, object]) -> None:
    """A checkpoint: tensors and plain values by `torch.save`."""
    write_atomically(path, lambda beside: torch.save(state, beside))


def write_safetensors(path: Path, module: nn.Module) -> None:
    """The tensors of a network."""
    write_atomically(
        path, lambda beside: save_file({k: v.contiguous() for k, v in module.state_dict().items()}, beside)
    )
