"""The protocol: every neutral image edited to every other image of its person and session, and judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from eggan.action_units import COLUMNS, EMOTIONS, MAX_INTENSITY, NUMBERS
from eggan.data import Faces
from eggan.errors import EgganError
from eggan.evaluation.judges import ActionUnitJudge, IdentityJudge
from eggan.evaluation.metrics import Interval, au_mse, au_pcc, bootstrap, unexplained_change
from eggan.losses import ms_ssim
from eggan.method import Model, as_asked
from eggan.pixels import to_bytes, to_floats

__all__ = [
    "CrossTalk", "Figures", "Judges", "Pairs", "Sweep", "asked_for", "draw_pairs", "edit_pairs", "evaluate",
    "evaluate_paper", "squared_error",
]  # fmt: skip

BATCH = 64
PAPER_TARGETS = 1392
GEMM_SIDE = 1024


@dataclass(frozen=True)
class Pairs:
    """Which row of the faces is edited to which: source and target rows, (N,) each."""

    source: np.ndarray
    target: np.ndarray


class Judges(NamedTuple):
    """Who reads AUs and who recognises people; identity None leaves Table 2 out."""

    aus: ActionUnitJudge
    identity: IdentityJudge | None


@dataclass(frozen=True)
class CrossTalk:
    """How much each AU moves when one is asked for.

    Attributes:
        moved: (17, 17), mean change that the judge reads in AU k (column) where AU j (row) was asked for alone.
        asked: (17, 17), the change that was asked for; the diagonal, and AU 25 where a jaw drop parts the lips.
    """

    moved: np.ndarray
    asked: np.ndarray

    @property
    def slopes(self) -> np.ndarray:
        """(17,) moved / asked on the diagonal: 1 is perfect."""
        return np.diag(self.moved) / np.diag(self.asked)

    @property
    def off_target(self) -> float:
        """Mean |moved| of the AUs that were not asked for."""
        return float(np.abs(self.moved[self.asked == 0]).mean())


@dataclass(frozen=True)
class Sweep:
    """Mean reading of an AU when it is asked for alone at each of `asked`: (17, len(asked))."""

    asked: tuple[float, ...]
    read: np.ndarray


@dataclass(frozen=True)
class Figures:
    """What the report prints of one model; names as in DESIGN's `summary.json`.

    Attributes:
        scalars: name to figure with its 95 % interval over people.
        per_au: name to column to figure.
        by_emotion: unexplained change of the targets of one emotion word.
        cross_talk: of the edits; None where the file has no `single` images.
        cross_talk_floor: of the true images, which is what the judge makes of a perfect edit.
        sweep: None in a quick report.
        gemm_gflops: the machine's matrix product in the same run as `edits_per_second`.
    """

    scalars: dict[str, Interval]
    per_au: dict[str, dict[str, float]]
    by_emotion: dict[str, Interval]
    cross_talk: CrossTalk | None = None
    cross_talk_floor: CrossTalk | None = None
    sweep: Sweep | None = None
    gemm_gflops: float = 0.0

    def summary(self) -> dict[str, object]:
        """The machine-readable form."""
        emotions = {f"unexplained_change_{word}": interval._asdict() for word, interval in self.by_emotion.items()}
        summary: dict[str, object] = {
            **{name: interval._asdict() for name, interval in self.scalars.items()},
            **emotions,
            **self.per_au,
        }
        for suffix, found in (("", self.cross_talk), ("_floor", self.cross_talk_floor)):
            if found is not None:
                summary[f"on_target_slope{suffix}"] = dict(zip(COLUMNS, found.slopes.tolist(), strict=True))
        return summary


def draw_pairs(faces: Faces) -> Pairs:
    """Sources: the neutral image of each person and session. Targets: every other image of the same session."""
    neutral = faces.neutral
    target = np.flatnonzero(neutral != np.arange(len(faces)))
    if not len(target):
        raise EgganError(f"{faces.path} has no session with a neutral image and another one to edit it to.")
    return Pairs(neutral[target], target)


def asked_for(model: Model, faces: Faces, target: np.ndarray) -> Tensor:
    """AUs / 5 (N, 17) by which the model is asked for these rows: their own, or for a method of words the word's."""
    return as_asked(model, faces).action_units[target] / MAX_INTENSITY


