"""What the two judges' trainings share: the schedule by the clock, the moving average, and the disturbances."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from torch import Tensor, nn

from eggan.data import relight
from eggan.errors import EgganError
from eggan.estimator import ActionUnitEstimator, EstimatorConfig, as_steps
from eggan.training import clock, estimator
from eggan.training.clock import by_the_clock, moving_average
from eggan.training.disturbance import among_photographs, as_if_photographed, compress, occlude, randomise
from eggan.training.photographs import aligned_crops

Disturbance = Callable[[Tensor, torch.Generator], Tensor]


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    """Smooth pictures (24, 3, 32, 32) in [-1, 1]."""
    x = torch.rand(24, 3, 4, 4, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(x, size=32, mode="bilinear")


def test_the_rate_rises_over_the_warm_up_and_falls_as_a_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 60 * 1000))
    monkeypatch.setattr(clock.time, "monotonic", lambda: float(next(now)))
    optimizer = torch.optim.SGD(
        [{"params": [nn.Parameter(torch.zeros(1))], "lr": 1.0}, {"params": [nn.Parameter(torch.zeros(1))], "lr": 5.0}]
    )
    rates, shares = [], []
    for done in by_the_clock(optimizer, minutes=10):
        shares.append(done)
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert_allclose(shares, np.arange(1, 600) / 600)
    assert_allclose(rates[49][0], 0.5 * 0.5 * (1 + np.cos(np.pi * 50 / 600)))
    assert_allclose(rates[299][0], 0.5)
    assert rates[-1][0] < 1e-4
    assert_allclose(np.array(rates)[:, 1], 5 * np.array(rates)[:, 0])


def test_the_moving_average_forgets_its_first_steps_and_keeps_counters() -> None:
    network = nn.BatchNorm1d(1)
    average = moving_average(network, decay=0.9)
    mean = None
    for n in range(200):
        value = float(n)
        nn.init.constant_(network.weight, value)
        network.num_batches_tracked.fill_(n)
        average.update_parameters(network)
        keep = min(0.9, (1 + n) / (10 + n))
        mean = value if mean is None else keep * mean + (1 - keep) * value
    assert_allclose(average.module.weight.item(), mean, rtol=1e-5)
    assert average.module.num_batches_tracked.item() == 199


@pytest.mark.parametrize("disturbance", [randomise, relight, occlude, compress])
def test_disturbances_keep_shape_and_input_and_repeat_for_a_seed(images: Tensor, disturbance: Disturbance) -> None:
    before = images.clone()
    first, again = (disturbance(images, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(images, before)
    assert first.shape == images.shape
    assert not torch.equal(first, images)


def test_occlusion_covers_some_images_and_leaves_the_others(images: Tensor, generator: torch.Generator) -> None:
    changed = (occlude(images, generator) != images).any(dim=1).float().mean(dim=(1, 2))
    assert 0 < (changed > 0).float().mean() < 0.5
    assert changed.max() <= 0.3


def test_compression_changes_some_images_a_little(images: Tensor, generator: torch.Generator) -> None:
    difference = (compress(images, generator) - images).abs()
    touched = difference.amax(dim=(1, 2, 3)) > 0
    assert 0 < touched.sum() < len(images)
    assert difference.mean() < 0.1


def test_a_render_that_meets_itself_as_photograph_changes_by_its_own_detail_alone(
    images: Tensor, generator: torch.Generator
) -> None:
    seen = as_if_photographed(images, images, generator)
    flat = images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    assert_allclose(as_if_photographed(flat, flat, generator), flat, atol=1e-5)
    assert (seen - images).abs().mean() < 0.05


def test_renders_among_photographs_are_seen_in_their_surroundings_and_another_light(
    generator: torch.Generator,
) -> None:
    grey, photos = torch.full((400, 3, 16, 16), 127, dtype=torch.uint8), torch.zeros(5, 3, 16, 16, dtype=torch.uint8)
    x = among_photographs(grey, photos, generator)
    assert x.shape == grey.shape
    assert x.min() >= -1
    assert x.max() <= 1
    corner, middle = x[:, :, 0, 0].mean(dim=1), x[:, :, 8, 8].mean(dim=1)
    assert 0.4 < (corner < -0.9).float().mean() < 0.6
    lit, unlit = ((half - half.mean(dim=1, keepdim=True)).abs().amax(dim=1) > 0.01 for half in x[:, :, 8, 8].split(200))
    assert lit.float().mean() > 0.7
    assert not unlit.any()
    assert middle.max() > 0.1


def test_intensities_are_the_sum_of_their_steps() -> None:
    u = torch.tensor([[0.0, 0.3, 1.0, 2.6, 5.0]])
    steps = as_steps(u)
    assert_allclose(steps[0, 3], [1, 1, 0.6, 0, 0], atol=1e-6)
    assert_allclose(steps[0, 0], np.zeros(5))
    assert_allclose(steps.sum(dim=2), u, atol=1e-6)


@pytest.fixture
def small_estimator() -> ActionUnitEstimator:
    return ActionUnitEstimator(EstimatorConfig(image_size=32, widths=(8, 8, 8, 8), hidden=16)).eval()


def test_an_estimator_reads_a_face_and_its_mirror_image_alike(
    images: Tensor, small_estimator: ActionUnitEstimator
) -> None:
    readings = small_estimator.read(images)
    assert readings.std() > 0
    assert_allclose(small_estimator.read(images.flip(-1)), readings, atol=1e-5)


def test_a_reading_is_the_sum_of_what_both_sides_climb(images: Tensor, small_estimator: ActionUnitEstimator) -> None:
    with torch.no_grad():
        sides = [small_estimator(x).sigmoid().sum(dim=2) for x in (images, images.flip(-1))]
    assert sides[0].shape == (24, 17)
    assert_allclose(small_estimator.read(images, batch_size=7), (sides[0] + sides[1]) / 2, atol=1e-5)


def test_rows_are_drawn_by_how_far_an_au_stands_by_itself(generator: torch.Generator) -> None:
    u = torch.zeros(4, 17)
    u[0, 3], u[1, 3], u[1, 4], u[2, 4] = 4, 4, 4, 1  # AU 3 alone, with AU 4, AU 4 alone but weak, nothing
    telling = estimator.distinctness(u)
    shares = torch.tensor([[4 / 5, 0], [4 / 9, 4 / 9], [0, 1 / 2], [0, 0]])
    assert_allclose(telling, (shares / shares.sum(dim=0)).sum(dim=1), atol=1e-6)
    drawn = torch.bincount(estimator.draw_rows(telling, 40_000, generator), minlength=4) / 40_000
    assert_allclose(drawn, (telling / telling.sum() + 1 / 4) / 2, atol=0.02)


def test_photographs_teach_an_estimator_only_once_it_knows_something(
    make_faces_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    generator: torch.Generator,
) -> None:
    photos = torch.randint(0, 256, (5, 3, 32, 32), generator=generator, dtype=torch.uint8)
    shown: list[int] = []

    def disturb(x: Tensor, generator: torch.Generator) -> Tensor:
        shown.append(len(x))
        return x

    now = iter(range(1000))
    monkeypatch.setattr(clock.time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(estimator, "EstimatorConfig", lambda: EstimatorConfig(image_size=32, widths=(8, 8, 8, 8)))
    monkeypatch.setattr(estimator, "aligned_crops", lambda folder, size, cache: photos)
    monkeypatch.setattr(estimator, "disturb", disturb)
    data, val = (
        make_faces_file(name, people=people) for name, people in (("train.parquet", "ab"), ("val.parquet", "c"))
    )
    out = tmp_path / "out"
    estimator.train(data, val, tmp_path, None, out, 0.2, 4, 1)
    assert shown == [4, 4] + [6] * 9
    read = ActionUnitEstimator.from_pretrained(out).read(torch.rand(3, 3, 32, 32, generator=generator))
    assert read.shape == (3, 17)
    assert ((read > 0) & (read < 5)).all()


def test_photographs_from_nowhere_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(EgganError, match=r"There is no folder .*nowhere\.$"):
        aligned_crops(tmp_path / "nowhere", 32, tmp_path / "kept")
    with pytest.raises(EgganError, match="No face could be aligned in any file"):
        aligned_crops(tmp_path, 32, tmp_path / "kept")


def test_photographs_are_aligned_once_until_one_changes(
    tmp_path: Path, neutral_face: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = tmp_path / "photos", tmp_path / "kept"
    folder.mkdir()
    neutral_face.save(folder / "a.png")
    (folder / "b.png").write_bytes(b"no picture")
    first = aligned_crops(folder, 32, cache)
    with monkeypatch.context() as patch:
        patch.setattr("eggan.training.photographs.detect", lambda pixels: 1 / 0)
        assert torch.equal(aligned_crops(folder, 32, cache), first)
    neutral_face.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "a.png")
    mirrored = aligned_crops(folder, 32, cache)
    assert mirrored.shape == first.shape == (1, 3, 32, 32)
    assert (mirrored.flip(-1).float() - first.float()).abs().mean() < (mirrored.float() - first.float()).abs().mean()
