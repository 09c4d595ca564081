"""What changes during a run, and one step of its method on it, on any device and any number of processes.

Processes (`accelerate launch`) share every step. Each draws all of the global batch from the same generator and keeps
its own part, so that what is drawn does not depend on how many there are. Every term is a mean over images and the
parts are of one size, so the mean of the processes' gradients is the gradient of the global batch. That mean is taken
after the backward pass and not by DistributedDataParallel, which counts on one forward and one backward of a whole
network: here one pass of E and G serves two losses, and the penalty of Eq. 2 differentiates twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from eggan.data import Batch, draw_batch
from eggan.data.batches import Photographs, TrainingRows, moved
from eggan.errors import EgganError
from eggan.method import Method, Model, RunConfig
from eggan.objective import Terms
from eggan.training.precision import in_bfloat16

__all__ = ["Run"]


class Run:
    """Networks, optimisers, moving average, generator and what is to be logged.

    Args:
        config: the run's configuration.
        objective: the method, for EGGAN Eq. 7, with its networks; moved to the process's device.
        rows: the faces to learn from.
        process: this process among those that share the run.
        photos: photographs, to learn from beside the faces.
    """

    def __init__(
        self,
        config: RunConfig,
        objective: Method,
        rows: TrainingRows,
        process: PartialState,
        photos: Photographs | None = None,
    ) -> None:
        self.config, self.rows, self.process, self.photos = config, rows, process, photos
        self.objective = objective.to(process.device)
        self.step = 0
        self.generator = torch.Generator().manual_seed(config.seed)
        self.average = AveragedModel(objective.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
        if config.compile:  # not the critics: the penalty of Eq. 2 differentiates twice, which compiled networks cannot
            for network in objective.model.children():
                network.compile()
        self.critics = objective.critics
        self.optimizers = {"E, G": self._adam(objective.learners)}  # EGGAN's names, whatever the method's networks are
        if self.critics:
            self.optimizers["D_z, D_img"] = self._adam(self.critics)
        self.updates = config.critic_steps if self.critics else 1
        pieces = process.num_processes * config.accumulate
        if config.whole_batch and pieces > 1:
            raise EgganError(
                f"{config.method} mixes the images of a batch, so that it needs one process and accumulate=1, "
                f"not {process.num_processes} and {config.accumulate}."
            )
        share, left = divmod(config.batch_size, pieces)
        if left:
            raise EgganError(
                f"batch_size {config.batch_size} does not divide among {process.num_processes} processes with "
                f"accumulate {config.accumulate}: choose a multiple of {pieces}."
            )
        if config.unpaired and share % config.unpaired:
            raise EgganError(
                f"batch_size {config.batch_size} leaves pieces of {share} images, of which unpaired="
                f"{config.unpaired} would not take the same number each: choose a multiple of "
                f"{pieces * config.unpaired}."
            )
        first = process.process_index * config.accumulate * share
        self.part = slice(first, first + config.accumulate * share)
        self.pieces = [slice(k * share, (k + 1) * share) for k in range(config.accumulate)]
        self.names: list[str] = []
        self.unseen: list[Tensor] = []
        """The terms of each step since `collect`, on the device, of this process's part."""
        self.since_log = torch.zeros(0)
        """The terms of each step before that and since the last line of the log, of the global batch."""

    @property
    def ema(self) -> Model:
        """The moving average of the model, which is what ships."""
        return self.average.module  # type: ignore[return-value]

    @property
    def presented(self) -> int:
        """Images that a step shows."""
        return self.config.batch_size * self.updates

    def advance(self) -> None:
        """One step: `critic_steps` updates of the critics, each on a batch of its own, then one of the learners.

        The learners learn on the pass that the critics' last update saw. Where `accumulate` cuts the batch into pieces,
        that pass is made again, piece by piece, instead of keeping the activations of all.
        """
        terms: dict[str, Tensor] = {}
        for update in range(1, self.updates + 1):
            pieces = self._draw()
            pass_kept = update == self.updates and len(pieces) == 1
            if self.critics:
                losses = []
                for batch, noise in pieces:
                    with self._precision():
                        with torch.set_grad_enabled(pass_kept):
                            out = self.objective.perform(batch, noise)
                        loss = self.objective.discriminator_loss(batch, out, noise)
                    losses.append(self._backward(loss))
                self._descend("D_z, D_img")
                terms = _means(losses)
        losses = []
        for batch, noise in pieces:
            with self._precision():
                if not (self.critics and pass_kept):
                    out = self.objective.perform(batch, noise)
                loss = self.objective.generator_loss(batch, out)
            losses.append(self._backward(loss))
        self._descend("E, G")
        self.average.update_parameters(self.objective.model)
        self.step += 1
        terms |= _means(losses)
        self.names = list(terms)
        self.unseen.append(torch.stack(list(terms.values())))

    def collect(self) -> dict[str, float]:
        """The terms' means over the steps since the last line of the log; this waits for the device.

        Raises:
            EgganError: a term is no longer finite; the sentence says which, and in which step.
        """
        if self.unseen:
            rows = reduce(torch.stack(self.unseen), "mean").cpu()
            for step, row in enumerate(rows.tolist(), self.step - len(rows) + 1):
                for name, value in zip(self.names, row, strict=True):
                    if not math.isfinite(value):
                        raise EgganError(
                            f"The term {name} is {value} at step {step}: training diverged. The run's folder holds "
                            "the last checkpoint; try a lower learning_rate in a new run."
                        )
            self.since_log = torch.cat([self.since_log.view(-1, len(self.names)), rows])
            self.unseen = []
        return dict(zip(self.names, self.since_log.double().mean(dim=0).tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on. C_exp, C_id and φ₃ do not change in a run and lie in the cache, so they are left out."""
        return {
            "step": self.step,
            "objective": _without_judges(self.objective.state_dict()),
            "ema": self.average.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "generator": self.generator.get_state(),
            "names": self.names,
            "since_log": self.since_log,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        own = self.objective.state_dict()
        if state["objective"].keys() != _without_judges(own).keys():
            raise ValueError("other networks than this run's")
        self.objective.load_state_dict({**own, **state["objective"]})
        self.average.load_state_dict(state["ema"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.generator.set_state(state["generator"])
        self.step, self.names, self.since_log = state["step"], state["names"], state["since_log"]

    def _draw(self) -> list[tuple[Batch, Any]]:
        """This process's part of the next global batch and of its noise, in `accumulate` pieces."""
        c, device = self.config, self.process.device
        batch = draw_batch(
            self.rows,
            c.batch_size,
            paired=c.paired,
            generator=self.generator,
            part=self.part,
            device=device,
            from_neutral=c.from_neutral,
            randomised=c.randomised,
            photos=self.photos,
            unpaired=c.unpaired,
        )
        noise = self.objective.draw_noise(c.batch_size, self.generator)
        own = [x if x is None else moved(x[self.part], device) for x in noise]
        return [
            (batch[piece], type(noise)(*(x if x is None else x[piece] for x in own)))  # a named tuple, as it was
            for piece in self.pieces
        ]

    def _precision(self) -> torch.autocast:
        return in_bfloat16(self.process.device, self.config.precision == "bfloat16")

    def _backward(self, loss: Terms) -> dict[str, Tensor]:
        (loss.total / len(self.pieces)).backward()
        return loss.terms

    def _descend(self, name: str) -> None:
        c, optimizer = self.config, self.optimizers[name]
        for group in optimizer.param_groups:
            group["lr"] = c.learning_rate * min(1.0, (1 - self.step / c.steps) / (1 - c.decay_from))
        if self.process.num_processes > 1:
            _average(p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _adam(self, networks: Sequence[nn.Module]) -> torch.optim.Adam:
        parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
        return torch.optim.Adam(parameters, lr=self.config.learning_rate, betas=self.config.betas, fused=True)


def _average(gradients: Iterable[Tensor]) -> None:
    """Replace gradients by their means over the processes, in one message."""
    gradients = list(gradients)
    means = reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
    for gradient, mean in zip(gradients, means.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view(gradient.shape))


def _means(terms: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([piece[name] for piece in terms]).mean(dim=0) for name in terms[0]}


def _without_judges(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(("C_exp.", "C_id.", "phi."))}
