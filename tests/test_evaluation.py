"""The protocol's figures: known answers, independent references, and an interval that covers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from torch import Tensor, nn

from eggan.data import Faces, read_faces
from eggan.errors import EgganError
from eggan.evaluation.metrics import au_mse, au_pcc, bootstrap, unexplained_change
from eggan.evaluation.protocol import draw_pairs, evaluate
from eggan.evaluation.report import write_report


class MeanReader(nn.Module):
    """An estimator that reads every AU as the picture's brightness: different for different pictures."""

    def read(self, images: Tensor) -> Tensor:
        return (2.5 + 2.5 * images.mean(dim=(1, 2, 3)))[:, None].expand(-1, 17)


class FixedModel(nn.Module):
    """A model whose edit is looked up: `answer` maps rows of sources and targets to pictures."""

    def __init__(self, faces: Faces, answer: Callable[[int, int], int]) -> None:
        super().__init__()
        self.images = faces.images.float() / 127.5 - 1
        self.u = faces.action_units / 5
        self.answer = answer

    def edit(self, I_i: Tensor, u_i: Tensor, u_t: Tensor) -> Tensor:
        def row(image: Tensor, u: Tensor | None) -> int:
            same = (self.images == image).flatten(1).all(1)
            return int(same.nonzero()[0])

        out = []
        for image, target in zip(I_i, u_t, strict=True):
            source = row(image, None)
            block = 4 * (source // 4)
            wanted = next(block + k for k in range(4) if torch.equal(self.u[block + k], target))
            out.append(self.images[self.answer(source, wanted)])
        return torch.stack(out)


@pytest.fixture
def faces(make_faces_file: Callable[..., Path]) -> Faces:
    return read_faces(make_faces_file(), 32)


def test_pairs_lead_from_the_neutral_image_to_all_others_of_the_session(faces: Faces) -> None:
    pairs = draw_pairs(faces)
    assert len(pairs.target) == 3 * 2 * 3
    assert (faces.emotion[pairs.source] == "neutral").all()
    assert (faces.emotion[pairs.target] != "neutral").all()
    assert (faces.identity[pairs.source] == faces.identity[pairs.target]).all()
    assert (faces.session[pairs.source] == faces.session[pairs.target]).all()


def test_the_true_target_leaves_nothing_unexplained_and_reads_as_the_floor(faces: Faces) -> None:
    figures = evaluate(FixedModel(faces, lambda source, target: target), faces, MeanReader())
    assert figures.scalars["unexplained_change"] == (0, 0, 0)
    assert figures.scalars["au_mse"] == figures.scalars["au_mse_floor"]
    assert figures.scalars["au_pcc"] == figures.scalars["au_pcc_floor"]


def test_no_edit_leaves_all_unexplained_and_reads_as_no_edit(faces: Faces) -> None:
    figures = evaluate(FixedModel(faces, lambda source, target: source), faces, MeanReader())
    assert figures.scalars["unexplained_change"] == (1, 1, 1)
    assert all(interval.mean == 1 for interval in figures.by_emotion.values())
    assert figures.scalars["au_mse"] == figures.scalars["au_mse_no_edit"]


def test_a_file_without_neutral_images_is_refused(make_faces_file: Callable[..., Path]) -> None:
    path = make_faces_file(emotion=lambda words: ["happy"] * len(words))
    with pytest.raises(EgganError, match="no session with a neutral image"):
        draw_pairs(read_faces(path, 32))


def test_mse_and_pcc_agree_with_numpy_and_scipy() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 50, 17))
    assert au_mse(x, y) == pytest.approx([np.mean((x[:, j] - y[:, j]) ** 2) for j in range(17)])
    assert au_pcc(x, y) == pytest.approx([pearsonr(x[:, j], y[:, j])[0] for j in range(17)])


def test_pcc_of_a_constant_reading_is_zero() -> None:
    assert au_pcc(np.ones((9, 2)), np.random.default_rng(0).normal(size=(9, 2))).tolist() == [0, 0]


def test_unexplained_change_is_a_ratio_of_sums_not_a_mean_of_ratios() -> None:
    assert unexplained_change(np.array([1.0, 0.0]), np.array([1.0, 3.0])) == 0.25


def test_the_interval_covers_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(60), 4).astype(str)
    covered = 0
    for trial in range(400):
        values = np.repeat(rng.normal(size=60), 4) + rng.normal(size=240)
        interval = bootstrap(lambda rows, v=values: float(v[rows].mean()), people, draws=200, seed=trial)
        covered += interval.low <= 0 <= interval.high
    assert 0.895 <= covered / 400 <= 0.975  # about 93.5 % for a percentile interval of 60 people, ± 3 standard errors


def test_a_report_holds_the_figures_in_both_forms(faces: Faces, tmp_path: Path) -> None:
    figures = {"copy": evaluate(FixedModel(faces, lambda source, target: source), faces, MeanReader())}
    text = write_report(figures, faces.path, tmp_path / "report")
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary["copy"]["unexplained_change"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert len(summary["copy"]["au_pcc_by_au"]) == 17
    assert "| unexplained change | 1.000 [1.000, 1.000] |" in text
    assert (tmp_path / "report" / "report.md").read_text() == text
