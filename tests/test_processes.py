"""A step shared by processes, or cut into pieces, is the step of the global batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from conftest import PATIENCE
from first_gradients import first_gradients
from torch import Tensor

from eggan.errors import EgganError
from eggan.model import EGGAN
from eggan.training.config import TrainConfig, load_config
from eggan.training.loop import train

# The same command on a machine with GPUs gives each process one of them; here it gives two on the CPU, with gloo.
TWO = ["--multi_gpu", "--num_processes", "2"]
PAPER = (
    "image_size=32", "batch_size=4", "precision=float32", "losses.paired=10", "network.latent_size=8",
    "network.encoder_widths=[4,8]", "network.generator_widths=[8,8,8,8,8]", "critic_widths=[8,8]",
    "classifiers.width=4", "classifiers.steps=2", "classifiers.batch_size=4",
)  # fmt: skip
SMALL = ("image_size=32", "batch_size=4", "precision=float32", "network.widths=[8,16]", "critic_widths=[8]")


@pytest.fixture
def files(make_faces_file: Callable[..., Path]) -> list[str]:
    return [f"data={make_faces_file('train.parquet')}", f"val={make_faces_file('val.parquet', people=('dan', 'eve'))}"]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As each launched process has: more threads sum in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # where mpirun is
    as_root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # as in containers
    return subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *arguments],
        env={**os.environ, **as_root, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def assert_same_gradients(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """Equal but for the order in which float32 sums are taken."""
    assert len(ours) == len(theirs) > 0
    noise = 1e-6 * max(other.abs().max().item() for other in theirs)  # all that a bias before a norm has
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=noise)


@pytest.mark.usefixtures("one_thread")
def test_two_processes_have_the_first_gradients_of_one(files: list[str], tmp_path: Path) -> None:
    config = load_config("small-paper", [*PAPER, *files])
    alone = first_gradients(config, tmp_path / "one" / "run")
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    script = str(Path(__file__).parent / "first_gradients.py")
    given = [str(tmp_path / name) for name in ("config.yaml", "two/run", "two.pt")]
    done = launch(*TWO, "--main_process_port", "0", script, *given)
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stderr
    assert_same_gradients(torch.load(tmp_path / "two.pt"), alone)


def test_a_batch_in_pieces_has_the_first_gradients_of_the_whole(files: list[str], tmp_path: Path) -> None:
    whole, pieces = (
        first_gradients(load_config("small-paper", [*PAPER, *files, f"accumulate={n}"]), tmp_path / str(n) / "run")
        for n in (1, 4)
    )
    assert_same_gradients(pieces, whole)


def test_another_seed_has_other_gradients(files: list[str], tmp_path: Path) -> None:
    one, other = (
        first_gradients(load_config("small-paper", [*PAPER, *files, f"seed={n}"]), tmp_path / str(n) / "run")
        for n in (0, 1)
    )
    with pytest.raises(AssertionError):
        assert_same_gradients(one, other)


def test_preset_small_trains_on_two_processes(files: list[str], tmp_path: Path) -> None:
    changes = [*SMALL, "steps=50", "log_every=10"]
    out = tmp_path / "run"
    settings = [f"--set={change}" for change in [*changes, *files]]
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost slots=2\n")
    by_mpi = ["--cpu", "--num_processes", "2", "--mpirun_hostfile", str(hosts), "--main_process_port", str(free_port())]
    done = launch(*by_mpi, "-m", "eggan.cli", "train", "--preset", "small", "--out", str(out), *settings)
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stderr
    assert EGGAN.from_pretrained(out).config.image_size == 32
    train(load_config("small", [*changes, *files]), tmp_path / "alone")
    two, one = (
        [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (out, tmp_path / "alone")
    )
    assert [line["step"] for line in two] == [line["step"] for line in one] == [10, 20, 30, 40, 50]
    assert [line["paired"] for line in two] == pytest.approx([line["paired"] for line in one], rel=1e-3)


def machine(rank: int, port: int, *arguments: str) -> subprocess.Popen[str]:
    """One of two machines that train together, on loopback."""
    places = ["--num_machines", "2", "--machine_rank", str(rank), "--main_process_ip", "127.0.0.1"]
    command = ["accelerate.commands.launch", *TWO, *places, "--main_process_port"]
    return subprocess.Popen(
        [sys.executable, "-m", *command, str(port), "-m", "eggan.cli", "train", "--preset", "small", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_two_machines_train_write_once_and_go_on_after_one_was_killed(files: list[str], tmp_path: Path) -> None:
    changes = [*SMALL, "steps=240", "log_every=40", "checkpoint_every=20", *files]
    settings = [f"--set={change}" for change in changes]
    mains, others = tmp_path / "main" / "run", tmp_path / "other" / "run"  # nodes without a common disk
    port = free_port()
    pair = [machine(rank, port, "--out", str(out), *settings) for rank, out in enumerate((mains, others))]
    deadline = time.monotonic() + PATIENCE
    while not (mains / "checkpoint" / "state.pt").is_file():
        assert all(process.poll() is None for process in pair), [process.communicate()[1] for process in pair]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    other = psutil.Process(pair[1].pid)
    for process in (other, *other.children(recursive=True)):  # torchrun gives its workers sessions of their own
        process.kill()
    for half in pair:
        half.communicate(timeout=PATIENCE)  # the one that is left does not wait for ever
    assert pair[0].returncode != 0
    step = torch.load(mains / "checkpoint" / "state.pt", weights_only=True)["step"]
    assert 20 <= step < 240
    assert not (others / "checkpoint").exists() and not (others / "log.jsonl").exists()
    port = free_port()
    pair = [machine(rank, port, "--out", str(mains), *settings) for rank in (0, 1)]  # a common disk: all take it up
    said = [process.communicate(timeout=PATIENCE)[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], said
    train(load_config("small", changes), tmp_path / "alone")
    two, one = (
        [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (mains, tmp_path / "alone")
    )
    assert [line["step"] for line in two] == [line["step"] for line in one] == [40, 80, 120, 160, 200, 240]
    assert [line["paired"] for line in two] == pytest.approx([line["paired"] for line in one], rel=5e-3)


def test_a_batch_that_does_not_divide_is_refused(files: list[str], tmp_path: Path) -> None:
    config: TrainConfig = load_config("small-paper", [*PAPER, *files, "accumulate=3"])
    with pytest.raises(EgganError, match=r"batch_size 4 .* accumulate 3: choose a multiple of 3\.$"):
        train(config, tmp_path / "run")
