"""The gradients of a run's first step. As a program, on the processes that it was launched with: CONFIG OUT FILE."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

import torch
import yaml
from accelerate import PartialState
from torch import Tensor

from eggan.training.config import TrainConfig
from eggan.training.loop import train


def first_gradients(config: TrainConfig, out: Path) -> list[Tensor]:
    """Of the critics' parameters, then of E and G; both at the weights that the run starts with."""
    found: list[Tensor] = []

    def note(optimizer: torch.optim.Adam) -> None:
        found.extend(p.grad.clone() for group in optimizer.param_groups for p in group["params"] if p.grad is not None)

    with patch.object(torch.optim.Adam, "step", note):
        train(config.model_copy(update={"steps": 1}), out)
    return found


if __name__ == "__main__":
    gradients = first_gradients(
        TrainConfig.model_validate(yaml.safe_load(Path(sys.argv[1]).read_text())), Path(sys.argv[2])
    )
    if PartialState().is_main_process:
        torch.save(gradients, sys.argv[3])
