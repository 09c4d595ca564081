"""The training loop: it learns, stops, resumes, refuses, and leaves whole files."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PATIENCE
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from eggan.data import read_faces
from eggan.errors import EgganError
from eggan.evaluation.metrics import au_pcc
from eggan.model import EGGAN, ComposeForm, ModelConfig
from eggan.networks import AttributeClassifier, ImageDiscriminator
from eggan.training import classifiers
from eggan.training.card import model_card
from eggan.training.classifiers import classifier, read_levels
from eggan.training.config import TrainConfig, load_config
from eggan.training.disturbance import disturb
from eggan.training.loop import Stopped, describe, train
from eggan.training.run import Run
from eggan.training.samples import Samples

TOY = ["image_size=32", "batch_size=4", "steps=6", "checkpoint_every=3", "log_every=1", "precision=float32"]
TOY_COMPOSE = [*TOY, "network.widths=[8,16]", "critic_widths=[8,16]"]
TOY_PAPER = [
    *TOY,
    "network.latent_size=8",
    "network.encoder_widths=[4,8]",
    "network.generator_widths=[8,8,8,8,8]",
    "critic_widths=[8,8]",
    "classifiers.width=4",
    "classifiers.steps=2",
    "classifiers.batch_size=4",
]


@pytest.fixture
def toy(make_faces_file: Callable[..., Path]) -> Callable[..., TrainConfig]:
    files = [f"data={make_faces_file('train.parquet')}", f"val={make_faces_file('val.parquet', people=('dan', 'eve'))}"]

    def config(preset: str = "small", *changes: str) -> TrainConfig:
        return load_config(preset, [*(TOY_COMPOSE if preset == "small" else TOY_PAPER), *files, *changes])

    return config


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def losses(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


@pytest.mark.parametrize("preset", ["small", "small-paper"])
def test_a_run_stopped_half_way_ends_with_the_weights_of_one_that_was_not(
    preset: str, toy: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy(preset, "log_every=4")  # a line of the log is the mean of steps before and after the checkpoint
    train(config, tmp_path / "whole")

    advance, calls = Run.advance, []

    def cut_at_five(run: Run) -> None:
        calls.append(run.step)
        if len(calls) == 5:
            raise KeyboardInterrupt  # as hard as a kill: nothing is saved on the way out
        advance(run)

    monkeypatch.setattr(Run, "advance", cut_at_five)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "cut")
    monkeypatch.undo()
    train(config, tmp_path / "cut")

    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert [line["step"] for line in losses(tmp_path / "cut")] == [4, 6]
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_the_command_killed_and_repeated_goes_on_from_its_checkpoint(
    toy: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = toy("small", "steps=100000", "checkpoint_every=5", "sample_every=100000")
    changes = [f"--set={line}" for line in [*TOY_COMPOSE[:2], *TOY_COMPOSE[3:]]]
    command = [sys.executable, "-m", "eggan.cli", "train", "--out", str(tmp_path / "run"), *changes]
    command += ["--set", "checkpoint_every=5", "--set", "sample_every=100000", "--set", "steps=100000"]
    command += ["--data", str(config.data), "--val", str(config.val)]
    log, environment = tmp_path / "run" / "log.jsonl", {**os.environ, "OMP_NUM_THREADS": "1"}

    def run_until(step: int, number: signal.Signals) -> tuple[int, str]:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            lines = log.read_text().splitlines() if log.exists() else []
            if lines and lines[-1].endswith("}") and json.loads(lines[-1])["step"] >= step:
                break
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
        return process.returncode, said

    code, _ = run_until(8, signal.SIGKILL)
    assert code == -signal.SIGKILL
    reached = torch.load(tmp_path / "run" / "checkpoint" / "state.pt", weights_only=True)["step"]
    assert reached >= 5
    code, said = run_until(reached + 8, signal.SIGINT)
    assert code == 130
    assert "the same command goes on" in said
    assert "Traceback" not in said
    steps = [line["step"] for line in losses(tmp_path / "run")]
    assert steps == list(range(1, steps[-1] + 1))


@pytest.mark.parametrize("preset", ["small", "small-paper"])
def test_compiled_networks_learn_the_same_and_save_the_same_tensors(
    preset: str, toy: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced forward and back, as for a GPU; the kernels are PyTorch's own, so that no compiler is needed."""
    trace, networks = partial(torch.compile, backend="aot_eager"), []
    monkeypatch.setattr(torch, "compile", lambda call: networks.append(call.__self__) or trace(call))
    for compiled in ("false", "true"):
        train(toy(preset, "steps=4", "precision=float32", f"compile={compiled}"), tmp_path / compiled)
    assert len(networks) == 2, "E and G"
    eager, traced = losses(tmp_path / "false"), losses(tmp_path / "true")
    assert [line.keys() for line in eager] == [line.keys() for line in traced]
    for one, other in zip(eager, traced, strict=True):
        assert list(one.values()) == pytest.approx(list(other.values()), rel=1e-3)
    torch.testing.assert_close(weights(tmp_path / "false"), weights(tmp_path / "true"), rtol=1e-2, atol=1e-3)


