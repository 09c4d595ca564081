"""Annotate and edit many images in one process and on a Ray cluster of two nodes on this machine, and compare.

    python benchmarks/bulk.py --images 100000 --alone 10000 --kill

Makes that many distinct images of facsynth's faces (crops and colours) in a temporary folder, as Parquet shards; lets
one process with all cores and then a cluster of two nodes with half of them each do the same jobs; prints images a
second from the first shard written to the last, over the first 1,000 and 10,000 and by tenths, the memory of all
processes, and whether the shards are equal. With --alone the one process does only so many, which are compared. With
--kill the driver is killed at a quarter and started again, and half-way the cluster loses a node, which another one
replaces.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from PIL import Image

from eggan.action_units import COLUMNS
from eggan.bulk import CHUNK
from eggan.flow import LOOPBACK, QUIET

FACES = Path(__file__).parent.parent / "data" / "facsynth" / "train.parquet"
PROGRAM = """
import sys
from eggan import bulk
job, out, cluster, *shards = sys.argv[1:]
cluster = cluster or None
if job == "annotate":
    print(bulk.annotate(shards, out, cluster=cluster))
else:
    print(bulk.edit(shards, out, bulk.Change("small", {12: 4.0, 6: 2.0}), cluster=cluster))
"""
SHARD = 1000


def main(
    images: Annotated[int, typer.Option(min=CHUNK)] = 2000,
    alone: Annotated[int, typer.Option(help="Of them those that one process does; 0 for all.")] = 0,
    kill: Annotated[bool, typer.Option("--kill", help="Kill a node and the driver on the way.")] = False,
    jobs: Annotated[str, typer.Option(help="annotate, edit or annotate,edit")] = "annotate,edit",
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "faces", images)
        shards = sorted((folder / "faces").glob("*.parquet"))
        first = shards[: -(-alone // SHARD)] if alone else shards
        for job in jobs.split(","):
            one = run(job, first, folder / f"{job}-alone", "")
            cluster = Nodes()
            two = run(job, shards, folder / f"{job}-ray", cluster.address, cluster if kill else None)
            cluster.nodes.shutdown()
            print(f"{job}: Ray takes {one['rate'] / two['rate'] - 1:+.1%} of the time more from shard to shard")
            print(f"{job}: {compare(folder / f'{job}-alone', folder / f'{job}-ray', images)}")


def make(folder: Path, count: int) -> None:
    """Shards of distinct images: a face, cropped and tinted at random, as JPEG."""
    folder.mkdir()
    random = np.random.default_rng(0)
    faces = pq.read_table(FACES, columns=["image"]).column("image")
    for first in range(0, count, SHARD):
        data = []
        for k in range(first, min(first + SHARD, count)):
            picture = Image.open(io.BytesIO(faces[k % len(faces)].as_py())).convert("RGB")
            left, top = random.uniform(0, 6, 2)
            side = 128 - random.uniform(0, 6) - max(left, top)
            picture = picture.resize((128, 128), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
            tinted = np.asarray(picture, np.float32) * random.uniform(0.85, 1.1, 3)
            file = io.BytesIO()
            Image.fromarray(tinted.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=95)
            data.append(file.getvalue())
        pq.write_table(pa.table({"image": pa.array(data, pa.binary())}), folder / f"{first:09}.parquet", 250)


class Nodes:
    """Two nodes on this machine, each with half of its cores, listening on loopback."""

    def __init__(self) -> None:
        os.environ.update(QUIET | LOOPBACK)
        from ray.cluster_utils import Cluster

        cores = max(1, (os.cpu_count() or 2) // 2)
        self.here: dict[str, Any] = {"num_cpus": cores, "node_ip_address": "127.0.0.1"}
        self.nodes = Cluster(initialize_head=True, head_node_args=self.here | {"include_dashboard": False})
        self.second = self.nodes.add_node(**self.here)
        self.address = f"127.0.0.1:{self.nodes.address.rpartition(':')[2]}"

    def replace_second(self) -> None:
        """Kill all processes of the second node at once, and start another."""
        self.nodes.remove_node(self.second, allow_graceful=False)
        self.second = self.nodes.add_node(**self.here)


def run(job: str, shards: list[Path], out: Path, cluster: str, lose: Nodes | None = None) -> dict[str, float]:
    """One job from beginning to end; its rates and the most memory in the first and in the second half."""
    parts = -(-sum(pq.read_metadata(path).num_rows for path in shards) // CHUNK)
    start, used = time.monotonic(), []

    def follow(process: subprocess.Popen[str], until: Callable[[int], bool]) -> None:
        beat = 0
        while process.poll() is None and not until(len(done(out))):
            if beat % 10 == 0:  # to add up memory takes half a second
                used.append(memory())
            beat += 1
            time.sleep(1)

    if lose is not None:
        first = launch(job, shards, out, cluster)
        follow(first, lambda n: n >= parts // 4)
        first.kill()
        first.wait()
    second = launch(job, shards, out, cluster)
    if lose is not None:
        follow(second, lambda n: n >= parts // 2)
        lose.replace_second()
    follow(second, lambda _: False)
    said = second.communicate()[0].strip().splitlines()[-1]
    assert second.returncode == 0, said
    whole = time.monotonic() - start
    times = sorted(path.stat().st_mtime for path in done(out))
    marks = [count for count in (1000, 10_000) if count < (len(times) - 1) * CHUNK]
    rates = {f"rate, first {count:,}": rate(times[: count // CHUNK + 1]) for count in marks}
    tenth = len(times) // 10
    by_tenths = [rate(times[k * tenth : (k + 1) * tenth + 1]) for k in range(10)] if tenth else []
    half = max(1, len(used) // 2)
    figures = {
        "rate": rate(times),
        **rates,
        "seconds": whole,
        "MB first half": max(used[:half]),
        "MB second half": max(used[-half:]),
    }
    print(f"{job}, {'cluster' if cluster else 'one process'}: {said}")
    print(json.dumps({name: round(value, 1) for name, value in figures.items()}))
    print("rate by tenths of the pictures: " + ", ".join(f"{value:.1f}" for value in by_tenths), flush=True)
    return figures


def rate(times: list[float]) -> float:
    """Images a second from the first shard written to the last."""
    return (len(times) - 1) * CHUNK / (times[-1] - times[0])


def launch(job: str, shards: list[Path], out: Path, cluster: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, job, str(out), cluster, *map(str, shards)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def done(out: Path) -> list[Path]:
    return list((out / "shards").glob("part-*.parquet"))


def memory() -> float:
    """Of this process and all below it, in MB; what they share counts once."""
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            total += process.memory_full_info().pss / 1e6
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def compare(alone: Path, shared: Path, images: int) -> str:
    """Is every image in the shards or among the rejected, once, and are the numbers alike where one process was?"""
    ours, theirs = (pq.read_table(folder / "shards") for folder in (alone, shared))
    rejected = pq.read_table(shared / "rejected.parquet")
    keys = list(zip(theirs["file"].to_pylist(), theirs["number"].to_pylist(), strict=True))
    keys += list(zip(rejected["file"].to_pylist(), rejected["number"].to_pylist(), strict=True))
    once = len(keys) == len(set(keys)) == images
    theirs = theirs.slice(0, len(ours))
    if ours.equals(theirs):
        return f"every image once: {once}; equal bit for bit: True"
    pairs = zip(_intensities(ours), _intensities(theirs), strict=True)
    apart = max(float(np.abs(one - other).max()) for one, other in pairs)
    said = f"every image once: {once}; equal bit for bit: False, the largest difference of an AU {apart:.2g}"
    if "image" in ours.column_names:
        levels = [
            int(np.abs(_pixels(one) - _pixels(other)).max())
            for one, other in zip(ours["image"].to_pylist(), theirs["image"].to_pylist(), strict=True)
        ]
        said += f", of a pixel {max(levels)} of 255, in {np.count_nonzero(levels)} of {len(levels)} pictures"
    return said


def _intensities(table: pa.Table) -> list[np.ndarray]:
    """All AUs of a table: the columns of annotations, the lists a face of edits."""
    if "source" not in table.column_names:
        return [table[name].to_numpy() for name in COLUMNS]
    return [table[name].combine_chunks().flatten().flatten().to_numpy() for name in ("source", "target")]


def _pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)


if __name__ == "__main__":
    typer.run(main)
