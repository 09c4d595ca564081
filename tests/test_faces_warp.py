"""Similarity transforms: closed form and inverse; resampling: no aliasing, no shift, edges repeated."""

from __future__ import annotations

import cmath

import numpy as np
import pytest
from PIL import Image

from eggan.faces.alignment import EYE_LINE, align, crop_transform, native_size
from eggan.faces.detection import EYE_OFFSET, Face
from eggan.faces.warp import Rectangle, Similarity, resample, similarity, warp_values

IDENTITY = Similarity(1, 0)


def face_with_eyes(right: complex, left: complex) -> Face:
    """A face whose eye centres are exactly these."""
    outwards, down = EYE_OFFSET
    across = (left - right) / (1 + 2 * outwards)
    a, b = right - across * complex(-outwards, down), left - across * complex(outwards, down)
    half = 1.2 * abs(across)
    x, y = ((right + left) / 2).real, ((right + left) / 2).imag
    points = [(z.real, z.imag) for z in (a, a, b, b, (a + b) / 2 + across * 0.5j)]
    return Face((x - half, y - half / 2, x + half, y + 1.5 * half), 1.0, tuple(points))


def smooth(height: int, width: int) -> np.ndarray:
    """A picture without fine detail."""
    y, x = np.mgrid[:height, :width] + 0.5
    waves = [np.sin(x / 31 + k) * np.cos(y / 27 - k) for k in range(3)]
    return ((np.stack(waves, -1) + 1) * 127).astype(np.uint8)


def test_the_similarity_takes_the_points_to_the_points() -> None:
    source, target = ((3.0, 4.0), (10.0, 5.0)), ((44.7, 50.5), (83.4, 50.5))
    transform = similarity(source, target)
    for point, goal in zip(source, target, strict=True):
        assert transform.apply(point) == pytest.approx(goal, abs=1e-12)


def test_the_similarity_recovers_a_known_rotation_scale_and_shift() -> None:
    a, b = 1.7 * cmath.exp(0.4j), complex(-3, 8)
    points = ((1.0, 2.0), (-5.0, 7.0))
    images = [a * complex(*point) + b for point in points]
    found = similarity(points, ((images[0].real, images[0].imag), (images[1].real, images[1].imag)))
    assert found.a == pytest.approx(a, abs=1e-12)
    assert found.b == pytest.approx(b, abs=1e-12)
    assert found.scale == pytest.approx(1.7)


def test_the_inverse_leads_back() -> None:
    transform = Similarity(0.3 * cmath.exp(-2j), complex(100, -40))
    for point in ((0.0, 0.0), (12.5, -7.25), (1e4, 3e4)):
        assert transform.inverse().apply(transform.apply(point)) == pytest.approx(point, rel=1e-12, abs=1e-9)


def test_bounds_hold_a_turned_square() -> None:
    assert Similarity(cmath.exp(1j * cmath.pi / 4), 0).bounds(10, 10) == Rectangle(-8, 0, 8, 15)


def test_resampling_by_the_identity_is_exact() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resample(picture, IDENTITY, 40), picture)


@pytest.mark.parametrize("shrink", [1.5, 2, 3, 5, 8.5, 20])
def test_shrinking_keeps_places_and_low_passes(shrink: float) -> None:
    size = 64
    side = round(size * shrink)
    ramp = np.repeat(np.linspace(20, 235, side)[None, :, None], side, 0).repeat(3, 2).round().astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 2, (side, side, 1), dtype=np.uint8).repeat(3, 2) * 255
    cut = resample(ramp, Similarity(size / side, 0), size)
    inner = slice(4, -4)
    expected = 20 + ((np.arange(size) + 0.5) * side / size - 0.5) / (side - 1) * 215
    np.testing.assert_allclose(cut[8, inner, 0], expected[inner], atol=1.01)
    assert abs((cut[8, inner, 0] - expected[inner]).mean()) < 0.45  # blocks of whole numbers, halves rounded up
    assert resample(noise, Similarity(size / side, 0), size).std() < 1.6 * 127.5 / shrink


def test_a_checkerboard_shrinks_to_grey_and_not_to_moire() -> None:
    board = ((np.indices((400, 400)).sum(0) % 2) * 255).astype(np.uint8)[..., None].repeat(3, 2)
    transform = Similarity(cmath.exp(0.2j) / 3.1, complex(20, -5))
    middle = resample(board, transform, 100)[30:70, 40:80]
    assert abs(middle.astype(int) - 127).max() <= 6


def test_beyond_the_picture_its_edge_is_repeated() -> None:
    picture = np.zeros((50, 50, 3), np.uint8)
    picture[:, 0], picture[:, -1] = (200, 0, 0), (0, 0, 200)
    cut = resample(picture, Similarity(1, complex(25, 25)), 100)
    np.testing.assert_array_equal(cut[:, :25], np.broadcast_to([200, 0, 0], (100, 25, 3)))
    np.testing.assert_array_equal(cut[:, 75:], np.broadcast_to([0, 0, 200], (100, 25, 3)))


def test_warped_values_invert_resampling_of_a_smooth_picture() -> None:
    picture = smooth(200, 240)
    transform = Similarity(0.8 * cmath.exp(0.3j), complex(10, -30))
    cut = resample(picture, transform, 128)
    window = Rectangle(70, 60, 120, 110)
    back = warp_values(cut.astype(np.float32), transform, window)
    assert abs(back - picture[60:110, 70:120]).max() < 3


@pytest.mark.parametrize("size", [64, 128, 300])
def test_alignment_puts_marked_eyes_on_the_eye_line(size: int) -> None:
    right, left = complex(260, 310), complex(371, 280)
    picture = np.zeros((640, 640, 3), np.uint8)
    y, x = np.mgrid[:640, :640] + 0.5
    for channel, eye in enumerate((right, left)):
        picture[..., channel] = (255 * np.exp(-((x - eye.real) ** 2 + (y - eye.imag) ** 2) / 128)).round()
    crop = align(picture, face_with_eyes(right, left), size).astype(float)
    y, x = np.mgrid[:size, :size] + 0.5
    for channel, (ex, ey) in enumerate(EYE_LINE):
        mass = crop[..., channel].sum()
        assert (x * crop[..., channel]).sum() / mass / size == pytest.approx(ex, abs=0.002)
        assert (y * crop[..., channel]).sum() / mass / size == pytest.approx(ey, abs=0.002)


def test_the_native_crop_has_the_photographs_scale() -> None:
    face = face_with_eyes(complex(300, 300), complex(300 + 3 * 38.7, 300))
    assert native_size(face) == 3 * 128
    assert crop_transform(face, native_size(face)).scale == pytest.approx(1)


def test_a_crop_over_the_border_of_the_photograph_has_no_black() -> None:
    picture = np.full((120, 120, 3), 90, np.uint8)
    assert (align(picture, face_with_eyes(complex(5, 5), complex(60, 8)), 128) == 90).all()


def test_a_crop_in_another_scale_is_the_same_picture() -> None:
    picture = smooth(500, 500)
    face = face_with_eyes(complex(200, 200), complex(310, 230))
    large = Image.fromarray(align(picture, face, 256)).resize((128, 128), Image.Resampling.BOX)
    assert abs(np.asarray(large).astype(int) - align(picture, face, 128)).max() <= 3
