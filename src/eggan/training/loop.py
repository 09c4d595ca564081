"""A training run of any method: what it learns from first, then step by step, with checkpoints, a log and sample grids.

The run folder holds `config.yaml`, `log.jsonl`, `tensorboard/`, `samples/STEP.png`, `checkpoint/` (everything to go
on) and `model/` (moving average of the model). The same command on the same folder goes on where it stopped, with the
same numbers as if it had not. `accelerate launch` runs it on several processes, of which the first does all writing.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env, reduce
from pydantic import ValidationError
from rich.console import Console
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from eggan.action_units import MAX_INTENSITY, NUMBERS
from eggan.data import Faces, check_people_apart, read_faces
from eggan.data.batches import Photographs, TrainingRows
from eggan.errors import EgganError
from eggan.files import clear_up, write_atomically
from eggan.losses import LEVELS
from eggan.method import ClassifierName, JudgedConfig, Method, RunConfig, as_asked, as_taught, show_exemplars
from eggan.model import EGGAN, ComposeForm, ModelConfig
from eggan.networks import (
    AttributeClassifier,
    ComposeGenerator,
    EditDiscriminator,
    ImageDiscriminator,
    LatentDiscriminator,
    VGG19Stage3,
    channels_last,
)
from eggan.objective import Judges, Objective
from eggan.progress import bar
from eggan.rivals import rival
from eggan.training.card import model_card, rival_card
from eggan.training.checkpoint import read_checkpoint, write_checkpoint
from eggan.training.classifiers import classifier, read_levels
from eggan.training.config import TrainConfig
from eggan.training.photographs import aligned_crops
from eggan.training.precision import gains_by_bfloat16
from eggan.training.run import Run
from eggan.training.samples import Samples
from eggan.weights import official_vgg19, read_given

__all__ = ["Stopped", "describe", "keep_freed_memory", "train"]


class Stopped(Exception):  # noqa: N818 - no error
    """The run was asked to stop, saved a checkpoint and did."""


def train(config: RunConfig, out: Path) -> Path:
    """Run, or go on with, a training run.

    Args:
        config: what to do.
        out: the run's folder.

    Returns:
        The folder of the trained model, `out/model`.

    Raises:
        EgganError: faces files are wrong, the folder holds another run, a loss is no longer finite, or the disk is
            full.
        Stopped: Ctrl-C or SIGTERM came; a checkpoint was saved first.
    """
    process = _process()
    keep_freed_memory()
    console = Console(stderr=True, quiet=not process.is_main_process)
    state = read_checkpoint(out / "checkpoint", lambda line: console.print(line, highlight=False, soft_wrap=True))
    start = critic = None
    if isinstance(config, TrainConfig) and state is None:
        start = _start(config.init, config.model) if config.init else None
        critic = _trained_critic(config, config.critic_init) if config.critic_init else None
    with process.main_process_first():  # the others find its decoded shards, classifiers and crops in the cache
        faces = read_faces(config.data, config.image_size, landmarks=config.randomised)
        val = read_faces(config.val, config.image_size)
        check_people_apart(faces, val)
        _settle_config(config, out)
        crops = None
        if config.photos is not None:
            crops = aligned_crops(config.photos, config.image_size, out.parent / "photographs")
        objective, card = _method(config, faces, crops, out, console, process.device)
        photos = None if crops is None else _photographs(config, crops, objective)
    if start is not None:
        objective.model.load_state_dict(start.state_dict())
    if critic is not None:
        assert isinstance(objective, Objective)
        assert objective.D_img is not None, "critic_init needs losses.adversarial"
        objective.D_img.load_state_dict(critic.state_dict())
    run = Run(config, objective, TrainingRows(as_taught(objective.model, faces)), process, photos)
    if state is not None:
        _take_up(run, state, out)
    elif start is not None:
        run.average.n_averaged.fill_(1)  # else the first step's weights would replace the average
    show_exemplars(run.ema, faces)
    samples = Samples(as_asked(run.ema, val), process.device)
    with _Files(run, out, card) as files, bar(console) as progress, _stop_signals() as signals:
        if start is not None or critic is not None:
            files.save()  # from here on, the run no longer needs the weights that it started from
        if process.num_processes > 1:
            console.print(f"{process.num_processes} processes share each batch of {config.batch_size}.", soft_wrap=True)
        if config.precision == "bfloat16" and not gains_by_bfloat16(process.device):
            console.print(
                "This CPU has no AVX-512 to compute bfloat16 with: the run computes in float32.", soft_wrap=True
            )
        begun, first = time.monotonic(), run.step
        task = progress.add_task("training", total=config.steps, completed=run.step, note="")
        while run.step < config.steps:
            run.advance()
            progress.update(task, completed=run.step)
            last = run.step == config.steps
            log_due = last or run.step % config.log_every == 0
            stop = _agreed(process, bool(signals)) if log_due or process.num_processes == 1 else False
            save_due = last or stop or run.step % config.checkpoint_every == 0
            if log_due or save_due:
                terms = run.collect()
            if log_due:
                rate = (run.step - first) * run.presented / (time.monotonic() - begun)
                files.log(terms, rate)
                note = f"{rate:.0f} images/s  " + "  ".join(f"{name} {mean:.4g}" for name, mean in terms.items())
                progress.update(task, note=note)
                if not console.is_terminal:
                    left = (config.steps - run.step) * run.presented / rate / 60
                    console.print(f"step {run.step}/{config.steps}  {note}  {left:.0f} min left", soft_wrap=True)
            if last or run.step % config.sample_every == 0:
                files.show(samples)
            if save_due:
                files.save()
            if stop and not last:
                raise Stopped(f"Stopped at step {run.step} of {config.steps}; the same command goes on from there.")
    return out / "model"


def keep_freed_memory() -> None:
    """Have glibc keep what tensors give back, for the next step; elsewhere nothing is done.

    By its habit it returns large blocks to the kernel, which must then find and clear thousands of pages in every step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
        mallopt(M_MMAP_THRESHOLD, 1 << 30) or mallopt(M_MMAP_THRESHOLD, 1 << 25)  # the most that older ones take
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def describe(config: RunConfig) -> str:
    """The resolved configuration, and the parameter count of every network that the run would train or use."""
    if not isinstance(config, TrainConfig):
        return _describe_rival(config)
    with torch.device("meta"):
        objective = _objective(config, Judges(None, None, None))
        networks: dict[str, nn.Module | None] = {
            "E": objective.model.E,
            "G": objective.model.G,
            "D_z": objective.D_z,
            "D_img": objective.D_img,
        }
        if config.losses.au:
            networks["C_exp"] = AttributeClassifier(config.classifiers.width, len(NUMBERS) * LEVELS)
        C_id = AttributeClassifier(config.classifiers.width, 1)
    lines = [f"{name:8}{_size(network):>13,}" for name, network in networks.items() if network is not None]
    if _needs_C_id(config):
        lines.append(f"{'C_id':8}{_size(C_id.stages):>13,} + {_size(C_id.fc):,} for each person")
    return config.to_yaml() + "\n# parameters\n" + "".join(f"# {line}\n" for line in lines)