def test_a_paired_run_lowers_its_loss(toy: Callable[..., TrainConfig], tmp_path: Path) -> None:
    longer = ["steps=120", "batch_size=16", "learning_rate=0.005", "sample_every=120", "network.widths=[16,32,32]"]
    train(toy("small", *longer), tmp_path / "run")
    paired = [line["paired"] for line in losses(tmp_path / "run")]
    assert sum(paired[-20:]) < 0.7 * sum(paired[5:25])


def test_a_card_tells_of_photographs_and_of_no_network_that_was_not_used(tmp_path: Path) -> None:
    config = load_config("portrait", [f"photos={tmp_path / 'people'}", "unpaired=5", "losses.au=0.5"])
    card = model_card(config, 10, None, {"E": 1})
    assert "`people`, for backgrounds and tones, and one of 5 sources is one; of its edit, and of a render's" in card
    assert "au 0.5, " in card
    assert "paired 100.0, mask 10.0, paint 100.0; faint changes count as much as broad ones; the critic sees" in card
    assert "φ₃" not in card


def test_a_run_leaves_config_samples_card_and_a_loadable_model(toy: Callable[..., TrainConfig], tmp_path: Path) -> None:
    folder = train(toy("small-paper"), tmp_path / "run")
    assert folder == tmp_path / "run" / "model"
    assert EGGAN.from_pretrained(tmp_path / "run").config.image_size == 32
    assert [path.name for path in (tmp_path / "run" / "samples").iterdir()] == ["0000006.png"]
    card = (folder / "README.md").read_text()
    assert "relu3_1 of C_id, no VGG19 weights were given" in card
    assert "6 of 6 steps of batch 4" in card
    assert not list(tmp_path.rglob(".*")), "nothing half-written stays"


def test_a_run_folder_refuses_another_configuration(toy: Callable[..., TrainConfig], tmp_path: Path) -> None:
    train(toy(), tmp_path / "run")
    with pytest.raises(EgganError, match=r"run with another seed \(0, not 1\): give another --out"):
        train(toy("small", "seed=1"), tmp_path / "run")


