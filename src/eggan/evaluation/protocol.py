"""The protocol: every neutral image edited to every other image of its person and session, and judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from eggan.action_units import COLUMNS, MAX_INTENSITY
from eggan.data import Faces
from eggan.errors import EgganError
from eggan.estimator import ActionUnitEstimator
from eggan.evaluation.metrics import Interval, au_mse, au_pcc, bootstrap, unexplained_change
from eggan.model import EGGAN

__all__ = ["Figures", "Pairs", "draw_pairs", "evaluate"]

BATCH = 64


@dataclass(frozen=True)
class Pairs:
    """Which row of the faces is edited to which: source and target rows, (N,) each."""

    source: np.ndarray
    target: np.ndarray


@dataclass(frozen=True)
class Figures:
    """What the report prints of one model; names as in DESIGN's `summary.json`.

    Attributes:
        scalars: name to figure with its 95 % interval over people.
        per_au: name to column to figure.
        by_emotion: unexplained change of the targets of one emotion word.
    """

    scalars: dict[str, Interval]
    per_au: dict[str, dict[str, float]]
    by_emotion: dict[str, Interval]

    def summary(self) -> dict[str, object]:
        """The machine-readable form."""
        emotions = {f"unexplained_change_{word}": interval._asdict() for word, interval in self.by_emotion.items()}
        return {**{name: interval._asdict() for name, interval in self.scalars.items()}, **emotions, **self.per_au}


def draw_pairs(faces: Faces) -> Pairs:
    """Sources: the neutral image of each person and session. Targets: every other image of the same session."""
    neutral: dict[int, int] = {}
    shots = faces.shots
    for row in np.flatnonzero(faces.emotion == "neutral"):
        neutral.setdefault(int(shots[row]), int(row))
    target = np.array([t for t in range(len(faces)) if shots[t] in neutral and t != neutral[shots[t]]])
    if not len(target):
        raise EgganError(f"{faces.path} has no session with a neutral image and another one to edit it to.")
    return Pairs(np.array([neutral[shots[t]] for t in target]), target)


@torch.inference_mode()
def evaluate(model: EGGAN, faces: Faces, estimator: ActionUnitEstimator) -> Figures:
    """All figures of one model.

    The model gets the labels of source and target, so that its own error is measured and not also that of the
    estimator on the source. Faces must be at the model's image size.
    """
    pairs = draw_pairs(faces)
    images, u = faces.images.float() / 127.5 - 1, faces.action_units / MAX_INTENSITY
    read_edit, errors, source_errors = [], [], []
    for s, t in zip(_chunks(pairs.source), _chunks(pairs.target), strict=True):
        edit = _to_eight_bits(model.edit(images[s], u[s], u[t]))
        read_edit.append(estimator.read(edit).numpy())
        errors.append(_squared_error(edit, images[t]))
        source_errors.append(_squared_error(images[s], images[t]))
    read = estimator.read(images).numpy()
    return _figures(
        wanted=faces.action_units.numpy()[pairs.target],
        read_edit=np.concatenate(read_edit),
        read_target=read[pairs.target],
        read_source=read[pairs.source],
        error=np.concatenate(errors),
        source_error=np.concatenate(source_errors),
        people=faces.identity[pairs.target],
        emotion=faces.emotion[pairs.target],
        pixels=images[0].numel(),
    )


def _figures(
    wanted: np.ndarray,
    read_edit: np.ndarray,
    read_target: np.ndarray,
    read_source: np.ndarray,
    error: np.ndarray,
    source_error: np.ndarray,
    people: np.ndarray,
    emotion: np.ndarray,
    pixels: int,
) -> Figures:
    def mean_of(metric: Callable[..., np.ndarray], read: np.ndarray, rows: np.ndarray) -> float:
        return float(metric(read[rows], wanted[rows]).mean())

    over_people = partial(bootstrap, people=people)
    readings = {"": read_edit, "_floor": read_target, "_no_edit": read_source}
    scalars = {
        "unexplained_change": over_people(partial(_unexplained_of, error, source_error)),
        "psnr": over_people(lambda rows: _psnr(error[rows], pixels)),
    }
    for suffix, read in readings.items():
        scalars[f"au_mse{suffix}"] = over_people(partial(mean_of, au_mse, read))
        scalars[f"au_pcc{suffix}"] = over_people(partial(mean_of, au_pcc, read))
    per_au = {
        f"{name}_by_au{suffix}": dict(zip(COLUMNS, metric(read, wanted).tolist(), strict=True))
        for suffix, read in readings.items()
        for name, metric in (("au_mse", au_mse), ("au_pcc", au_pcc))
    }
    by_emotion = {}
    for word in sorted(set(emotion)):
        e, s, who = (array[emotion == word] for array in (error, source_error, people))
        by_emotion[word] = bootstrap(partial(_unexplained_of, e, s), who)
    return Figures(scalars, per_au, by_emotion)


def _psnr(error: np.ndarray, pixels: int) -> float:
    """Mean peak signal-to-noise ratio in dB of images in [-1, 1], from their summed squared errors; 160 at most."""
    return float((10 * np.log10(4 * pixels / np.maximum(error, 4e-16 * pixels))).mean())


def _unexplained_of(error: np.ndarray, source_error: np.ndarray, rows: np.ndarray) -> float:
    return unexplained_change(error[rows], source_error[rows])


def _chunks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[k : k + BATCH] for k in range(0, len(rows), BATCH)]


def _to_eight_bits(images: Tensor) -> Tensor:
    """What a user gets is a picture file: judge that."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def _squared_error(x: Tensor, y: Tensor) -> np.ndarray:
    return (x - y).square().sum(dim=(1, 2, 3)).double().numpy()