def _describe_rival(config: RunConfig) -> str:
    def untrained(_: ClassifierName) -> AttributeClassifier:
        assert isinstance(config, JudgedConfig)
        return AttributeClassifier(config.classifiers.width, 1)

    with torch.device("meta"):
        method = rival(config.method).method(config, untrained)
    sizes = _sizes(method.model) | {
        name: _size(network) for name, network in method.named_children() if name not in ("model", "phi")
    }
    return config.to_yaml() + "\n# parameters\n" + "".join(f"# {name:14}{n:>13,}\n" for name, n in sizes.items())


class _Files:
    """The run folder. Only the main process writes."""

    def __init__(self, run: Run, out: Path, card: Callable[[int], str]) -> None:
        self.run, self.out, self.card, self.saved = run, out, card, run.step
        self.main = run.process.is_main_process

    def __enter__(self) -> _Files:
        """Clear up after a killed process, cut the log back to the checkpoint and open TensorBoard's."""
        if self.main:
            with self._on_disk():
                for name in ("model", "checkpoint/state.pt", "log.jsonl", "config.yaml", "samples/*.png"):
                    clear_up(self.out / name)
                log = self.out / "log.jsonl"
                lines = log.read_text().splitlines() if log.is_file() else []
                kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= self.run.step]
                write_atomically(log, lambda beside: beside.write_text("".join(line + "\n" for line in kept)))
            self.board = SummaryWriter(str(self.out / "tensorboard"), purge_step=self.run.step + 1)
        return self

    def __exit__(self, *_: object) -> None:
        if self.main:
            self.board.close()

    def log(self, terms: dict[str, float], rate: float) -> None:
        """Append one line of figures: the terms' means since the line before."""
        self.run.since_log = self.run.since_log[:0]
        if not self.main:
            return
        figures = {"images_per_second": round(rate, 2), **terms}
        with self._on_disk(), (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps({"step": self.run.step, **figures}) + "\n")
            for name, value in figures.items():
                self.board.add_scalar(name, value, self.run.step)

    def show(self, samples: Samples) -> None:
        """Write the sample grid of the moving average."""
        if not self.main:
            return
        sheet = samples.draw(self.run.ema)
        with self._on_disk():
            path = self.out / "samples" / f"{self.run.step:07d}.png"
            write_atomically(path, lambda beside: sheet.save(beside, "PNG"))
            self.board.add_image("samples", np.asarray(sheet), self.run.step, dataformats="HWC")

    def save(self) -> None:
        """Write model and checkpoint, each whole or as before; the checkpoint last, so that a finished run has both."""
        run = self.run
        if not self.main:
            return
        with self._on_disk():
            run.ema.save_pretrained(self.out / "model", self.card(run.step), torch.float16)
            write_checkpoint(self.out / "checkpoint", run.state_dict())
        self.saved = run.step

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors hide the OSError
            reason = (error.strerror if isinstance(error, OSError) else None) or "is the disk full?"
            free = shutil.disk_usage(self.out).free / 1e6
            raise EgganError(
                f"{self.out} cannot be written to at step {self.run.step} ({reason}; {free:.0f} MB free): make room, "
                f"and the same command goes on from step {self.saved}."
            ) from None


