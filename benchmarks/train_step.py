"""Time the training step of a preset: `python benchmarks/train_step.py --preset small`.

Prints images/s, the FLOP/s that the step achieves (convolutions and matrix products, as torch.utils.flop_counter
counts them), the rate of a plain matrix product in the step's precision, and the same objective written plainly:
float32, contiguous, E and G run anew for every loss, nothing fused, in a process of its own that leaves memory to the C
library's habits. The three are measured in turn, round by round, and the medians are compared, so that other work on
the machine weighs on all alike. On the CPU one thread works, and its own time counts. Images are noise: no data is
needed.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from accelerate import PartialState
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.flop_counter import FlopCounterMode

from eggan import losses
from eggan.data import Batch, Faces, draw_batch
from eggan.data.batches import TrainingRows
from eggan.layers import GroupNorm, UpConv
from eggan.model import EGGAN
from eggan.networks import AttributeClassifier, compose
from eggan.objective import Judges, Objective
from eggan.training.config import TrainConfig, load_config
from eggan.training.loop import _objective, keep_freed_memory
from eggan.training.precision import gains_by_bfloat16
from eggan.training.run import Run

PEOPLE, ROWS_EACH = 8, 8
SIDE = 2048


def main(
    preset: Annotated[str, typer.Option(help="Preset whose step is timed.")] = "small",
    changes: Annotated[list[str] | None, typer.Option("--set", help="A setting, as batch_size=64.")] = None,
    rounds: Annotated[int, typer.Option(help="How often each of the three is timed.")] = 15,
    memory_steps: Annotated[int, typer.Option(help="Take this many steps more and see whether memory grows.")] = 0,
) -> None:
    config = load_config(preset, changes or [])
    torch.set_num_threads(1)
    process = PartialState(cpu=not torch.cuda.is_available())
    keep_freed_memory()
    run = Run(config, objective(config), rows(config.image_size), process)
    spawn = multiprocessing.get_context("spawn")
    there, here = spawn.Pipe()
    spawn.Process(target=take_plain_steps, args=(config, process.device, there), daemon=True).start()
    flops = count_flops(run.advance)
    reduced = config.precision == "bfloat16" and gains_by_bfloat16(process.device)
    dtype = torch.bfloat16 if reduced else torch.float32
    a = torch.randn(SIDE, SIDE, device=process.device, dtype=dtype)

    def plain_seconds() -> float:
        here.send("another")
        return here.recv()

    timers: dict[str, Callable[[], float]] = {
        "ours": lambda: seconds(run.advance, process.device),
        "plain": plain_seconds,
        "product": lambda: seconds(lambda: a @ a, process.device),
    }
    times: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(rounds + 1):
        for name, timer in timers.items():
            times[name].append(timer())
    here.send("")
    ours, theirs, product = (statistics.median(times[name][1:]) for name in timers)  # the first round warms up
    rate, gemm = flops / ours, 2 * SIDE**3 / product
    print(f"{preset}: {config.image_size} px, batch {config.batch_size}, {dtype}, {process.device}, ", end="")
    print(f"{torch.get_num_threads()} CPU threads, {rounds} rounds")
    print(f"step                {1000 * ours:10.1f} ms   {config.batch_size / ours:8.1f} images/s")
    print(f"work                {flops / 1e9:10.2f} GFLOP a step, {flops / 1e9 / config.batch_size:.3f} an image")
    print(f"achieved            {rate / 1e9:10.1f} GFLOP/s")
    print(f"matrix product      {gemm / 1e9:10.1f} GFLOP/s  ({SIDE}², {dtype})")
    print(f"achieved / product  {rate / gemm:10.1%}")
    print(f"plain eager step    {1000 * theirs:10.1f} ms   {config.batch_size / theirs:8.1f} images/s")
    print(f"ours / plain        {theirs / ours:10.2f} times as fast")
    for step in range(memory_steps):
        if step in (memory_steps // 10, memory_steps // 2):
            print(f"after {step:5} steps   {resident():10.1f} MB")
        run.advance()
        if step % config.log_every == 0:
            run.collect()
            run.since_log = run.since_log[:0]
    if memory_steps:
        print(f"after {memory_steps:5} steps   {resident():10.1f} MB")


def take_plain_steps(config: TrainConfig, device: torch.device, there: Connection) -> None:
    """Take a plain step, on a batch that is drawn for it, whenever a message comes; answer with its seconds."""
    torch.set_num_threads(1)
    plain, faces = PlainStep(config, objective(config), device), rows(config.image_size)
    generator = torch.Generator().manual_seed(0)
    looks = {"paired": config.paired, "randomised": config.randomised}
    draw = partial(draw_batch, faces, config.batch_size, generator=generator, device=device, **looks)
    while there.recv():
        there.send(seconds(lambda: plain.advance(draw()), device))


def count_flops(action: Callable[[], object]) -> int:
    """Of all convolutions and matrix products, whatever module they are in: telling modules apart is what the counter
    cannot do within a double backward."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = nullcontext()
    counter.mod_tracker.parents = {"Global"}
    with counter:
        action()
    return counter.get_total_flops()


def resident() -> float:
    """Memory of this process now, in MB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1000


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """Wall time on a GPU. On the CPU the own time of one thread, which other processes do not lengthen."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    begun = clock()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - begun


def objective(config: TrainConfig) -> Objective:
    """Eq. 7 with its networks as they start."""
    torch.manual_seed(0)
    width = config.classifiers.width
    return _objective(config, Judges(AttributeClassifier(width, 102), AttributeClassifier(width, PEOPLE), None))


