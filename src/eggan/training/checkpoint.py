"""Checkpoints of a run: two are kept, so that one which the disk spoiled does not end the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from eggan.errors import EgganError
from eggan.files import write_atomically

__all__ = ["read_checkpoint", "write_checkpoint"]


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write `state.pt`; the one before becomes `previous.pt` once the new one is whole and on the disk."""
    write_atomically(folder / "state.pt", lambda beside: torch.save(state, beside), keep=folder / "previous.pt")


def read_checkpoint(folder: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest checkpoint that is whole; None where the run has none.

    A kill leaves no torn checkpoint, but a full or broken disk or a copy cut short may. Then the one before serves: the
    run repeats some steps and ends with the same weights.

    Args:
        folder: the run's `checkpoint/`.
        say: receives a line where the newest one is not used.

    Raises:
        EgganError: there is one, and none that is there can be read.
    """
    torn: list[str] = []
    for path in (folder / "state.pt", folder / "previous.pt"):
        if not path.is_file():
            continue
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a torn file fails in many ways
            torn.append(f"{path} cannot be read ({type(error).__name__})")
            continue
        if torn:
            say(f"{torn[0]}; going on from {path.name}, step {state['step']}.")
        return state
    if torn:
        raise EgganError(f"{' and '.join(torn)}; remove {folder} to start this run anew.")
    return None