def _process() -> PartialState:
    """This process among those of `accelerate launch`: on a GPU, or on the CPU where none is or `--cpu` says so.

    The others wait while the first one trains C_exp and C_id, so they must not give up after minutes. The group is left
    before the interpreter ends: gloo's threads, if they still run then, now and then abort a process that is done.
    """
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
    process = PartialState(cpu=cpu, timeout=timedelta(days=2))
    atexit.register(process.destroy_process_group)
    return process


def _agreed(process: PartialState, flag: bool) -> bool:
    """Does any process say so?"""
    return bool(reduce(torch.tensor(float(flag), device=process.device), "sum") > 0)


def _take_up(run: Run, state: dict[str, Any], out: Path) -> None:
    try:
        run.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EgganError(
            f"{out / 'checkpoint'} does not fit this run ({reason}): go on with the version of eggan that wrote it, or "
            "give another --out."
        ) from None


def _method(
    config: RunConfig, faces: Faces, crops: Tensor | None, out: Path, console: Console, device: torch.device
) -> tuple[Method, Callable[[int], str]]:
    """The method with what it learns from, at its first weights; and its model card after so many steps."""
    if isinstance(config, TrainConfig):
        judges, phi = _judges(config, faces, crops, out, console, device)
        torch.manual_seed(config.seed)
        objective = _objective(config, judges)
        return objective, partial(model_card, config, phi=phi, sizes=_sizes(objective.model))

    def trained(name: ClassifierName) -> AttributeClassifier:
        assert isinstance(config, JudgedConfig)
        say = partial(console.print, highlight=False)
        return classifier(name, config, faces, out.parent / "classifiers", say, device).cpu()

    torch.manual_seed(config.seed)
    method = rival(config.method).method(config, trained)
    about = rival(config.method).about(config)
    return method, partial(rival_card, config, about=about, sizes=_sizes(method.model))


def _judges(
    config: TrainConfig, faces: Faces, crops: Tensor | None, out: Path, console: Console, device: torch.device
) -> tuple[Judges, str | None]:
    w, cache, say = config.losses, out.parent / "classifiers", lambda line: console.print(line, highlight=False)
    seen = crops if config.unpaired else None
    C_exp = classifier("C_exp", config, faces, cache, say, device, seen) if config.losses.au else None
    vgg19 = official_vgg19(w.vgg19, VGG19Stage3) if w.perceptual and w.vgg19 else None
    C_id = classifier("C_id", config, faces, cache, say, device) if _needs_C_id(config) else None
    if not w.perceptual:
        return Judges(C_exp, C_id, vgg19), None
    whose = "C_id, no VGG19 weights were given" if vgg19 is None else f"VGG19 with the weights in {w.vgg19}"
    say(f"φ₃ of the perceptual loss: relu3_1 of {whose}.")
    return Judges(C_exp, C_id, vgg19), f"relu3_1 of {whose}"


