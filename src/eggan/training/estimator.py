"""Train the built-in AU estimator on a faces file: `python -m eggan.training.estimator --out runs/estimator`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate, mse_loss
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from eggan.action_units import COLUMNS
from eggan.data import augment, check_people_apart, read_faces
from eggan.data.faces_file import Faces
from eggan.estimator import ActionUnitEstimator, EstimatorConfig
from eggan.evaluation.metrics import au_mse, au_pcc
from eggan.networks import channels_last
from eggan.weights import write_weights

SEED = 20_001
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.02


def train(data: Path, val: Path, out: Path, minutes: float, batch_size: int, threads: int) -> None:
    """Fit for a number of minutes (cosine decay), printing the figures on `val`.

    The loss is the squared error in units of each AU's standard deviation, so that rare AUs count as much as common.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    config = EstimatorConfig()
    train_faces, val_faces = read_faces(data, config.image_size), read_faces(val, config.image_size)
    check_people_apart(train_faces, val_faces)
    spread = train_faces.action_units.std(dim=0)
    model = channels_last(ActionUnitEstimator(config))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.998), use_buffers=True)
    ema = average.module
    assert isinstance(ema, ActionUnitEstimator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    start, step, losses = time.monotonic(), 0, []
    warmup = 100
    while (done := (time.monotonic() - start) / (60 * minutes)) < 1:
        decay = 0.5 * (1 + np.cos(np.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / warmup) * decay
        rows = torch.randint(len(train_faces), (batch_size,), generator=generator)
        images = randomise(augment(train_faces.images[rows].unsqueeze(1), generator).squeeze(1), generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            read = model(images.contiguous(memory_format=torch.channels_last))
        loss = mse_loss(read.float() / spread, train_faces.action_units[rows] / spread)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        average.update_parameters(model)
        losses.append(loss.item())
        step += 1
        if step % 250 == 0:
            rate = step * batch_size / (time.monotonic() - start)
            print(
                f"step {step}  {100 * done:.0f} %  loss {np.mean(losses[-250:]):.4f}  {rate:.0f} images/s", flush=True
            )
        if step % 1000 == 0:
            report(ema, val_faces)
            write_weights(out, ema, config, "In training.\n", torch.float16)
    mse, pcc = report(ema, val_faces)
    write_weights(out, ema, config, card(data, step, batch_size, mse, pcc), torch.float16)


def randomise(x: Tensor, generator: torch.Generator) -> Tensor:
    """What alignment and cameras do: a small similarity transform, sometimes blur, a little noise."""
    b, _, s, _ = x.shape

    def uniform(width: float) -> Tensor:
        return width * (2 * torch.rand(b, generator=generator) - 1)

    angle, scale = uniform(0.09), 1 + uniform(0.07)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack([cos, -sin, uniform(0.06), sin, cos, uniform(0.06)], dim=1).view(b, 2, 3)
    grid = affine_grid(matrix, [b, 3, s, s], align_corners=False)
    x = grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    blurred = interpolate(avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    amount = torch.rand(b, 1, 1, 1, generator=generator) * (torch.rand(b, 1, 1, 1, generator=generator) < 0.4)
    x = torch.lerp(x, blurred, amount)
    noise = 0.04 * torch.rand(b, 1, 1, 1, generator=generator)
    return x + noise * torch.randn(x.shape, generator=generator)


def report(model: ActionUnitEstimator, faces: Faces) -> tuple[np.ndarray, np.ndarray]:
    """Per-AU MSE and PCC on true images; prints both."""
    model.eval()
    read = model.read(faces.images.float() / 127.5 - 1).numpy()
    true = faces.action_units.numpy()
    mse, pcc = au_mse(read, true), au_pcc(read, true)
    each = " ".join(f"{name[2:4]}:{p:.2f}" for name, p in zip(COLUMNS, pcc, strict=True))
    print(f"  {faces.path.name}: PCC {pcc.mean():.4f}  MSE {mse.mean():.4f}  {each}", flush=True)
    return mse, pcc


def card(data: Path, steps: int, batch_size: int, mse: np.ndarray, pcc: np.ndarray) -> str:
    """The model card's first form; the shipped one adds the figures on `test`."""
    rows = "\n".join(f"| {name} | {p:.3f} | {m:.3f} |" for name, p, m in zip(COLUMNS, pcc, mse, strict=True))
    return (
        "# Built-in Action Unit estimator\n\n"
        f"Trained on `{data.name}`, {steps} steps of batch {batch_size}, seed {SEED}.\n\n"
        f"Mean on the validation split: PCC {pcc.mean():.3f}, MSE {mse.mean():.3f}.\n\n"
        f"| AU | PCC | MSE |\n|---|---|---|\n{rows}\n"
    )


def main(
    out: Annotated[Path, typer.Option(help="Folder to write the weights to.")],
    data: Annotated[Path, typer.Option(help="Faces file to learn from.")] = Path("data/facsynth/train.parquet"),
    val: Annotated[Path, typer.Option(help="Faces file of other people, for the log.")] = Path(
        "data/facsynth/val.parquet"
    ),
    minutes: Annotated[float, typer.Option(help="How long to train.")] = 60.0,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 32,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Train the estimator of Action Units."""
    train(data, val, out, minutes, batch_size, threads)


if __name__ == "__main__":
    typer.run(main)