def test_a_torn_checkpoint_falls_back_on_the_one_before_and_ends_the_same(
    toy: Callable[..., TrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(toy(), tmp_path / "run")
    whole = weights(tmp_path / "run")
    path = tmp_path / "run" / "checkpoint" / "state.pt"
    path.write_bytes(path.read_bytes()[:-1000])
    train(toy(), tmp_path / "run")
    assert "state.pt cannot be read (RuntimeError); going on from previous.pt, step 3." in capsys.readouterr().err
    assert [line["step"] for line in losses(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(tmp_path / "run").items())


def test_torn_checkpoints_are_named_and_kept(toy: Callable[..., TrainConfig], tmp_path: Path) -> None:
    train(toy(), tmp_path / "run")
    torn = [tmp_path / "run" / "checkpoint" / name for name in ("state.pt", "previous.pt")]
    for path in torn:
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        EgganError, match=r"state\.pt cannot be read .*previous\.pt cannot be read .*start this run anew"
    ):
        train(toy(), tmp_path / "run")
    assert [path.stat().st_size for path in torn] == [1000, 1000]


def test_a_checkpoint_of_other_networks_is_refused(toy: Callable[..., TrainConfig], tmp_path: Path) -> None:
    train(toy(), tmp_path / "run")
    (tmp_path / "run" / "config.yaml").unlink()
    with pytest.raises(EgganError, match=r"checkpoint does not fit this run \("):
        train(toy("small", "network.widths=[8,24]"), tmp_path / "run")


def test_a_full_disk_is_said_and_the_run_goes_on_once_there_is_room(
    toy: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(toy(), tmp_path / "whole")
    advance, (soft, hard) = Run.advance, resource.getrlimit(resource.RLIMIT_FSIZE)

    def no_room_after_four(run: Run) -> None:
        advance(run)
        if run.step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))

    monkeypatch.setattr(Run, "advance", no_room_after_four)
    try:
        with pytest.raises(EgganError, match=r"run cannot be written to at step 6 .* goes on from step 3\.$"):
            train(toy("small", "sample_every=100"), tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    monkeypatch.undo()
    assert torch.load(tmp_path / "run" / "checkpoint" / "state.pt", weights_only=True)["step"] == 3
    train(toy("small", "sample_every=100"), tmp_path / "run")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "run")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_folder_that_cannot_be_made_is_named(toy: Callable[..., TrainConfig], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EgganError, match=r"file/run/config.yaml cannot be written \(Not a directory\)"):
        train(toy(), tmp_path / "file" / "run")


def test_a_model_that_was_being_replaced_comes_back(toy: Callable[..., TrainConfig], tmp_path: Path) -> None:
    train(toy(), tmp_path / "run")
    before = weights(tmp_path / "run")
    (tmp_path / "run" / ".model-old-abc").mkdir()
    (tmp_path / "run" / "model").rename(tmp_path / "run" / ".model-old-abc" / "model")
    (tmp_path / "run" / "checkpoint" / ".state-abc.pt").write_bytes(b"half")
    train(toy(), tmp_path / "run")
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(tmp_path / "run").items())
    assert not list((tmp_path / "run").rglob(".*"))