def rows(side: int) -> TrainingRows:
    """Noise in the place of faces."""
    count = PEOPLE * ROWS_EACH
    generator = torch.Generator().manual_seed(0)
    return TrainingRows(
        Faces(
            torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator),
            5 * torch.rand(count, 17, generator=generator),
            np.repeat([f"p{k}" for k in range(PEOPLE)], ROWS_EACH).astype(object),
            np.zeros(count, dtype=np.int64),
            np.array(["neutral"] * count, dtype=object),
            Path("noise"),
        )
    )


def plain_norm(norm: GroupNorm, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    """PyTorch's GroupNorm, and FiLM as two operations after it."""
    x = nn.GroupNorm.forward(norm, x)
    return x if scale is None or shift is None else x * (1 + scale[:, :, None, None]) + shift[:, :, None, None]


def plain_up_conv(conv: UpConv, x: Tensor, skip: Tensor) -> Tensor:
    """As a U-Net has it: doubled, joined, convolved."""
    return nn.Conv2d.forward(conv, torch.cat([interpolate(x, scale_factor=2.0), skip], dim=1))


class PlainStep:
    """Eq. 7 as one writes it down first: float32, contiguous, each loss from its own pass of E and G."""

    def __init__(self, config: TrainConfig, objective: Objective, device: torch.device) -> None:
        self.w, self.o = config.losses, objective.to(device, memory_format=torch.contiguous_format)
        for module in self.o.modules():
            if isinstance(module, GroupNorm):
                module.forward = partial(plain_norm, module)  # type: ignore[method-assign]
            if isinstance(module, UpConv):
                module.forward = partial(plain_up_conv, module)  # type: ignore[method-assign]
        self.critics = [network for network in (objective.D_z, objective.D_img) if network is not None]
        self.adam = self._adam(objective.model)
        self.adam_critics = self._adam(*self.critics) if self.critics else None
        self.rate = config.ema
        self.ema = [p.detach().clone() for p in objective.model.parameters()]

    def advance(self, batch: Batch) -> None:
        w, o = self.w, self.o
        I_i, I_t = (x if x is None else x.contiguous() for x in (batch.I_i, batch.I_t))
        D_img = partial(o.score, batch=replace(batch, I_i=I_i))
        if self.adam_critics is not None:
            total = torch.zeros((), device=I_i.device)
            l, edit = (x.detach() if x is not None else None for x in self.edit(I_i, batch.u_i, batch.u_t))
            if o.D_z is not None:
                total = total - losses.latent_adversarial(o.D_z(torch.randn_like(l)), o.D_z(l))
            if o.D_img is not None:
                real = I_i if I_t is None else I_t
                total = total + losses.critic_loss(D_img(real), D_img(edit))
                place = torch.rand(len(I_i), 1, 1, 1, device=I_i.device)
                penalty = losses.gradient_penalty(D_img, real, edit, w.penalty_at, place)
                total = total + w.gradient_penalty * penalty
            self.descend(self.adam_critics, total)
        total = torch.zeros((), device=I_i.device)
        l, edit = self.edit(I_i, batch.u_i, batch.u_t)
        if o.D_z is not None:
            total = total + w.latent * losses.latent_deception(o.D_z(l))
        if o.D_img is not None:
            total = total - w.adversarial * D_img(edit).mean()
        if w.au:
            total = total + w.au * losses.au_loss(o.C_exp(edit), batch.u_t)
        if w.identity:
            total = total + w.identity * losses.identity_loss(o.C_id(edit), batch.c_i)
        if w.perceptual or w.reconstruction:
            again = self.edit(I_i, batch.u_i, batch.u_i)[1]
        if w.perceptual:
            phi = o.C_id.relu3_1
            total = total + w.perceptual * losses.perceptual_loss(phi(I_i), phi(edit), phi(again))
        if w.reconstruction:
            total = total + w.reconstruction * losses.reconstruction_loss(again, I_i, w.ms_ssim)
        if w.paired:
            total = total + w.paired * losses.paired_loss(edit, I_t, I_i if w.relative else None)
        if w.mask and self.fields is not None:
            total = total + w.mask * losses.mask_loss(self.fields.mask)
        if w.paint and self.fields is not None:
            total = total + w.paint * losses.paint_loss(self.fields.mask, self.fields.colour, I_t)
        self.descend(self.adam, total)
        with torch.no_grad():
            for mean, p in zip(self.ema, o.model.parameters(), strict=True):
                mean.lerp_(p, 1 - self.rate)

    def edit(self, I: Tensor, u_i: Tensor, u_t: Tensor) -> tuple[Tensor | None, Tensor]:
        """The code, where the form has one, and the edit, without the layout that `EGGAN` asks for."""
        model: EGGAN = self.o.model
        self.fields = None
        if model.composes:
            self.fields = model.G(model.E(I), u_i, u_t)
            return None, compose(I, self.fields)
        l, G = model.E(I), model.G
        return l, G.to_image(G.blocks(G.seed(torch.cat([l, u_t], dim=1)).unflatten(1, (-1, 2, 2))))

    def descend(self, adam: torch.optim.Adam, total: Tensor) -> None:
        self.o.zero_grad()
        total.backward()
        adam.step()

    @staticmethod
    def _adam(*networks: torch.nn.Module) -> torch.optim.Adam:
        return torch.optim.Adam([p for network in networks for p in network.parameters()], 1e-4, foreach=False)


if __name__ == "__main__":
    typer.run(main)
