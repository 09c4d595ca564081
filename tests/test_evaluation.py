"""The protocol's figures: known answers, independent references, and an interval that covers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from torch import Tensor, nn

from eggan.data import Faces, read_faces
from eggan.errors import EgganError
from eggan.evaluation.metrics import au_mse, au_pcc, bootstrap, unexplained_change
from eggan.evaluation.protocol import Judges, _cross_talk, draw_pairs, evaluate, evaluate_paper
from eggan.evaluation.run import run_evaluation
from eggan.model import EGGAN, ComposeForm, ModelConfig


class MeanReader:
    """An estimator that reads every AU as the picture's brightness: different for different pictures."""

    name = "brightness"

    def read(self, images: Tensor) -> Tensor:
        return (2.5 + 2.5 * images.mean(dim=(1, 2, 3)))[:, None].expand(-1, 17)


class PixelVerifier:
    """One person where the pixels nearly agree."""

    name = "pixels"
    threshold = -0.02

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        return -(a - b).square().mean(dim=(1, 2, 3))


JUDGES = Judges(MeanReader(), PixelVerifier())


class FixedModel(nn.Module):
    """A model whose edit is looked up: `answer` maps rows of sources and targets to pictures."""

    asked_by = "action units"

    def __init__(self, faces: Faces, answer: Callable[[int, int], int], block: int = 4) -> None:
        super().__init__()
        self.block = block
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
            first = self.block * (source // self.block)
            wanted = next(k for k in range(first, first + self.block) if torch.equal(self.u[k], target))
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
    figures = evaluate(FixedModel(faces, lambda source, target: target), faces, JUDGES, sweep_people=0)
    assert figures.scalars["unexplained_change"] == (0, 0, 0)
    assert figures.scalars["au_mse"] == figures.scalars["au_mse_floor"]
    assert figures.scalars["au_pcc"] == figures.scalars["au_pcc_floor"]


def test_no_edit_leaves_all_unexplained_and_reads_as_no_edit(faces: Faces) -> None:
    figures = evaluate(FixedModel(faces, lambda source, target: source), faces, JUDGES, sweep_people=0)
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


def test_rows_without_a_face_do_not_count() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 50, 17))
    with_gap = x.copy()
    with_gap[[3, 9]] = np.nan
    kept = np.delete(np.arange(50), [3, 9])
    assert au_mse(with_gap, y) == pytest.approx(au_mse(x[kept], y[kept]))
    assert au_pcc(with_gap, y) == pytest.approx(au_pcc(x[kept], y[kept]))


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


def test_a_model_that_swaps_people_fails_verification(faces: Faces) -> None:
    keeps = evaluate(FixedModel(faces, lambda source, target: target), faces, JUDGES, sweep_people=0).scalars
    swaps = evaluate(FixedModel(faces, lambda source, target: (target + 8) % 24), faces, JUDGES, sweep_people=0).scalars
    assert keeps["identity_accuracy"].mean == keeps["identity_accuracy_real"].mean == 1
    assert swaps["identity_accuracy"].mean == 0
    assert swaps["identity_accuracy_real"].mean == 1


def test_perfect_reconstruction_has_ms_ssim_one(faces: Faces) -> None:
    scalars = evaluate(FixedModel(faces, lambda source, target: target), faces, JUDGES, sweep_people=0).scalars
    assert scalars["ms_ssim"].mean == pytest.approx(1, abs=1e-5)
    assert scalars["psnr"].mean > 100


def test_cross_talk_is_the_mean_movement_of_the_single_rows() -> None:
    rng = np.random.default_rng(0)
    asked = np.concatenate([4.0 * np.eye(17), 4.0 * np.eye(17), rng.uniform(0, 5, (5, 17))])
    asked[15::17][:2, 14] = 2.4  # a jaw drop parts the lips
    moved = 0.5 * asked + 0.1 * (asked == 0)
    found = _cross_talk(moved, asked, np.arange(39) < 34)
    assert found is not None
    assert found.slopes == pytest.approx(np.full(17, 0.5))
    assert found.off_target == pytest.approx(0.1)
    moved[3] = np.nan  # a face that the judge did not find: AU 5 has another row
    again = _cross_talk(moved, asked, np.arange(39) < 34)
    assert again is not None
    assert again.moved == pytest.approx(found.moved)
    assert _cross_talk(moved[:10], asked[:10], np.arange(10) < 10) is None