def test_two_kills_lose_nothing(make_faces_file: Callable[..., Path]) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "kill_training.py"
    command = [sys.executable, str(script), "--kills", "2", "--steps", "40", "--faces", str(make_faces_file())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kills" in done.stdout
    assert "differences from the run left alone: none" in done.stdout


def test_the_critics_take_more_steps_than_the_generator_where_the_configuration_says_so(
    toy: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    train(toy("small-paper", "critic_steps=3"), tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoint" / "state.pt", weights_only=True)["optimizers"]
    assert {name: int(optimizer["state"][0]["step"]) for name, optimizer in state.items()} == {
        "E, G": 6,
        "D_z, D_img": 18,
    }


def test_tensorboard_shows_the_log_and_the_samples(toy: Callable[..., TrainConfig], tmp_path: Path) -> None:
    train(toy(), tmp_path / "run")
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    logged = [(line["step"], line["paired"]) for line in losses(tmp_path / "run")]
    shown = [(event.step, event.value) for event in board.Scalars("paired")]
    assert shown == [(step, pytest.approx(value)) for step, value in logged]
    assert [event.step for event in board.Images("samples")] == [6]


def test_a_diverged_run_says_which_term_and_keeps_the_last_checkpoint(
    toy: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = Run.advance

    def poison(run: Run) -> None:
        advance(run)
        if run.step == 5:
            run.unseen[-1][run.names.index("paired")] = float("nan")

    monkeypatch.setattr(Run, "advance", poison)
    with pytest.raises(EgganError, match="term paired is nan at step 5"):
        train(toy("small", "log_every=50"), tmp_path / "run")
    assert torch.load(tmp_path / "run" / "checkpoint" / "state.pt", weights_only=True)["step"] == 3


def test_people_in_both_splits_are_refused(toy: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = toy()
    with pytest.raises(EgganError, match=r"splits must not share a person"):
        train(config.model_copy(update={"val": config.data}), tmp_path / "run")


def test_samples_show_people_of_whatever_sessions(make_faces_file: Callable[..., Path]) -> None:
    val = read_faces(make_faces_file(), 32)
    apart = replace(val, session=val.session + 5)
    samples, expected = (Samples(faces, torch.device("cpu")) for faces in (apart, val))
    assert samples.people == expected.people
    alone = val.people[0]
    one_row = Samples(
        apart.select(np.flatnonzero((val.identity != alone) | (np.arange(len(val)) == 0))), torch.device("cpu")
    )
    assert one_row.people[0] == 0
    assert len(one_row.people) == 1 + 2 * 3
    model = EGGAN(ModelConfig(image_size=32, network=ComposeForm(widths=(8, 16))))
    assert one_row.draw(model).size == expected.draw(model).size


def test_a_classifier_is_trained_once_and_again_when_what_it_depends_on_changes(
    toy: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    config = toy("small-paper")
    faces = read_faces(config.data, 32)
    first = classifier("C_exp", config, faces, tmp_path / "cache", said.append)
    again = classifier("C_exp", config, faces, tmp_path / "cache", said.append)
    assert "trained" in said[0]
    assert "taken from" in said[1]
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    classifier("C_exp", toy("small-paper", "seed=7"), faces, tmp_path / "cache", said.append)
    assert "trained" in said[2]
    classifier("C_exp", toy("small-paper", "randomised=true"), faces, tmp_path / "cache", said.append)
    assert "trained" in said[3]
    shards = tmp_path / "shards"
    shards.mkdir()
    for n in range(2):
        shutil.copy(config.data, shards / f"{n}.parquet")
        classifier("C_exp", config, read_faces(shards, 32), tmp_path / "cache", said.append)
        assert "trained" in said[-1]
    monkeypatch.setattr(AttributeClassifier, "GRID", 1)
    classifier("C_exp", config, faces, tmp_path / "cache", said.append)
    assert "trained" in said[-1], "another version's network has another shape"


def test_C_exp_reads_the_level_that_it_holds_for_likeliest_and_a_mirrored_face_alike() -> None:
    C_exp = AttributeClassifier(2, 17 * 6).eval()
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(read_levels(C_exp, images), read_levels(C_exp, images.flip(-1)))
    nn.init.zeros_(C_exp.fc.weight)
    level = torch.arange(17) % 6
    with torch.no_grad():
        C_exp.fc.bias.copy_(50 * torch.nn.functional.one_hot(level, 6).flatten())
    torch.testing.assert_close(read_levels(C_exp, images), level.float().expand(3, 17))


def test_C_exp_that_has_seen_photographs_is_another_and_learns_to_read_renders(
    toy: Callable[..., TrainConfig], make_faces_file: Callable[..., Path], tmp_path: Path
) -> None:
    said: list[str] = []
    photos = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    longer = ["classifiers.steps=200", "classifiers.batch_size=16", "classifiers.learning_rate=0.005"]
    config = toy("small-paper", *longer, "classifiers.image_size=64", "classifiers.width=8")
    faces = read_faces(make_faces_file("larger.parquet", size=64), 64)
    C_exp = classifier("C_exp", config, faces, tmp_path / "cache", said.append, photos=photos).eval()
    assert C_exp.image_size == 64
    read, true = read_levels(C_exp, faces.images), faces.action_units
    assert (read - true).square().mean() < 0.7 * (true.mean(dim=0) - true).square().mean()
    assert "trained" in said[0]
    for other in (photos.flip(0), None):
        brief = toy("small-paper", "classifiers.image_size=16")
        classifier("C_exp", brief, faces, tmp_path / "cache", said.append, photos=other)
        assert "trained" in said[-1]


def test_C_exp_that_has_seen_photographs_sees_all_at_half_its_side_first(
    toy: Callable[..., TrainConfig],
    make_faces_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sides: list[int] = []

    def noted(x: Tensor, generator: torch.Generator) -> Tensor:
        sides.append(x.shape[-1])
        return disturb(x, generator)

    monkeypatch.setattr(classifiers, "disturb", noted)
    photos = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    config = toy("small-paper", "classifiers.steps=20", "classifiers.image_size=48")
    faces = read_faces(make_faces_file("larger.parquet", size=64), 64)
    classifier("C_exp", config, faces, tmp_path / "cache", str, photos=photos)
    assert sides == 14 * [24] + 6 * [48]


def test_the_C_exp_that_comes_with_eggan_reads_people_it_has_not_seen(tmp_path: Path) -> None:
    config = load_config("portrait", ["losses.au=1"])
    faces = read_faces(config.val, config.image_size)
    C_exp = classifier("C_exp", config, faces, tmp_path / "cache", str).eval()
    rows = slice(None, None, 7)
    read, true = read_levels(C_exp, faces.images[rows]).numpy(), faces.action_units[rows].numpy()
    assert au_pcc(read, true).mean() > 0.85
    assert not (tmp_path / "cache").exists(), "it lies where it came with eggan, and needs no copy"


def test_C_exp_goes_on_from_a_file_or_is_taken_as_it_is(
    toy: Callable[..., TrainConfig], make_faces_file: Callable[..., Path], tmp_path: Path
) -> None:
    said: list[str] = []
    trained = AttributeClassifier(4, 17 * 6)
    file = tmp_path / "C_exp.safetensors"
    save_file({name: x.half() if x.is_floating_point() else x for name, x in trained.state_dict().items()}, file)
    settings = ["classifiers.width=4", f"classifiers.init={file}"]
    config = toy("small-paper", *settings, "classifiers.steps=0")
    faces = read_faces(make_faces_file("other.parquet"), 32)
    taken = classifier("C_exp", config, faces, tmp_path / "cache", said.append)
    assert said == [f"C_exp taken from {file}."]
    for name, x in trained.state_dict().items():
        torch.testing.assert_close(taken.state_dict()[name], x, rtol=1e-3, atol=1e-6)
    with pytest.raises(EgganError, match="leaves C_id untrained: give it steps"):
        classifier("C_id", config, faces, tmp_path / "cache", said.append)

    slow = toy("small-paper", *settings, "classifiers.steps=1", "classifiers.learning_rate=1e-9")
    went_on = classifier("C_exp", slow, faces, tmp_path / "cache", said.append)
    torch.testing.assert_close(went_on.fc.weight, taken.fc.weight, rtol=0, atol=1e-6)
    save_file(AttributeClassifier(4, 17 * 6).state_dict(), file)
    classifier("C_exp", slow, faces, tmp_path / "cache", said.append)
    assert "trained" in said[-1], "what lies in the cache went on from other weights"

    wide = toy("small-paper", f"classifiers.init={file}", "classifiers.width=8")
    with pytest.raises(EgganError, match=r"C_exp.safetensors does not hold a C_exp of the width that .*says, 8 \("):
        classifier("C_exp", wide, faces, tmp_path / "cache", said.append)
    file.unlink()
    with pytest.raises(EgganError, match=r"There is no file .*C_exp\.safetensors: set classifiers.init to"):
        classifier("C_exp", slow, faces, tmp_path / "cache", said.append)


@pytest.mark.usefixtures("crops")
def test_a_batch_whose_pieces_would_hold_unlike_many_pairs_is_refused(
    toy: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(EgganError, match=r"batch_size 4 leaves pieces of 2 images.*choose a multiple of 8"):
        train(toy("small", f"photos={tmp_path}", *UNPAIRED, "accumulate=2"), tmp_path / "run")


def test_a_stop_signal_saves_the_step_it_came_in(
    toy: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = Run.advance

    def interrupted(run: Run) -> None:
        if run.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        advance(run)

    monkeypatch.setattr(Run, "advance", interrupted)
    with pytest.raises(Stopped, match="Stopped at step 4 of 6"):
        train(toy(), tmp_path / "run")
    assert torch.load(tmp_path / "run" / "checkpoint" / "state.pt", weights_only=True)["step"] == 4


def test_dry_run_counts_the_papers_encoder_by_hand() -> None:
    text = describe(load_config("paper"))
    channels = (3, 16, 32, 64, 128, 256)
    convolutions = sum(16 * a * b + b for a, b in pairwise(channels))
    assert f"# E       {convolutions + 256 * 16 * 256 + 256:>13,}" in text
    assert "au: 100" in text


# --- From given weights ----------------------------------------------------------------------------------------------


def test_a_run_starts_from_the_weights_of_another_with_other_people_and_another_image_size(
    toy: Callable[..., TrainConfig], make_faces_file: Callable[..., Path], tmp_path: Path
) -> None:
    train(toy(), tmp_path / "first")
    others = make_faces_file("others.parquet", people=("fay", "gus"))
    still = ["learning_rate=1e-30", f"data={others}", "image_size=64"]
    train(toy("small", f"init={tmp_path / 'first'}", *still), tmp_path / "second")
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert EGGAN.from_pretrained(tmp_path / "second").config.image_size == 64
    assert f"Started from**: the weights of `{tmp_path / 'first'}`" in (tmp_path / "second/model/README.md").read_text()
    assert f"init: {tmp_path / 'first'}" in (tmp_path / "second" / "config.yaml").read_text()


def test_where_the_conditioning_alone_learns_the_rest_stays_as_it_was(
    toy: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    train(toy(), tmp_path / "first")
    learned = ["losses.adversarial=0.2", "critic_widths=[8,16]", "learn=conditioning", "learning_rate=1e-2", "ema=0"]
    train(toy("small", f"init={tmp_path / 'first'}", *learned), tmp_path / "second")
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert changed == {name for name in first if "condition" in name or "films" in name}
    assert "the conditioning alone" in (tmp_path / "second/model/README.md").read_text()


def test_a_run_starts_with_the_critic_of_a_file_and_goes_on_with_its_own(
    toy: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    file = tmp_path / "D_img.safetensors"
    critic = ImageDiscriminator(32, (8, 16))
    save_file({name: x.half() for name, x in critic.state_dict().items()}, file)
    settings = ["losses.adversarial=0.2", "critic_widths=[8,16]", f"critic_init={file}", "learning_rate=1e-30"]
    config = toy("small", *settings)
    train(config, tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoint" / "state.pt", weights_only=True)["objective"]
    for name, x in critic.state_dict().items():
        torch.testing.assert_close(state[f"D_img.{name}"], x, rtol=1e-3, atol=1e-6)
    assert f"Critic started from**: the weights of `{file}`" in (tmp_path / "run/model/README.md").read_text()

    with pytest.raises(EgganError, match=r"D_img\.safetensors does not hold a D_img of these critic_widths"):
        train(toy("small", *settings, "critic_widths=[8,8]"), tmp_path / "other")
    file.unlink()
    train(config, tmp_path / "run")
    with pytest.raises(EgganError, match=r"There is no file .*D_img\.safetensors: set critic_init to"):
        train(config, tmp_path / "another")


def test_a_run_in_patches_starts_from_the_weights_of_one_without(
    toy: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    train(toy(), tmp_path / "first")
    patches = ["learning_rate=1e-30", "image_size=64", "network.patch=2"]
    train(toy("small", f"init={tmp_path / 'first'}", *patches), tmp_path / "second")
    expected = EGGAN.from_pretrained(tmp_path / "first").repatched(2).state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in weights(tmp_path / "second").items())
    with pytest.raises(EgganError, match=r"--set network\.patch=2\.$"):
        train(toy("small", f"init={tmp_path / 'second'}", "image_size=64"), tmp_path / "third")


UNPAIRED = ["unpaired=4", "losses.au=0.1", "classifiers.width=4", "classifiers.steps=2"]


@pytest.fixture
def crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any folder of photographs gives the same three."""
    photos = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    monkeypatch.setattr("eggan.training.loop.aligned_crops", lambda folder, size, cache: photos)


@pytest.mark.usefixtures("crops")
def test_a_run_learns_before_the_backgrounds_of_photographs_and_from_what_C_exp_reads_off_edits_of_them(
    toy: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    settings = ["randomised=true", "losses.relative=true", f"photos={tmp_path}"]
    train(toy("small"), tmp_path / "plain")
    train(toy("small", *settings), tmp_path / "before")
    train(toy("small", *settings, *UNPAIRED), tmp_path / "from")
    plain, before, learned = (weights(tmp_path / name) for name in ("plain", "before", "from"))
    assert not all(torch.equal(before[name], plain[name]) for name in plain)
    assert not all(torch.equal(learned[name], before[name]) for name in plain)


@pytest.mark.usefixtures("crops")
def test_a_resumed_run_makes_the_same_edits_of_photographs(
    toy: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy("small", f"photos={tmp_path}", *UNPAIRED, "checkpoint_every=1")
    train(config, tmp_path / "whole")
    advance = Run.advance
    monkeypatch.setattr(Run, "advance", lambda run: 1 / 0 if run.step == 2 else advance(run))
    with pytest.raises(ZeroDivisionError):
        train(config, tmp_path / "cut")
    monkeypatch.setattr(Run, "advance", advance)
    train(config, tmp_path / "cut")
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_resumed_run_does_not_need_the_weights_it_started_from(
    toy: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(toy(), tmp_path / "first")
    config = toy("small", f"init={tmp_path / 'first'}")
    train(config, tmp_path / "whole")

    advance = Run.advance
    monkeypatch.setattr(Run, "advance", lambda run: 1 / 0 if run.step == 1 else advance(run))
    with pytest.raises(ZeroDivisionError):
        train(config, tmp_path / "cut")
    monkeypatch.undo()
    (tmp_path / "first").rename(tmp_path / "gone")
    train(config, tmp_path / "cut")
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize(
    ("preset", "change", "said"),
    [
        ("small", "network.widths=[8,24]", r"--set network\.widths=\[8,16\]\.$"),
        ("small", "network.conditioning=64", r"--set network\.conditioning=128\.$"),
        ("small-paper", "steps=6", r"compose form, and this run trains the latent form"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_anything_is_written(
    preset: str, change: str, said: str, toy: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    train(toy(), tmp_path / "first")
    with pytest.raises(EgganError, match=said):
        train(toy(preset, f"init={tmp_path / 'first'}", change), tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_weights_of_the_latent_form_serve_their_own_image_size_only(
    toy: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    EGGAN(toy("small-paper").model).save_pretrained(tmp_path / "weights", "card")
    larger = toy(
        "small-paper", f"init={tmp_path / 'weights'}", "image_size=64", "network.generator_widths=[8,8,8,8,8,8]"
    )
    with pytest.raises(EgganError, match=r"--set image_size=32 --set network\.generator_widths=\[8,8,8,8,8\]\."):
        train(larger, tmp_path / "run")


def test_an_unknown_start_is_refused(toy: Callable[..., TrainConfig], tmp_path: Path) -> None:
    with pytest.raises(EgganError, match='no model "nowhere"'):
        train(toy("small", "init=nowhere"), tmp_path / "run")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory by rules of its own")
def test_memory_that_a_step_gives_back_serves_the_next() -> None:
    """Else the kernel finds and clears its pages anew, about 9,800 of them here."""
    code = """
import resource, torch
from eggan.training.loop import keep_freed_memory
keep_freed_memory()
for _ in range(30):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10_000_000)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    first, *later = map(int, out.split())
    assert first > 5_000
    assert sorted(later[14:])[7] < 100


@pytest.mark.parametrize(("capability", "computed_in"), [("AVX2", torch.float32), ("AVX512", torch.bfloat16)])
def test_bfloat16_is_used_where_a_cpu_computes_in_it_and_else_said_not_to_be(
    toy: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    capability: str,
    computed_in: torch.dtype,
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    seen = set()

    def record(module: nn.Module, inputs: object, output: object) -> None:
        if module.training and isinstance(output, Tensor):
            seen.add(output.dtype)

    with register_module_forward_hook(record):
        train(toy("small", "steps=1", "precision=bfloat16"), tmp_path / "run")
    assert (torch.bfloat16 in seen) == (computed_in == torch.bfloat16)
    assert ("computes in float32" in capsys.readouterr().err) == (computed_in == torch.float32)
