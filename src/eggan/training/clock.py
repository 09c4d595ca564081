"""The schedule of what is trained before or apart from a run, by minutes as the two judges, and its moving average."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["by_the_clock", "moving_average", "risen_and_fallen"]

WARM_UP = 100


def by_the_clock(optimizer: torch.optim.Optimizer, minutes: float) -> Iterator[float]:
    """Yield the share of the time that is over, 0 to 1, once a step, until it is.

    Each group's learning rate rises to its first value over 100 steps, and falls as a cosine to 0 at the end.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    start, step = time.monotonic(), 0
    while (done := (time.monotonic() - start) / (60 * minutes)) < 1:
        step += 1
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * risen_and_fallen(step, done)
        yield done


def risen_and_fallen(step: int, done: float) -> float:
    """Part of its full size that a learning rate has in a step, counted from 1, when so much of a training is over."""
    return min(1.0, step / WARM_UP) * 0.5 * (1 + float(np.cos(np.pi * done)))


def moving_average(network: nn.Module, decay: float = 0.998) -> AveragedModel:
    """Moving average of a network and its buffers; after n steps the decay is min(decay, (1 + n) / (10 + n)).

    It forgets its first steps sooner than a constant decay would, so that a short run, too, ends averaged.
    """

    @torch.no_grad()
    def average(
        means: tuple[Tensor, ...] | list[Tensor], values: tuple[Tensor, ...] | list[Tensor], n: Tensor | int
    ) -> None:
        keep = min(decay, (1 + int(n)) / (10 + int(n)))
        for mean, value in zip(means, values, strict=True):
            mean.copy_(torch.lerp(mean, value, 1 - keep) if mean.is_floating_point() else value)

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)
