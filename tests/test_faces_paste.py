"""The way back into the photograph: an unedited crop changes nothing, an edit arrives, nothing outside moves."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_faces_warp import face_with_eyes

from eggan.errors import EgganError
from eggan.faces import Face, align, crop_transform, detect, native_size, put_back
from eggan.faces.paste import FEATHER, feather_weight
from eggan.faces.warp import Rectangle, Similarity

VAL = Path(__file__).parents[1] / "data" / "facsynth" / "val.parquet"


@cache
def table() -> list[dict[str, object]]:
    return pq.read_table(VAL, columns=["image", "identity", "session", "emotion"]).to_pylist()


def rendered(row: dict[str, object], size: int) -> Image.Image:
    image = Image.open(io.BytesIO(row["image"])).convert("RGB")
    return image.resize((size, size), Image.Resampling.BICUBIC)


@cache
def photograph(number: int) -> tuple[np.ndarray, Face]:
    """A rendered photograph: a facsynth face of 320 pixels on a grainy gradient of 640."""
    y, x = np.mgrid[:640, :640]
    background = np.stack([x / 4 + 40, y / 4 + 50, 200 - x / 5], -1)
    background += np.random.default_rng(number).normal(0, 6, background.shape)
    picture = Image.fromarray(background.clip(0, 255).astype(np.uint8))
    picture.paste(rendered(table()[number], 320), (150, 140))
    pixels = np.asarray(picture)
    (face,) = detect(pixels)
    return pixels, face


def inside(face: Face, pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    return feather_weight(crop_transform(face, 128), 128, Rectangle(0, 0, width, height)) > 0


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.square(a.astype(float) - b).mean())))


@pytest.mark.parametrize("number", [0, 200, 400, 600])
@pytest.mark.parametrize("size", [128, 64, "native"])
def test_an_unedited_crop_changes_no_pixel(number: int, size: int | str) -> None:
    pixels, face = photograph(number)
    crop = align(pixels, face, native_size(face) if size == "native" else size)
    np.testing.assert_array_equal(put_back(pixels, crop, face, crop), pixels)


@pytest.mark.parametrize("number", [0, 200])
def test_replacing_changes_nothing_outside_and_is_the_photograph_at_the_crops_scale(number: int) -> None:
    pixels, face = photograph(number)
    crop = align(pixels, face, 128)
    result, mask = put_back(pixels, crop, face), inside(face, pixels)
    np.testing.assert_array_equal(result[~mask], pixels[~mask])
    assert psnr(align(result, face, 128), crop) > 38
    assert psnr(result[mask], pixels[mask]) > 30


def test_an_edit_reaches_the_photograph_and_nothing_outside_the_feather() -> None:
    pixels, face = photograph(0)
    crop = align(pixels, face, 128)
    edited = crop.copy()
    edited[80:105, 40:88] = 255 - edited[80:105, 40:88]
    result, mask = put_back(pixels, edited, face, crop), inside(face, pixels)
    np.testing.assert_array_equal(result[~mask], pixels[~mask])
    again = align(result, face, 128)
    assert psnr(again[84:101, 44:84], edited[84:101, 44:84]) > 30
    assert psnr(again[:70], crop[:70]) > 50


def test_the_photograph_itself_is_left_alone() -> None:
    pixels, face = photograph(0)
    before = pixels.copy()
    crop = align(pixels, face)
    put_back(pixels, 255 - crop, face, crop)
    np.testing.assert_array_equal(pixels, before)


def test_a_change_of_colour_everywhere_is_taken_back_at_the_seam() -> None:
    pixels, face = photograph(0)
    crop = align(pixels, face, 128)
    pale = (crop * 0.5 + 60).astype(np.uint8) // 2 * 2
    tinted = pale + np.array([20, 10, 0], np.uint8)
    photo = put_back(pixels, pale, face)
    np.testing.assert_allclose(put_back(photo, tinted, face, pale), photo, atol=1)


@pytest.mark.parametrize("form", ["with", "without"])
def test_a_true_expression_comes_nearer_to_the_true_photograph(form: str) -> None:
    rows = table()
    source = next(row for row in rows if row["emotion"] == "neutral")
    same = [row for row in rows if (row["identity"], row["session"]) == (source["identity"], source["session"])]
    target = next(row for row in same if row["emotion"] not in ("neutral", "mixed"))
    before, after = (np.asarray(rendered(row, 128)) for row in (source, target))
    face = face_with_eyes(complex(44.7, 50.5), complex(83.4, 50.5))
    original, edited = align(before, face, 64), align(after, face, 64)
    mask = inside(face, before)
    result = put_back(before, edited, face, original if form == "with" else None)
    gain = psnr(result[mask], after[mask]) - psnr(before[mask], after[mask])
    assert gain > (5 if form == "with" else 0)


def test_two_faces_are_put_back_one_after_the_other() -> None:
    picture = Image.new("RGB", (640, 640), "grey")
    picture.paste(rendered(table()[0], 256), (20, 20))
    picture.paste(rendered(table()[200], 256), (350, 350))
    pixels = np.asarray(picture)
    faces = detect(pixels)
    assert len(faces) == 2
    result = pixels
    for face in faces:
        crop = align(result, face, 128)
        edited = crop.copy()
        edited[85:100, 50:78] //= 2
        result = put_back(result, edited, face, crop)
    for face in faces:
        assert align(result, face)[88:97, 54:74].mean() < 0.6 * align(pixels, face)[88:97, 54:74].mean()


def test_a_face_at_the_border_is_put_back() -> None:
    pixels, _ = photograph(0)
    cut = np.ascontiguousarray(pixels[170:, 190:])
    (face,) = detect(cut)
    crop = align(cut, face, 128)
    result = put_back(cut, 255 - crop, face, crop)
    assert result.shape == cut.shape
    assert (result != cut).any()
    np.testing.assert_array_equal(put_back(cut, crop, face, crop), cut)


def test_the_weight_is_1_in_the_middle_0_on_the_border_and_between_them_smooth() -> None:
    size = 128
    weight = feather_weight(Similarity(1, 0), size, Rectangle(0, 0, size, size))
    assert weight[size // 2, size // 2] == 1
    assert weight[[0, 0, -1, -1], [0, -1, 0, -1]].max() == 0
    assert max(weight[0].max(), weight[-1].max(), weight[:, 0].max(), weight[:, -1].max()) < 0.01
    line = weight[size // 2, : size // 2]
    assert (np.diff(line) >= 0).all()
    assert np.diff(line).max() < 1.6 / (FEATHER * size / 2)


@pytest.mark.parametrize(
    "crop",
    [
        np.zeros((128, 64, 3), np.uint8),
        np.zeros((128, 128), np.uint8),
        np.zeros((128, 128, 3)),
        np.zeros((8, 8, 3), np.uint8),
    ],
)
def test_a_crop_of_another_kind_is_refused_in_one_sentence(crop: np.ndarray) -> None:
    pixels, face = photograph(0)
    with pytest.raises(EgganError, match=r"^A crop to put back is square, uint8 .*\.$"):
        put_back(pixels, crop, face)
    with pytest.raises(EgganError, match=r"^A crop to put back is square, uint8 .*\.$"):
        put_back(pixels, np.zeros((128, 128, 3), np.uint8), face, crop)