@torch.inference_mode()
def edit_pairs(model: Model, faces: Faces, source: np.ndarray, u_t: Tensor) -> Tensor:
    """Edits of source rows to target AUs / 5 (N, 17), as the picture files that a user would get: uint8 (N, 3, S, S).

    Where the targets are rows of a file, `asked_for` has them.
    The model gets the label of the source, so that its own error is measured and not also an estimator's.
    """
    edits = []
    for s, u in zip(torch.from_numpy(source).split(BATCH), u_t.split(BATCH), strict=True):
        edit = model.edit(to_floats(faces.images[s]), faces.action_units[s] / MAX_INTENSITY, u)
        edits.append(to_bytes(edit))
    return torch.cat(edits)


def evaluate(model: Model, faces: Faces, judges: Judges, *, sweep_people: int = 20) -> Figures:
    """All figures of one model on faces of the model's image size.

    Args:
        model: the editor.
        faces: people never seen in training.
        judges: who reads the edits; never trained with the model.
        sweep_people: how many neutral images the intensity sweep edits; 0 leaves it out.
    """
    pairs = draw_pairs(faces)
    s, t = pairs.source, pairs.target
    people, emotion = faces.identity[t], faces.emotion[t]
    edits = edit_pairs(model, faces, s, asked_for(model, faces, t))
    wanted = faces.action_units.numpy()[t]
    read = judges.aus.read(to_floats(faces.images)).numpy()
    readings = {"": judges.aus.read(to_floats(edits)).numpy(), "_floor": read[t], "_no_edit": read[s]}
    error = squared_error(edits, faces.images[t])
    source_error = squared_error(faces.images[s], faces.images[t])
    scalars = {"unexplained_change": bootstrap(partial(_unexplained_of, error, source_error), people)}
    scalars |= _au_scalars(readings, wanted, people)
    if judges.identity is not None:
        scalars |= _identity_scalars(judges.identity, edits, faces, pairs)
    scalars |= _reconstruction_scalars(model, faces, np.unique(s))
    asked, single = wanted - faces.action_units.numpy()[s], emotion == "single"
    moved = {kind: readings[kind] - read[s] for kind in ("", "_floor")}
    cross_talk, cross_talk_floor = (_cross_talk(change, asked, single) for change in moved.values())
    if cross_talk is not None and cross_talk_floor is not None:
        for kind, change in moved.items():
            scalars[f"off_target{kind}"] = bootstrap(partial(_off_target_of, change, asked, single), people)
    by_emotion = {}
    for word in sorted(set(emotion)):
        of = emotion == word
        by_emotion[word] = bootstrap(partial(_unexplained_of, error[of], source_error[of]), people[of])
    scalars["edits_per_second"], gemm = _speed(model, faces)
    scalars |= _cost(model, faces)
    sweep = _sweep(model, faces, judges.aus, np.unique(s)[:sweep_people]) if sweep_people else None
    return Figures(scalars, _per_au(readings, wanted), by_emotion, cross_talk, cross_talk_floor, sweep, gemm)


