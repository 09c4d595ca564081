"""Train the built-in AU estimator on a faces file: `python -m eggan.training.estimator --out runs/estimator`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from eggan.action_units import COLUMNS
from eggan.data import augment, check_people_apart, read_faces, relight
from eggan.data.batches import CPU
from eggan.data.faces_file import Faces
from eggan.estimator import ActionUnitEstimator, EstimatorConfig, as_steps
from eggan.evaluation.metrics import au_mse, au_pcc
from eggan.networks import channels_last
from eggan.pixels import to_floats
from eggan.training.clock import by_the_clock, moving_average
from eggan.training.disturbance import among_photographs, disturb
from eggan.training.photographs import aligned_crops
from eggan.training.precision import in_bfloat16
from eggan.weights import write_weights

SEED = 20_001
LEARNING_RATE = 2e-3
FINE_TUNING_RATE = 1.5e-3
WEIGHT_DECAY = 0.02
TEACHER_FROM = 0.25
"""Share of the time before which it learns from renders alone: what knows few AUs must not teach."""


def train(
    data: Path,
    val: Path,
    photos: Path | None,
    init: str | None,
    out: Path,
    minutes: float,
    batch_size: int,
    threads: int,
) -> None:
    """Fit for a number of minutes, printing the figures on `val`.

    The loss is the cross-entropy of the steps (`as_steps`). Photographs have no AUs: there the estimator, shown the
    picture disturbed, is to read what its own moving average reads off it undisturbed (mean teacher, Tarvainen and
    Valpola 2017).
    """
    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    config = EstimatorConfig()
    faces, val_faces = read_faces(data, config.image_size), read_faces(val, config.image_size)
    check_people_apart(faces, val_faces)
    crops = aligned_crops(photos, config.image_size, out.parent / "photographs") if photos is not None else None
    telling = distinctness(faces.action_units)
    model = ActionUnitEstimator.from_pretrained(init).train() if init else channels_last(ActionUnitEstimator(config))
    average = moving_average(model)
    teacher = average.module
    assert isinstance(teacher, ActionUnitEstimator)
    rate = FINE_TUNING_RATE if init else LEARNING_RATE
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    losses = []
    for step, done in enumerate(by_the_clock(optimizer, minutes), start=1):
        rows = draw_rows(telling, batch_size, generator)
        renders, target = faces.images[rows], as_steps(faces.action_units[rows])
        if crops is None:
            images = augment(renders.unsqueeze(1), generator).squeeze(1)
        else:
            images = among_photographs(renders, crops, generator)
            if done >= TEACHER_FROM:
                seen = torch.randint(len(crops), (batch_size // 2,), generator=generator)
                shown = augment(crops[seen].unsqueeze(1), generator).squeeze(1)
                images = torch.cat([images, relight(shown, generator)])
                target = torch.cat([target, teacher.eval().steps(shown)])
        images = disturb(images, generator)
        with in_bfloat16(CPU):
            logits = model(images.contiguous(memory_format=torch.channels_last))
        loss = binary_cross_entropy_with_logits(logits.float(), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        average.update_parameters(model)
        losses.append(loss.item())
        if step % 250 == 0:
            print(f"step {step}  {100 * done:.0f} %  loss {np.mean(losses[-250:]):.4f}", flush=True)
        if step % 1000 == 0:
            report(teacher, val_faces)
            write_weights(out, teacher, config, "In training.\n", torch.float16)
    mse, pcc = report(teacher, val_faces)
    write_weights(out, teacher, config, card(data, len(losses), batch_size, mse, pcc), torch.float16)


def distinctness(action_units: Tensor) -> Tensor:
    """Weights (N,) by which to draw images (N, 17) so that every AU is shown as often, and rather by itself.

    Drawn evenly, an estimator reads what goes together: AU 5 right in fear and surprise, and by itself, 4 of 5, as 0.2.
    An image counts for an AU by that AU's share of all that it shows.
    """
    share = action_units / (action_units.sum(dim=1, keepdim=True) + 1)
    return (share / share.sum(dim=0).clamp(min=1e-6)).sum(dim=1)


def draw_rows(telling: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """Rows (B,) of the images that have the weights (N,) of `distinctness`: half drawn by these, half evenly."""
    rows = torch.randint(len(telling), (batch_size,), generator=generator)
    rows[::2] = torch.multinomial(telling, len(rows[::2]), replacement=True, generator=generator)
    return rows


def report(model: ActionUnitEstimator, faces: Faces) -> tuple[np.ndarray, np.ndarray]:
    """Per-AU MSE and PCC on true images; prints both."""
    model.eval()
    read = model.read(to_floats(faces.images)).numpy()
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
    photos: Annotated[Path | None, typer.Option(help="Folder of photographs, to read those steadily too.")] = None,
    init: Annotated[str | None, typer.Option(help="Weights to go on from, as `estimator`.")] = None,
    minutes: Annotated[float, typer.Option(help="How long to train.")] = 60.0,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 32,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Train the estimator of Action Units."""
    train(data, val, photos, init, out, minutes, batch_size, threads)


if __name__ == "__main__":
    typer.run(main)