@pytest.mark.parametrize("edits", [True, False])
def test_the_true_images_stand_beside_the_slopes_of_edits(edits: bool, generator: torch.Generator) -> None:
    images = torch.randint(0, 256, (36, 3, 32, 32), dtype=torch.uint8, generator=generator)
    units = torch.cat([torch.zeros(1, 17), 4 * torch.eye(17)])
    words = np.array(["neutral"] + ["single"] * 17, dtype=object)
    who = np.repeat(np.array(["ann", "bob"], dtype=object), 18)
    shown = Faces(images, units.repeat(2, 1), who, np.zeros(36, np.int64), np.tile(words, 2), Path("singles"))
    model = FixedModel(shown, lambda source, target: target if edits else source, block=18)
    figures = evaluate(model, shown, Judges(MeanReader(), None), sweep_people=0)
    assert figures.cross_talk is not None
    assert figures.cross_talk_floor is not None
    assert figures.cross_talk_floor.slopes.any()
    expected = figures.cross_talk_floor.slopes if edits else np.zeros(17)
    assert figures.cross_talk.slopes == pytest.approx(expected)
    assert (figures.scalars["off_target"] == figures.scalars["off_target_floor"]) is edits


def test_the_papers_protocol_reads_the_label_source_as_its_own_floor(
    faces: Faces, make_faces_file: Callable[..., Path]
) -> None:
    others = read_faces(make_faces_file("train.parquet", people=("dan", "eve")), 32)
    model = EGGAN(ModelConfig(image_size=32, network=ComposeForm(widths=(8, 16)))).eval()
    figures = evaluate_paper(model, others, faces, JUDGES)
    assert figures.scalars["au_mse_floor"] == (0, 0, 0)
    assert figures.scalars["au_pcc_floor"].mean == pytest.approx(1)
    assert figures.scalars["au_mse"].mean > 0


def test_real_pairs_of_the_papers_protocol_are_two_images(make_faces_file: Callable[..., Path]) -> None:
    class SamePicture(PixelVerifier):
        def similarity(self, a: Tensor, b: Tensor) -> Tensor:
            return -1 + (a == b).flatten(1).all(dim=1).float()

    shown = read_faces(make_faces_file(), 32)
    model = EGGAN(ModelConfig(image_size=32, network=ComposeForm(widths=(8, 16)))).eval()
    figures = evaluate_paper(model, shown, shown, Judges(MeanReader(), SamePicture()))
    assert figures.scalars["identity_accuracy_real"].mean == 0
    alone = shown.select(np.unique(shown.identity, return_index=True)[1])
    figures = evaluate_paper(model, shown, alone, Judges(MeanReader(), SamePicture()))
    assert figures.scalars["identity_accuracy_real"].mean == 1


@pytest.mark.parametrize("protocol", ["own", "paper"])
def test_a_report_holds_the_figures_in_all_forms_and_is_the_same_again(
    protocol: Literal["own", "paper"], make_faces_file: Callable[..., Path], tmp_path: Path
) -> None:
    make_faces_file("train.parquet", people=("dan", "eve"))
    data, out = make_faces_file("test.parquet"), tmp_path / "report"
    models = {"toy": EGGAN(ModelConfig(image_size=32, network=ComposeForm(widths=(8, 16)))).eval()}
    text = run_evaluation(models, data, JUDGES, out, protocol=protocol)
    names = {path.name for path in out.iterdir()}
    assert {"report.md", "index.html", "summary.json", "figures.csv", "fig2.png", "fig3.png", "au_pcc.png"} <= names
    assert (out / "report.md").read_text() == text
    assert "read by brightness; people recognised by pixels" in text
    summary = json.loads((out / "summary.json").read_text())["toy"]
    assert len(summary["au_pcc_by_au"]) == 17
    assert set(summary["au_mse"]) == {"mean", "low", "high"}
    assert "http" not in (out / "index.html").read_text(), "the page is self-contained"
    again = run_evaluation(models, data, JUDGES, out, protocol=protocol)
    assert _without_speed(again) == _without_speed(text)


def _without_speed(text: str) -> list[str]:
    return [line for line in text.splitlines() if "edits a second" not in line and "GFLOP" not in line]


def test_a_report_does_not_replace_a_folder_with_other_files(
    make_faces_file: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(EgganError, match=r"holds something else \(notes\.txt\)"):
        run_evaluation({}, make_faces_file(), JUDGES, out)
    assert (out / "notes.txt").read_text() == "mine"