def evaluate_paper(model: Model, label_faces: Faces, faces: Faces, judges: Judges, *, seed: int = 0) -> Figures:
    """The paper's own protocol (Sec. 4.2): AUs of training images of eight expressions, put on test sources.

    1,392 target images are drawn from `label_faces`, a source image from `faces` for each, and MSE and PCC are taken
    between what the judge reads off target and edit (Table 1). "Real" pairs of Table 2 are two images of the source.
    """
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(np.isin(label_faces.emotion.astype(str), list(EMOTIONS)))
    t = rng.permutation(rows)[:PAPER_TARGETS]
    s = rng.integers(len(faces), size=len(t))
    edits = edit_pairs(model, faces, s, asked_for(model, label_faces, t))
    wanted = judges.aus.read(to_floats(label_faces.images[t])).numpy()
    no_edit = judges.aus.read(to_floats(faces.images[s])).numpy()
    readings = {"": judges.aus.read(to_floats(edits)).numpy(), "_floor": wanted, "_no_edit": no_edit}
    people = faces.identity[s]
    scalars = _au_scalars(readings, wanted, people)
    if judges.identity is not None:
        other = np.array([_another(faces, row, rng) for row in s])
        scalars |= _identity_scalars(judges.identity, edits, faces, Pairs(s, other))
    return Figures(scalars, _per_au(readings, wanted), {})


def _another(faces: Faces, row: int, rng: np.random.Generator) -> int:
    """Another row of the same person; the row itself where there is none."""
    others = np.flatnonzero(faces.identity == faces.identity[row])
    return int(rng.choice(others[others != row])) if len(others) > 1 else row


def _au_scalars(readings: dict[str, np.ndarray], wanted: np.ndarray, people: np.ndarray) -> dict[str, Interval]:
    def mean_of(metric: Callable[..., np.ndarray], read: np.ndarray, rows: np.ndarray) -> float:
        return float(metric(read[rows], wanted[rows]).mean())

    scalars = {
        f"{name}{suffix}": bootstrap(partial(mean_of, metric, read), people)
        for suffix, read in readings.items()
        for name, metric in (("au_mse", au_mse), ("au_pcc", au_pcc))
    }
    unread = np.isnan(readings[""]).any(axis=1).astype(float)
    if unread.any():
        scalars["unread"] = bootstrap(lambda rows: float(unread[rows].mean()), people)
    return scalars


def _per_au(readings: dict[str, np.ndarray], wanted: np.ndarray) -> dict[str, dict[str, float]]:
    return {
        f"{name}_by_au{suffix}": dict(zip(COLUMNS, metric(read, wanted).tolist(), strict=True))
        for suffix, read in readings.items()
        for name, metric in (("au_mse", au_mse), ("au_pcc", au_pcc))
    }


def _identity_scalars(judge: IdentityJudge, edits: Tensor, faces: Faces, pairs: Pairs) -> dict[str, Interval]:
    """Share of edits recognised as their source, beside true images of the same person (Table 2)."""
    people = faces.identity[pairs.source]
    source = to_floats(faces.images[pairs.source])
    others = torch.cat([to_floats(edits), to_floats(faces.images[pairs.target])])
    edited, real = judge.similarity(torch.cat([source, source]), others).numpy().reshape(2, -1)

    def mean(values: np.ndarray) -> Interval:
        return bootstrap(lambda rows: float(values[rows].mean()), people)

    return {
        "identity_accuracy": mean(edited >= judge.threshold),
        "identity_accuracy_real": mean(real >= judge.threshold),
        "identity_similarity": mean(edited),
        "identity_similarity_real": mean(real),
    }


def _reconstruction_scalars(model: Model, faces: Faces, rows: np.ndarray) -> dict[str, Interval]:
    """PSNR and MS-SSIM of G(E(I) | u) against I on the sources."""
    u = faces.action_units[rows] / MAX_INTENSITY
    again, images = edit_pairs(model, faces, rows, u), faces.images[rows]
    error = squared_error(again, images)
    psnr = 10 * np.log10(4 * images[0].numel() / np.maximum(error, 4e-16 * images[0].numel()))
    similarity = np.array(
        [ms_ssim(a[None], b[None]).item() for a, b in zip(to_floats(again), to_floats(images), strict=True)]
    )
    people = faces.identity[rows]
    return {
        "psnr": bootstrap(lambda r: float(psnr[r].mean()), people),
        "ms_ssim": bootstrap(lambda r: float(similarity[r].mean()), people),
    }


