"""Training from a folder of shards against faces in memory: `python benchmarks/shards.py --rows 10000 --rows 1000000`.

Makes folders of that many rows (facsynth's images over and over as JPEG, each copy of a person another identity) and
prints what opening one costs, the first time with decoding and then mapped, and how many images a second are drawn into
batches and trained on, beside the same for as many rows of one file in memory as the smallest folder has. All take
turns, round by round, and medians are compared. Rates are of wall-clock: let nothing else run. `cold` is the first
round after the system was told to forget the mapped file.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from accelerate import PartialState
from PIL import Image
from train_step import objective

from eggan.data import Faces, draw_batch, read_faces
from eggan.data.batches import TrainingRows
from eggan.training.config import load_config
from eggan.training.run import Run

SOURCE = Path(__file__).parent.parent / "data" / "facsynth" / "train.parquet"
Result = TypeVar("Result", int, Faces)
SHARD = 10_000
DRAWS, STEPS = 200, 4
"""Batches drawn and steps taken in a round."""


def main(
    rows: Annotated[list[int], typer.Option(help="Rows of a folder of shards; give several.")],
    folder: Annotated[Path | None, typer.Option(help="Where to make the folders; else a temporary one.")] = None,
    rounds: Annotated[int, typer.Option(help="How often each is timed.")] = 9,
) -> None:
    torch.set_num_threads(1)
    config = load_config("small")
    with tempfile.TemporaryDirectory(dir=folder) as name:
        table, smallest = encoded(config.image_size), min(rows)
        path = Path(name) / "one.parquet"
        pq.write_table(repeated(table, 0, smallest), path)
        faces = {f"memory, {smallest:,} rows": read_faces(path, config.image_size)}
        for count in sorted(rows):
            shards = Path(name) / str(count)
            make(shards, table, count)
            opened = [timed(lambda at=shards: read_faces(at, config.image_size)) for _ in range(2)]
            faces[f"shards, {count:,} rows"] = opened[1][1]
            print(
                f"{count:,} rows: opened in {opened[0][0]:.1f} s with decoding, then in {opened[1][0]:.1f} s",
                flush=True,
            )
        (cache,) = (Path(name) / str(max(rows))).glob(".eggan-*.u8")
        process = PartialState(cpu=True)
        actions: dict[tuple[str, str], Callable[[], int]] = {}
        for kind, held in faces.items():
            run = Run(config, objective(config), TrainingRows(held), process)
            actions[kind, "drawn"] = partial(draw, run.rows, config.batch_size, torch.Generator().manual_seed(1))
            actions[kind, "trained"] = partial(train, run)
        rates: dict[tuple[str, str], list[float]] = {key: [] for key in actions}
        for _ in range(rounds + 1):
            for key, action in actions.items():
                seconds, images = timed(action)
                rates[key].append(images / seconds)
        medians = {key: statistics.median(measured[1:]) for key, measured in rates.items()}  # the first warms up
        print("\n| faces | images drawn a second | of memory | images trained on a second | of memory |")
        print("|---|---|---|---|---|")
        first = next(iter(faces))
        for kind in faces:
            drawn, trained = (
                f"{medians[kind, what]:,.0f} | {medians[kind, what] / medians[first, what]:.3f}"
                for what in ("drawn", "trained")
            )
            print(f"| {kind} | {drawn} | {trained} |")
        with cache.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        cold = [(images / seconds) for seconds, images in (timed(actions[kind, "drawn"]) for _ in range(3))]
        print(f"| {kind}, cold: three rounds of {DRAWS} batches | {', '.join(f'{rate:,.0f}' for rate in cold)} | | | |")


def encoded(side: int) -> pa.Table:
    """facsynth's training rows, the images as JPEG of this side."""
    table = pq.read_table(SOURCE)
    images = []
    for data in table.column("image").to_pylist():
        file = io.BytesIO()
        Image.open(io.BytesIO(data)).convert("RGB").resize((side, side)).save(file, "JPEG", quality=90)
        images.append(file.getvalue())
    return table.set_column(table.schema.get_field_index("image"), "image", pa.array(images))


def repeated(table: pa.Table, first: int, count: int) -> pa.Table:
    """Rows first, first + 1, … of the table's endless repetition, people of each copy with a name of their own."""
    at = [(first + k) % len(table) for k in range(count)]
    who = [f"{name}-{(first + k) // len(table)}" for k, name in enumerate(table["identity"].take(at).to_pylist())]
    return table.take(at).set_column(table.schema.get_field_index("identity"), "identity", pa.array(who))


def make(folder: Path, table: pa.Table, count: int) -> None:
    """Shards of `SHARD` rows."""
    folder.mkdir()
    for first in range(0, count, SHARD):
        part = repeated(table, first, min(SHARD, count - first))
        pq.write_table(part, folder / f"part-{first // SHARD:05}.parquet", row_group_size=1000)


def draw(rows: TrainingRows, batch_size: int, generator: torch.Generator) -> int:
    """Batches of pairs."""
    for _ in range(DRAWS):
        draw_batch(rows, batch_size, paired=True, generator=generator)
    return DRAWS * batch_size


def train(run: Run) -> int:
    """Steps of preset `small`."""
    for _ in range(STEPS):
        run.advance()
    run.collect()
    return STEPS * run.config.batch_size


def timed(action: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds, and what the action gave."""
    begun = time.perf_counter()
    result = action()
    return time.perf_counter() - begun, result


if __name__ == "__main__":
    typer.run(main)