def _photographs(config: RunConfig, crops: Tensor, objective: Method) -> Photographs:
    if not config.unpaired:
        return Photographs(crops, None)
    assert isinstance(objective, Objective), "only EGGAN begins at photographs"
    assert objective.C_exp is not None, "the configuration asks for it"
    return Photographs(crops, read_levels(objective.C_exp, crops) / MAX_INTENSITY)


def _objective(config: TrainConfig, judges: Judges) -> Objective:
    w, network = config.losses, config.network
    D_z = LatentDiscriminator(network.latent_size) if w.latent and network.form == "latent" else None
    D_img = _critic(config) if w.adversarial else None
    model = EGGAN(config.model)
    if config.learn == "conditioning":
        assert isinstance(model.G, ComposeGenerator), "the configuration asks for it"
        model.requires_grad_(False)
        for layer in model.G.conditioning:
            layer.requires_grad_(True)
    return channels_last(Objective(model, w, judges, D_z, D_img))


def _start(name: str, config: ModelConfig) -> EGGAN:
    """The model that a run starts from; the compose form's weights serve any image size, the latent form's only one."""
    model = EGGAN.from_pretrained(name)
    match model.config.network, config.network:
        case ComposeForm(patch=1), ComposeForm(patch=patch) if patch > 1:
            model = model.repatched(patch)
    theirs, ours = (c.network.model_dump(mode="json") for c in (model.config, config))
    if theirs["form"] != ours["form"]:
        raise EgganError(
            f"{name} is a model of the {theirs['form']} form, and this run trains the {ours['form']} form: choose a "
            "--preset of that form, or other weights."
        )
    different = {f"network.{key}": value for key, value in theirs.items() if value != ours[key]}
    if not model.composes and model.config.image_size != config.image_size:
        different = {"image_size": model.config.image_size} | different
    if different:
        settings = " ".join(f"--set {key}={json.dumps(value).replace(' ', '')}" for key, value in different.items())
        raise EgganError(f"The weights of {name} do not fit this run: they need {settings}.")
    return model


def _critic(config: TrainConfig) -> ImageDiscriminator | EditDiscriminator:
    kind = EditDiscriminator if config.critic_is_told else ImageDiscriminator
    return kind(config.image_size, config.critic_widths)


def _trained_critic(config: TrainConfig, path: Path) -> ImageDiscriminator | EditDiscriminator:
    """The D_img that a run starts with."""
    critic = _critic(config)
    read_given(path, critic, "critic_init", "a D_img of these critic_widths, told as critic_is_told says")
    return critic


def _needs_C_id(config: TrainConfig) -> bool:
    return config.losses.identity > 0 or (config.losses.perceptual > 0 and config.losses.vgg19 is None)


def _sizes(model: nn.Module) -> dict[str, int]:
    return {name: _size(network) for name, network in model.named_children()}


def _settle_config(config: RunConfig, out: Path) -> None:
    """Write the configuration into a new run folder, or check that the old one is the same."""
    path = out / "config.yaml"
    if not path.is_file():
        try:
            write_atomically(path, lambda beside: beside.write_text(config.to_yaml()))
        except OSError as error:
            raise EgganError(f"{out} cannot be written to ({error.strerror}): give another --out.") from None
        return
    try:
        old = type(config).model_validate(yaml.safe_load(path.read_text()))
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError):
        raise EgganError(
            f"{path} does not describe a run of this method and version of eggan: give another --out."
        ) from None
    before, now = _flat(old.model_dump(mode="json")), _flat(config.model_dump(mode="json"))
    changed = [
        f"{key} ({before.get(key)}, not {now.get(key)})" for key in {**before, **now} if before.get(key) != now.get(key)
    ]
    if changed:
        raise EgganError(
            f"{out} holds a run with another {', '.join(changed)}: give another --out, or the settings in {path}."
        )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that is no longer empty once Ctrl-C or SIGTERM came; a second Ctrl-C ends at once."""
    received: list[int] = []

    def note(number: int, _: object) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