def _cross_talk(moved: np.ndarray, asked: np.ndarray, single: np.ndarray) -> CrossTalk | None:
    """Means over people of the rows in which one AU was asked for alone (AU 25 goes with AU 26).

    Rows in which the judge found no face are left out; None where an AU has no row.
    """
    single = single & ~np.isnan(moved).any(axis=1)
    which = np.where(single, asked.argmax(axis=1), -1)
    if set(which[single]) != set(range(len(NUMBERS))):
        return None
    by_au = [(moved[which == j].mean(axis=0), asked[which == j].mean(axis=0)) for j in range(len(NUMBERS))]
    return CrossTalk(np.stack([m for m, _ in by_au]), np.stack([a for _, a in by_au]))


def _off_target_of(moved: np.ndarray, asked: np.ndarray, single: np.ndarray, rows: np.ndarray) -> float:
    found = _cross_talk(moved[rows], asked[rows], single[rows])
    return found.off_target if found is not None else float("nan")


def _sweep(
    model: Model, faces: Faces, judge: ActionUnitJudge, rows: np.ndarray, asked: Sequence[float] = (0, 1, 2, 3, 4, 5)
) -> Sweep:
    targets = torch.zeros(len(NUMBERS), len(asked), len(rows), len(NUMBERS))
    for j in range(len(NUMBERS)):
        targets[j, :, :, j] = torch.tensor(asked)[:, None] / MAX_INTENSITY
    edits = edit_pairs(model, faces, np.tile(rows, len(NUMBERS) * len(asked)), targets.flatten(0, 2))
    read = judge.read(to_floats(edits)).unflatten(0, targets.shape[:3])
    return Sweep(tuple(asked), torch.stack([read[j, :, :, j].nanmean(dim=1) for j in range(len(NUMBERS))]).numpy())


def _speed(model: Model, faces: Faces) -> tuple[Interval, float]:
    """Edits a second (median, slowest, fastest of five batches), and the rate of a GEMM in the same run."""
    rows = np.arange(min(len(faces), BATCH))
    rates, u = [], faces.action_units[rows] / MAX_INTENSITY
    edit_pairs(model, faces, rows, u)
    for _ in range(5):
        start = time.perf_counter()
        edit_pairs(model, faces, rows, u)
        rates.append(len(rows) / (time.perf_counter() - start))
    a = torch.rand(GEMM_SIDE, GEMM_SIDE)
    a @ a
    start = time.perf_counter()
    for _ in range(10):
        a @ a
    gemm = 10 * 2 * GEMM_SIDE**3 / (time.perf_counter() - start) / 1e9
    return Interval(float(np.median(rates)), min(rates), max(rates)), gemm


def _cost(model: Model, faces: Faces) -> dict[str, Interval]:
    """Parameters in millions, and GFLOP of one edit (a multiplication and an addition are two)."""
    with FlopCounterMode(display=False) as counter:
        edit_pairs(model, faces, np.array([0]), faces.action_units[:1] / MAX_INTENSITY)
    exact = {
        "parameters_million": sum(p.numel() for p in model.parameters()) / 1e6,
        "gflop_per_edit": counter.get_total_flops() / 1e9,
    }
    return {name: Interval(value, value, value) for name, value in exact.items()}


def _unexplained_of(error: np.ndarray, source_error: np.ndarray, rows: np.ndarray) -> float:
    return unexplained_change(error[rows], source_error[rows])


def squared_error(x: Tensor, y: Tensor) -> np.ndarray:
    """Σ over the pixels of (x - y)², of uint8 images on the scale of [-1, 1]: (N,)."""
    chunks = [
        (to_floats(a) - to_floats(b)).square().sum(dim=(1, 2, 3))
        for a, b in zip(x.split(256), y.split(256), strict=True)
    ]
    return torch.cat(chunks).double().numpy()
