"""Faces are found where they were drawn, whatever the photograph's size and orientation, and chosen by `--face`."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from eggan import faces
from eggan.errors import EgganError
from eggan.faces import Face, align, detect, select
from eggan.faces import detection as module

VAL = Path(__file__).parents[1] / "data" / "facsynth" / "val.parquet"


@cache
def rendered(row: int) -> tuple[Image.Image, np.ndarray]:
    """A facsynth image at 256 pixels, and the means of its eyes' six landmarks there, as x + i y."""
    table = pq.read_table(VAL, columns=["image", "landmarks"]).slice(row, 1).to_pylist()[0]
    image = Image.open(io.BytesIO(table["image"])).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC)
    points = 2 * np.array(table["landmarks"]).reshape(68, 2) @ [1, 1j]
    return image, np.array([points[36:42].mean(), points[42:48].mean()])


def photograph(*places: tuple[int, int, int], size: tuple[int, int] = (640, 640)) -> np.ndarray:
    """Faces on grey: for each (row, left, top) one at 256 pixels."""
    picture = Image.new("RGB", size, (120, 130, 140))
    for row, left, top in places:
        picture.paste(rendered(row)[0], (left, top))
    return np.asarray(picture)


def eyes(face: Face) -> np.ndarray:
    return np.array([complex(*eye) for eye in face.eyes])


def error(found: np.ndarray, true: np.ndarray) -> float:
    """Largest distance of an eye, in eye distances."""
    return float(abs(found - true).max() / abs(true[1] - true[0]))


@pytest.mark.parametrize("row", [0, 100, 200, 300, 400, 500])
def test_a_drawn_face_is_found_and_its_eyes_are_within_6_percent(row: int) -> None:
    (face,) = detect(photograph((row, 150, 220)))
    assert error(eyes(face), rendered(row)[1] + complex(150, 220)) < 0.06
    assert face.alignable
    assert abs(face.turn) < 0.15


def test_the_right_eye_is_the_persons_own() -> None:
    (face,) = detect(photograph((0, 150, 220)))
    (right, _), (left, _) = face.eyes
    assert right < left
    outer, inner, inner2, outer2, nose = (x for x, _ in face.points)
    assert outer < inner < nose < inner2 < outer2


def test_a_mirrored_photograph_gives_mirrored_eyes() -> None:
    pixels = photograph((0, 150, 220))
    (face,), (mirrored,) = detect(pixels), detect(np.ascontiguousarray(pixels[:, ::-1]))
    assert error(640 - eyes(mirrored).conj()[::-1], eyes(face)) < 0.02


@pytest.mark.parametrize("angle", [30, -40, 90, 180, 270])
def test_a_turned_photograph_is_aligned_to_the_same_crop(angle: int) -> None:
    pixels = photograph((0, 190, 190))
    turned = np.asarray(Image.fromarray(pixels).rotate(angle, Image.Resampling.BICUBIC, fillcolor=(120, 130, 140)))
    (face,), (other,) = detect(pixels), detect(turned)
    middle = complex(320, 320)
    expected = (eyes(face) - middle) * np.exp(-1j * np.radians(angle)) + middle
    assert error(eyes(other), expected) < 0.02
    difference = align(turned, other).astype(float) - align(pixels, face)
    assert np.abs(difference[32:96, 32:96]).mean() < 6


@pytest.mark.parametrize("side", [160, 320, 2000])
def test_the_photographs_scale_does_not_matter(side: int) -> None:
    pixels = photograph((0, 190, 190))
    scaled = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))
    (face,), (other,) = detect(pixels), detect(scaled)
    assert error(eyes(other) * 640 / side, eyes(face)) < 0.03


def test_faces_come_in_order_of_size() -> None:
    picture = Image.fromarray(photograph((100, 360, 340)))
    picture.paste(rendered(0)[0].resize((340, 340)), (10, 10))
    large, small = detect(np.asarray(picture))
    assert large.eyes[0][0] < small.eyes[0][0]
    assert large.eye_distance > 1.2 * small.eye_distance


def test_the_same_in_any_number_of_threads() -> None:
    pictures = [photograph((row, 150, 220)) for row in (0, 100, 200, 300)]
    alone = [detect(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(detect, pictures)) == alone


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((64, 48, 3), 127, np.uint8),
        np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8),
        np.zeros((16, 3000, 3), np.uint8),
    ],
    ids=["blank", "noise", "strip"],
)
def test_no_face_is_found_where_there_is_none(pixels: np.ndarray) -> None:
    assert detect(pixels) == []


FACES = detect(photograph((0, 20, 20), (100, 340, 340)))


def test_select_gives_the_largest_all_or_one_by_number() -> None:
    assert len(FACES) == 2
    assert select(FACES, "largest") == FACES[:1]
    assert select(FACES, "all") == FACES
    assert select(FACES, 1) == select(FACES, "1") == FACES[1:]


@pytest.mark.parametrize(
    ("found", "which", "message"),
    [
        (FACES, 2, r"In a\.jpg there are 2 faces: --face 0 or 1, not 2\."),
        (FACES * 2, "7", r"In a\.jpg there are 4 faces: --face 0 to 3, not 7\."),
        (FACES[:1], 1, r"In a\.jpg there is 1 face: --face 0, not 1\."),
        ([], "largest", r"No face was found in a\.jpg: give a photograph .* towards the camera\."),
        (FACES, "smallest", r'--face is largest, all or a number from 0, not "smallest"\.'),
        (FACES, -1, r'--face is largest, all or a number from 0, not "-1"\.'),
    ],
)
def test_a_choice_that_cannot_be_is_refused_in_one_sentence(found: list[Face], which: str | int, message: str) -> None:
    with pytest.raises(EgganError, match=f"^{message}$"):
        select(found, which, "a.jpg")


def test_a_face_in_profile_is_refused_and_left_out_of_all() -> None:
    profile = FACES[0]._replace(spread=0.2)
    nose = FACES[0].points[0]
    assert not FACES[0]._replace(points=(*FACES[0].points[:4], nose)).alignable
    with pytest.raises(EgganError, match=r"^The face in a\.jpg is turned aside or hidden too far: .*\.$"):
        select([profile, FACES[1]], "largest", "a.jpg")
    assert select([profile, FACES[1]], "all") == FACES[1:]


def test_without_dlib_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    module._frontal_detector.cache_clear()
    monkeypatch.setattr(module, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(EgganError, match="pip install dlib-bin face_recognition_models"):
        detect(np.zeros((32, 32, 3), np.uint8))


def test_without_the_models_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(EgganError, match=r"is missing: pip install face_recognition_models\.$"):
        module._model("shape_predictor_5_face_landmarks.dat")


def test_the_package_offers_the_way_through() -> None:
    assert {"open_photograph", "detect", "select", "align", "put_back"} <= set(faces.__all__)
