"""A training run: classifiers first, then Eq. 7 step by step, with checkpoints, a log and sample grids.

The run folder holds `config.yaml`, `log.jsonl`, `samples/STEP.png`, `checkpoint/state.pt` (everything to go on) and
`model/` (moving average of E and G). The same command on the same folder goes on where it stopped.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from eggan.action_units import MAX_INTENSITY, NUMBERS
from eggan.contact_sheet import contact_sheet, to_pictures
from eggan.data import Faces, check_people_apart, read_faces
from eggan.data.batches import Batch, TrainingRows, draw_batch
from eggan.errors import EgganError
from eggan.files import write_atomically
from eggan.losses import LEVELS
from eggan.model import EGGAN, ModelConfig
from eggan.networks import AttributeClassifier, ImageDiscriminator, LatentDiscriminator, VGG19Stage3, channels_last
from eggan.objective import Judges, Objective
from eggan.progress import bar
from eggan.training.card import model_card
from eggan.training.classifiers import classifier
from eggan.training.config import TrainConfig

__all__ = ["Stopped", "describe", "train"]

TermSums = dict[str, float]


class Stopped(Exception):  # noqa: N818 - no error
    """The run was asked to stop, saved a checkpoint and did."""


def train(config: TrainConfig, out: Path) -> Path:
    """Run, or go on with, a training run.

    Args:
        config: what to do.
        out: the run's folder.

    Returns:
        The folder of the trained model, `out/model`.

    Raises:
        EgganError: faces files are wrong, the folder holds another run, or a loss is no longer finite.
        Stopped: Ctrl-C or SIGTERM came; a checkpoint was saved first.
    """
    console = Console(stderr=True)
    begun_before = (out / "checkpoint" / "state.pt").is_file()
    start = _start(config.init, config.model) if config.init and not begun_before else None
    _settle_config(config, out)
    faces, val = read_faces(config.data, config.image_size), read_faces(config.val, config.image_size)
    check_people_apart(faces, val)
    judges, phi = _judges(config, faces, out, console)
    torch.manual_seed(config.seed)
    objective = _objective(config, judges)
    if start is not None:
        objective.model.load_state_dict(start.state_dict())
    run = _Run(config, objective, out, phi)
    run.restore()
    if start is not None:
        run.average.n_averaged.fill_(1)  # else the first step's weights would replace the average
        run.save()  # from here on, the run no longer needs the weights that it started from
    samples = _Samples(val)
    rows = TrainingRows(faces)
    begun, first, sums = time.monotonic(), run.step, TermSums()
    with bar(console) as progress, _stop_signals() as stop:
        task = progress.add_task("training", total=config.steps, completed=run.step, note="")
        while run.step < config.steps:
            batch = draw_batch(rows, config.batch_size, paired=config.losses.paired > 0, generator=run.generator)
            for name, value in run.advance(batch).items():
                sums[name] = sums.get(name, 0.0) + value.item()
            _check_finite(sums, run.step, out)
            if run.step % config.log_every == 0:
                rate = (run.step - first) * config.batch_size / (time.monotonic() - begun)
                means = {name: total / config.log_every for name, total in sums.items()}
                run.log(means, rate)
                note = f"{rate:.0f} images/s  " + "  ".join(f"{name} {mean:.4g}" for name, mean in means.items())
                progress.update(task, note=note)
                if not console.is_terminal:
                    left = (config.steps - run.step) * config.batch_size / rate / 60
                    console.print(f"step {run.step}/{config.steps}  {note}  {left:.0f} min left", soft_wrap=True)
                sums = TermSums()
            progress.update(task, completed=run.step)
            if run.step % config.sample_every == 0 or run.step == config.steps:
                samples.draw(run.ema, out / "samples" / f"{run.step:07d}.png")
            if run.step % config.checkpoint_every == 0 or run.step == config.steps or stop:
                run.save()
            if stop and run.step < config.steps:
                raise Stopped(f"Stopped at step {run.step} of {config.steps}; the same command goes on from there.")
    return out / "model"


def describe(config: TrainConfig) -> str:
    """The resolved configuration, and the parameter count of every network that the run would train or use."""
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
    lines = [f"{name:8}{_size(network):>13,}" for name, network in networks.items() if network is not None]
    if _needs_C_id(config):
        width = config.classifiers.width
        lines.append(f"{'C_id':8}{_size(AttributeClassifier(width, 1).stages):>13,} + {8 * width + 1} for each person")
    return config.to_yaml() + "\n# parameters\n" + "".join(f"# {line}\n" for line in lines)


class _Run:
    """What changes during a run, and how it is written and read back."""

    def __init__(self, config: TrainConfig, objective: Objective, out: Path, phi: str) -> None:
        self.config, self.objective, self.out, self.phi = config, objective, out, phi
        self.step = 0
        self.generator = torch.Generator().manual_seed(config.seed)
        self.average = AveragedModel(objective.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
        self.critics: list[nn.Module] = [network for network in (objective.D_z, objective.D_img) if network is not None]
        self.optimizers = {"E, G": self._adam([objective.model])}
        if self.critics:
            self.optimizers["D_z, D_img"] = self._adam(self.critics)

    @property
    def ema(self) -> EGGAN:
        """The moving average of E and G, which is what ships."""
        model = self.average.module
        assert isinstance(model, EGGAN)
        return model

    def advance(self, batch: Batch) -> dict[str, Tensor]:
        """One step of Eq. 7: the critics on a pass of E and G, then E and G on the same pass."""
        c = self.config
        rate = c.learning_rate * min(1.0, (1 - self.step / c.steps) / (1 - c.decay_from))
        precision = torch.autocast("cpu", torch.bfloat16, enabled=c.precision == "bfloat16")
        terms: dict[str, Tensor] = {}
        with precision:
            out = self.objective.perform(batch)
        if self.critics:
            with precision:
                loss = self.objective.discriminator_loss(batch, out, self.generator)
            self._descend("D_z, D_img", loss.total, rate)
            terms |= loss.terms
        with precision:
            loss = self.objective.generator_loss(batch, out)
        self._descend("E, G", loss.total, rate)
        self.average.update_parameters(self.objective.model)
        self.step += 1
        return terms | loss.terms

    def save(self) -> None:
        """Checkpoint and moving-average model, each whole or as before."""
        state = {
            "step": self.step,
            "objective": _without_judges(self.objective.state_dict()),
            "ema": self.average.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "generator": self.generator.get_state(),
        }
        write_atomically(self.out / "checkpoint" / "state.pt", lambda beside: torch.save(state, beside))
        sizes = {"E": _size(self.objective.model.E), "G": _size(self.objective.model.G)}
        card = model_card(self.config, self.step, self.phi, sizes)
        self.ema.save_pretrained(self.out / "model", card, torch.float16)

    def restore(self) -> None:
        """Take the checkpoint up, if there is one, and cut the log back to it."""
        path = self.out / "checkpoint" / "state.pt"
        if not path.is_file():
            (self.out / "log.jsonl").unlink(missing_ok=True)
            return
        try:
            state = torch.load(path, weights_only=True)
            _load_all_but_judges(self.objective, state["objective"])
            self.average.load_state_dict(state["ema"])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
            self.generator.set_state(state["generator"])
            self.step = state["step"]
        except Exception as error:  # a torn file fails in many ways
            raise EgganError(
                f"{path} cannot be read ({type(error).__name__}); remove it to start this run anew."
            ) from None
        log = self.out / "log.jsonl"
        lines = log.read_text().splitlines() if log.is_file() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= self.step]
        write_atomically(log, lambda beside: beside.write_text("".join(line + "\n" for line in kept)))

    def log(self, means: TermSums, rate: float) -> None:
        """Append one line of figures."""
        line = {"step": self.step, "images_per_second": round(rate, 2), **means}
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _adam(self, networks: list[nn.Module]) -> torch.optim.Adam:
        parameters = [p for network in networks for p in network.parameters()]
        return torch.optim.Adam(parameters, lr=self.config.learning_rate, betas=self.config.betas)

    def _descend(self, name: str, loss: Tensor, rate: float) -> None:
        optimizer = self.optimizers[name]
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


class _Samples:
    """The sample grid: four validation people, always the same rows of each as targets."""

    def __init__(self, val: Faces) -> None:
        sources, targets = [], []
        for person in val.people[:4]:
            mine = [i for i in range(len(val)) if val.identity[i] == person and val.session[i] == 0]
            neutral = next((i for i in mine if val.emotion[i] == "neutral"), mine[0])
            others = [i for i in mine if i != neutral][:7]
            sources += [neutral] * len(others)
            targets += others
        self.val, self.sources, self.targets = val, sources, targets

    @torch.no_grad()
    def draw(self, model: EGGAN, path: Path) -> None:
        """A row of edits and a row of true images for each person."""
        was_training = model.training
        images, u = self.val.images.float() / 127.5 - 1, self.val.action_units / MAX_INTENSITY
        edits = to_pictures(model.eval().edit(images[self.sources], u[self.sources], u[self.targets]))
        model.train(was_training)
        rows, labels, people = [], [], list(dict.fromkeys(self.sources))
        for source in people:
            places = [k for k, s in enumerate(self.sources) if s == source]
            true = to_pictures(images[[self.targets[k] for k in places]])
            (own,) = to_pictures(images[[source]])
            rows += [[own, *(edits[k] for k in places)], [own, *true]]
            labels += ["edit", "true"]
        columns = ["source", *(str(k + 1) for k in range(len(rows[0]) - 1))]
        sheet = contact_sheet(rows, labels, columns, 96)
        write_atomically(path, lambda beside: sheet.save(beside, "PNG"))


def _judges(config: TrainConfig, faces: Faces, out: Path, console: Console) -> tuple[Judges, str]:
    cache, say = out.parent / "classifiers", lambda line: console.print(line, highlight=False)
    C_exp = classifier("C_exp", config, faces, cache, say) if config.losses.au else None
    vgg19 = _official_vgg19(config.losses.vgg19) if config.losses.perceptual and config.losses.vgg19 else None
    C_id = classifier("C_id", config, faces, cache, say) if _needs_C_id(config) else None
    if not config.losses.perceptual:
        phi = "none, the term has no weight"
    elif vgg19 is not None:
        phi = f"relu3_1 of VGG19 with the weights in {config.losses.vgg19}"
    else:
        phi = "relu3_1 of C_id, no VGG19 weights were given"
    say(f"φ₃ of the perceptual loss: {phi}.")
    return Judges(C_exp, C_id, vgg19), phi


def _objective(config: TrainConfig, judges: Judges) -> Objective:
    w, network = config.losses, config.network
    D_z = LatentDiscriminator(network.latent_size) if w.latent and network.form == "latent" else None
    D_img = ImageDiscriminator(config.image_size, config.critic_widths) if w.adversarial else None
    return channels_last(Objective(EGGAN(config.model), w, judges, D_z, D_img))


def _start(name: str, config: ModelConfig) -> EGGAN:
    """The model that a run starts from; the compose form's weights serve any image size, the latent form's only one."""
    model = EGGAN.from_pretrained(name)
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


def _needs_C_id(config: TrainConfig) -> bool:
    return config.losses.identity > 0 or (config.losses.perceptual > 0 and config.losses.vgg19 is None)


def _official_vgg19(path: str) -> VGG19Stage3:
    try:
        tensors = load_file(path) if path.endswith(".safetensors") else torch.load(path, weights_only=True)
        return VGG19Stage3(tensors)
    except Exception as error:
        raise EgganError(
            f"losses.vgg19: {path} does not hold the official VGG19 weights ({type(error).__name__}); give "
            "torchvision's vgg19 state dict as .pth or .safetensors, or leave it out."
        ) from None


def _without_judges(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """C_exp, C_id and φ₃ do not change in a run and lie in the cache: a checkpoint needs none of them."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(("C_exp.", "C_id.", "phi."))}


def _load_all_but_judges(objective: Objective, tensors: dict[str, Tensor]) -> None:
    own = objective.state_dict()
    if tensors.keys() != _without_judges(own).keys():
        raise ValueError("other networks than this run's")
    objective.load_state_dict({**own, **tensors})


def _settle_config(config: TrainConfig, out: Path) -> None:
    """Write the configuration into a new run folder, or check that the old one is the same."""
    path = out / "config.yaml"
    if not path.is_file():
        write_atomically(path, lambda beside: beside.write_text(config.to_yaml()))
        return
    old, new = yaml.safe_load(path.read_text()), yaml.safe_load(config.to_yaml())
    changed = [key for key in new if not isinstance(old, dict) or old.get(key) != new[key]]
    if changed:
        raise EgganError(
            f"{out} holds a run with another {', '.join(changed)}: give another --out, or the settings in {path}."
        )


def _check_finite(sums: TermSums, step: int, out: Path) -> None:
    for name, value in sums.items():
        if not math.isfinite(value):
            raise EgganError(
                f"The term {name} is {value} at step {step}: training diverged. {out / 'checkpoint'} holds the last "
                "checkpoint; try a lower learning_rate in a new run."
            )


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
