"""Beards for rendered faces: where they grow, and that they move with the face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image, ImageDraw
from scipy.interpolate import RBFInterpolator

from eggan.data import beards, draw_batch, read_faces
from eggan.data.batches import TrainingRows
from eggan.data.beards import Beards, draw_beards, with_beards

VAL = Path(__file__).parent.parent / "data" / "facsynth" / "val.parquet"
SIDE = 128


@pytest.fixture(scope="module")
def landmarks() -> torch.Tensor:
    """Of a neutral face, (68, 2), and of the same one with its mouth open."""
    faces = read_faces(VAL, 16, landmarks=True)
    assert faces.landmarks is not None
    same = (faces.identity == faces.identity[0]) & (faces.session == faces.session[0])
    rest = np.flatnonzero(same & (faces.emotion == "neutral"))[0]
    open_wide = max(np.flatnonzero(same), key=lambda row: float(faces.action_units[row, 15]))
    return faces.landmarks[[rest, open_wide]].float()


def full(count: int = 1, *, tone: float = 0.3, hang: float = 0.0) -> Beards:
    """Full and dense beards of one tone, without strands."""
    flat = torch.full((count,), 1.0)
    return Beards(
        torch.ones(count, 3), tone * torch.ones(count, 3), flat, hang * flat, torch.zeros(count, 1, SIDE, SIDE)
    )


def at(image: torch.Tensor, point: torch.Tensor) -> float:
    """Brightness, 0 to 1, at a landmark."""
    x, y = ((point + 1) / 2 * SIDE).long().tolist()
    return float((image[0, y, x] + 1) / 2)


def test_a_full_beard_covers_chin_jaw_and_moustache_and_nothing_else(landmarks: torch.Tensor) -> None:
    x = torch.full((1, 1, 3, SIDE, SIDE), 0.6)
    face, p = with_beards(x, landmarks[None, :1], full())[0, 0], landmarks[0]
    chin, moustache = (p[8] + p[57]) / 2, (p[33] + p[51]) / 2 + torch.tensor([0, 0.02])
    jaw = torch.lerp(p[4], p[48], 0.25)
    for bearded in (chin, moustache, jaw):
        assert at(face, bearded) == pytest.approx(0.8 * (0.15 + 0.85 * 0.3), abs=0.05)  # some skin shows through
    for bare in (p[30], p[36], p[27], torch.tensor([-0.95, 0.9])):
        assert at(face, bare) == pytest.approx(0.8, abs=0.01)
    assert at(face, (p[62] + p[66]) / 2) > 0.7  # thin lips, and hair ends softly


def test_a_moustache_hangs_over_the_upper_lip_and_not_over_the_lower(landmarks: torch.Tensor) -> None:
    x = torch.full((1, 1, 3, SIDE, SIDE), 0.6)
    p = landmarks[1]
    upper, lower = torch.lerp(p[51], p[57], 0.12), torch.lerp(p[57], p[51], 0.12)
    shaved, hanging = (with_beards(x, landmarks[None, 1:], full(hang=hang))[0, 0] for hang in (0.0, 1.0))
    assert at(hanging, upper) < at(shaved, upper) - 0.1
    assert at(hanging, lower) == pytest.approx(at(shaved, lower), abs=0.01)


def test_a_beard_moves_with_the_face(landmarks: torch.Tensor, generator: torch.Generator) -> None:
    x = torch.full((1, 2, 3, SIDE, SIDE), 0.6)
    shifted = torch.stack([landmarks[0], landmarks[0] + torch.tensor([8.0, 4.0]) * 2 / SIDE])[None]
    strands = torch.nn.functional.avg_pool2d(torch.randn(1, 1, SIDE, SIDE, generator=generator), 5, 1, 2)
    rest, moved = with_beards(x, shifted, full()._replace(strands=strands))[0]
    assert (rest < 0.5).any()
    torch.testing.assert_close(moved[:, 4:, 8:], rest[:, :-4, :-8], atol=0.01, rtol=0)


def test_a_chin_that_drops_takes_its_beard_along(landmarks: torch.Tensor) -> None:
    x = torch.full((1, 2, 3, SIDE, SIDE), 0.6)
    mark = torch.zeros(1, 1, SIDE, SIDE)
    column, row = ((landmarks[0, 8] * 0.7 + landmarks[0, 57] * 0.3 + 1) / 2 * SIDE).long().tolist()
    mark[..., row - 2 : row + 3, column - 2 : column + 3] = 3.0
    rest, dropped = with_beards(x, landmarks[None], full()._replace(strands=mark))[0]
    plain = with_beards(x, landmarks[None], full())[0]
    places = [
        (marked - bare).abs()[0].flatten().argmax() // SIDE for marked, bare in zip((rest, dropped), plain, strict=True)
    ]
    fell = (landmarks[1, 8, 1] - landmarks[0, 8, 1]) / 2 * SIDE
    assert fell > 4
    assert float(places[1] - places[0]) == pytest.approx(float(fell), abs=4)


def test_without_beards_images_stay_as_they_are_and_none_is_written_into(landmarks: torch.Tensor) -> None:
    x = torch.rand(2, 1, 3, SIDE, SIDE)
    before, where = x.clone(), landmarks[:, None]
    assert with_beards(x, where, full(2)._replace(parts=torch.zeros(2, 3))) is x
    one = full(2)._replace(parts=torch.tensor([[0.0, 0, 0], [1, 1, 1]]))
    shown = with_beards(x, where, one)
    assert torch.equal(shown[0], x[0])
    assert not torch.equal(shown[1], x[1])
    assert torch.equal(x, before)


def test_the_spline_is_scipys(generator: torch.Generator) -> None:
    points, values, where = (torch.rand(2, n, 2, generator=generator, dtype=torch.float64) for n in (20, 20, 50))
    ours = beards._spline(points, values, where)
    for k in range(2):
        kernel = {"kernel": "thin_plate_spline", "smoothing": beards.SMOOTHING}
        theirs = RBFInterpolator(points[k].numpy(), values[k].numpy(), **kernel)(where[k].numpy())
        assert_allclose(ours[k].numpy(), theirs, rtol=0, atol=1e-6)


def test_what_lies_inside_an_outline_is_what_pillow_fills() -> None:
    star = torch.tensor(
        [[0.0, -0.9], [0.25, -0.2], [0.9, -0.1], [0.3, 0.25], [0.5, 0.9], [0, 0.4], [-0.7, 0.8], [-0.2, 0]]
    )
    inside = beards._inside(star[None], SIDE)[0, 0]
    picture = Image.new("L", (SIDE // 2, SIDE // 2))
    corners = [tuple(corner) for corner in ((star + 1) / 2 * (SIDE // 2) - 0.5).tolist()]
    ImageDraw.Draw(picture).polygon(corners, fill=1)
    filled = np.asarray(picture)
    assert inside.sum() > 500
    assert (inside.numpy() != filled).mean() < 0.03  # whether a pixel on the line is inside is a matter of taste


def test_a_third_of_the_items_wears_a_beard_of_any_kind(generator: torch.Generator) -> None:
    drawn = draw_beards(2000, 48, generator)
    worn = drawn.parts.any(dim=1)
    assert worn.float().mean() == pytest.approx(beards.WORN, abs=0.03)
    assert {tuple(kind) for kind in drawn.parts[worn].tolist()} == {tuple(kind) for kind in beards.STYLES.tolist()}
    assert drawn.tone.min() > 0.05
    assert drawn.tone.max() < 1.4
    assert (drawn.tone[:, 0] >= drawn.tone[:, 2]).all()
    assert drawn.strands.mean() == pytest.approx(0, abs=0.02)
    assert drawn.strands.std() == pytest.approx(1, abs=0.05)


def test_only_randomised_faces_with_landmarks_get_beards(
    make_faces_file: Callable[..., Path], landmarks: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr("eggan.data.batches.with_beards", lambda x, points, _: seen.append(points) or x)
    unknown = read_faces(make_faces_file(), 32)
    known = replace(unknown, landmarks=landmarks[:1].half().expand(24, -1, -1).clone())
    for faces, randomised in ((unknown, True), (known, False)):
        draw_batch(TrainingRows(faces), 8, paired=True, generator=torch.Generator(), randomised=randomised)
    assert not seen
    draw_batch(TrainingRows(known), 64, paired=True, generator=torch.Generator(), randomised=True, part=slice(8, 64))
    (points,) = seen
    assert points.shape == (56, 2, 68, 2)
    mirrored = points[:, 0, 0, 0] > 0
    assert 10 < mirrored.sum() < 46
    as_it_was = torch.where(mirrored[:, None, None, None], points * torch.tensor([-1, 1]), points)
    assert torch.equal(as_it_was, known.landmarks[0].expand(56, 2, -1, -1))
    assert torch.equal(known.landmarks[0], landmarks[0].half())
