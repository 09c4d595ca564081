"""Kill a training run at random moments and check that nothing is lost: `python benchmarks/kill_training.py`.

A tiny run of the paper's form, with every term, is trained once without interruption. The same command then runs
in another folder and is killed (SIGKILL) again and again: every second time after a random while, every other time
while a checkpoint or the model is being written. After each kill the newest checkpoint must be whole and no older
than the one before; in the end weights, optimisers, log, sample grids and the list of files must be those of the run
that was left alone, bit for bit.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import torch
import typer
from safetensors.torch import load_file

CHECKPOINT_EVERY = 4
SETTINGS = (
    "image_size=32", "batch_size=4", "precision=float32", "network.latent_size=8", "network.encoder_widths=[4,8]",
    "network.generator_widths=[8,8,8,8,8]", "critic_widths=[8,8]", "classifiers.width=4", "classifiers.steps=20",
    "classifiers.batch_size=4", f"checkpoint_every={CHECKPOINT_EVERY}", "log_every=3", "sample_every=25",
)  # fmt: skip


def main(kills: int = 50, steps: int = 1000, seed: int = 0, faces: Path = Path("data/facsynth/train.parquet")) -> None:
    chance = random.Random(seed)
    done = writing = repeated = lost = runs = 0
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        data = [f"{name}={two_people(faces, base / f'{name}.parquet', at)}" for name, at in (("data", 0), ("val", 2))]
        settings = [f"--set={setting}" for setting in (*SETTINGS, f"steps={steps}", *data)]
        command = [sys.executable, "-m", "eggan.cli", "train", "--preset", "small-paper", *settings, "--out"]
        alone, out = base / "alone" / "run", base / "killed" / "run"
        train(command, alone).wait()
        while True:  # one run after another, until there were enough kills and the last run is complete
            process, reached = train(command, out), newest_step(out / "checkpoint")
            if done < kills:
                if done % 2:
                    wait_for_writing(process, out, chance.randint(1, 8))
                else:
                    wait(process, chance.uniform(0, 8))
            else:
                process.wait()
            if process.poll() is None:
                process.kill()
                process.wait()
                done += 1
                now, logged, torn = newest_step(out / "checkpoint"), last_logged(out / "log.jsonl"), half_written(out)
                lost += now < reached
                writing += bool(torn)
                repeated = max(repeated, logged - now)
                print(f"kill {done:2}: checkpoint {now:4}, log {logged:4}, half-written: {' '.join(torn)}", flush=True)
                continue
            runs += 1
            wrong += differences(alone, out)
            print(f"run {runs} complete, status {process.returncode}", flush=True)
            if done == kills:
                break
            shutil.rmtree(out.parent)
    print(f"{done} kills in {runs} runs of {steps} steps, {writing} of them while a file was being written")
    print(f"steps repeated after a kill, at most: {repeated} (a checkpoint every {CHECKPOINT_EVERY})")
    print(f"checkpoints lost: {lost}")
    print(f"differences from the run left alone: {', '.join(wrong) or 'none'}")
    if lost or wrong or repeated > CHECKPOINT_EVERY:
        raise SystemExit(1)


def train(command: list[str], out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*command, str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def two_people(source: Path, path: Path, first: int) -> Path:
    """The rows of two people."""
    people = sorted(set(pq.read_table(source, columns=["identity"])["identity"].to_pylist()))[first : first + 2]
    pq.write_table(pq.read_table(source, filters=[("identity", "in", people)]), path)
    return path


def half_written(out: Path) -> list[str]:
    return sorted(path.name for path in [*out.glob(".*"), *out.glob("*/.*")])


def wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def wait_for_writing(process: subprocess.Popen[bytes], out: Path, number: int) -> None:
    """Until this many checkpoints or models began to be written, or the process ends."""
    seen: set[Path] = set(being_saved(out))
    while process.poll() is None and number:
        new = set(being_saved(out)) - seen
        seen |= new
        number -= bool(new)
        time.sleep(0.0005)


def being_saved(out: Path) -> list[Path]:
    return [*out.glob(".model-*"), *out.glob("checkpoint/.state-*")]


def newest_step(folder: Path) -> int:
    """Step of the newest checkpoint, which must be whole; 0 where there is none yet."""
    for name in ("state.pt", "previous.pt"):
        if (folder / name).exists():
            return torch.load(folder / name, weights_only=True)["step"]
    return 0


def last_logged(log: Path) -> int:
    lines = log.read_text().splitlines() if log.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def differences(one: Path, other: Path) -> list[str]:
    """What is not equal in two run folders."""
    wrong = [f"only in one: {name}" for name in sorted(names(one) ^ names(other))]
    wrong += [name for name in sorted(names(one) & names(other)) if not same(one / name, other / name)]
    return wrong


def names(out: Path) -> set[str]:
    """Files of a run; each life of a process writes a file of its own for TensorBoard."""
    paths = [path.relative_to(out) for path in out.rglob("*") if path.is_file()]
    return {str(path) for path in paths if path.parts[0] != "tensorboard"}


def same(one: Path, other: Path) -> bool:
    match one.suffix:
        case ".pt":
            return equal(torch.load(one, weights_only=True), torch.load(other, weights_only=True))
        case ".safetensors":
            return equal(load_file(one), load_file(other))
        case ".jsonl":
            return losses(one) == losses(other)
        case _:
            return one.read_bytes() == other.read_bytes()


def equal(one: object, other: object) -> bool:
    """Bit for bit, through dictionaries and lists of tensors."""
    match one, other:
        case torch.Tensor(), torch.Tensor():
            return torch.equal(one, other)
        case dict(), dict():
            return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
        case list(), list():
            return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def losses(log: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


if __name__ == "__main__":
    typer.run(main)
