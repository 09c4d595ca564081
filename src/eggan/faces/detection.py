"""Find the faces of a photograph with dlib, and the five points by which they are aligned.

dlib brings a histogram-of-gradients detector of upright faces; the package `face_recognition_models` brings dlib's
five-point predictor and its neural detector, which is slow and asked only where the first one finds nothing
(docs/results/faces.md has the figures of both and of the alternatives).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from eggan.errors import EgganError
from eggan.faces.warp import Point, Similarity, resample, similarity

__all__ = ["MAX_TURN", "Face", "check_which", "detect", "select"]

DETECTION_SIDES = (400, 1280)
"""The longest side of what the first detector sees, in pixels: smaller pictures are enlarged, larger ones reduced."""
NEURAL_SIDE = 320
SURE = 0.5
"""Score of the first detector from which on a face is not looked for in the turned photograph as well."""
MAX_TURN = 0.35
"""Nose base this far from the middle between the eyes, in eye distances: the far half of the face is hidden."""
EYES_TO_BOX = (0.29, 0.56)
"""Least and most eye distance of a face that looks towards the camera, as a part of the side of its box."""
MAX_SPREAD = 0.09
"""`Face.spread` above which the points are guessed (profile, mirror glasses, deep shade)."""

CHIP, CHIP_FACE = 200, 150
"""Sides, in pixels, of the cut in which points are looked for, and of the face's box in it."""
BOX_BELOW_EYES, BOX_SIDE = 0.450, 2.324
"""Where dlib's box lies: its centre below the middle of the eyes, and its side, in eye distances (London, median)."""
SHIFT = 8
"""By how many pixels of the cut the box is moved about to see whether the points stay."""
EYE_OFFSET = (0.0078, -0.0180)
"""From the middle of an eye's corners to the mean of its six landmarks, in eye distances: outwards, and down
(the upper lid curves more). Of OpenFace's landmarks on half of the London set, confirmed on the other half."""

_ONE_AT_A_TIME = Lock()
"""dlib's detectors keep the picture in themselves, and let other threads run meanwhile."""


class Face(NamedTuple):
    """A face found in a photograph; right and left are the person's own.

    Attributes:
        box: left, top, right, bottom of dlib's square from the brows to the chin, in pixels, upright.
        score: the detector's; 0 is its threshold, a clear frontal face has 1 to 3.
        points: five landmarks in pixels: right eye's outer and inner corner, left eye's inner and outer corner, base
            of the nose.
        spread: root mean square by which the eyes and nose wander when the box is moved, in eye distances; 0.01 is
            usual, and of a face in profile, where the points are guessed, it is large.
    """

    box: tuple[float, float, float, float]
    score: float
    points: tuple[Point, ...]
    spread: float = 0.0

    @property
    def eyes(self) -> tuple[Point, Point]:
        """Centres of the right and the left eye: the mean of six landmarks on each, as OpenFace and dlib mark them."""
        right, left = self._corner_middles()
        outwards, down = EYE_OFFSET
        across = left - right
        right, left = right + across * complex(-outwards, down), left + across * complex(outwards, down)
        return (right.real, right.imag), (left.real, left.imag)

    @property
    def eye_distance(self) -> float:
        """Between the eyes' centres, in pixels."""
        right, left = self.eyes
        return abs(complex(*left) - complex(*right))

    @property
    def turn(self) -> float:
        """The nose's offset from the middle of the eyes along their line, in eye distances; 0 faces the camera.

        Above 0 the nose points to the picture's right where the face is upright.
        """
        right, left = self._corner_middles()
        return ((complex(*self.points[4]) - (right + left) / 2) / (left - right)).real

    @property
    def alignable(self) -> bool:
        """Whether the face can be aligned by its eyes: it is not near profile, and its points are not guessed."""
        least, most = EYES_TO_BOX
        of_box = self.eye_distance / (self.box[2] - self.box[0])
        return abs(self.turn) <= MAX_TURN and least <= of_box <= most and self.spread <= MAX_SPREAD

    def _corner_middles(self) -> tuple[complex, complex]:
        a, b, c, d, _ = (complex(*point) for point in self.points)
        return (a + b) / 2, (c + d) / 2


class _Found(NamedTuple):
    """A detector's square: centre and side in pixels of the photograph, direction of its x axis (length 1), score."""

    centre: complex
    side: float
    across: complex
    score: float


def detect(pixels: np.ndarray) -> list[Face]:
    """All faces of a photograph, the largest first.

    Tried one after another until something is found: the photograph as it is, at twice the size (small faces), in
    quarter turns (a photograph that lies on its side; also where the best find is a weak one), and the neural
    detector (hats, hard light, face paint). A box is 80 pixels or more of what the detector sees: in a photograph of
    640 pixels 80, or 40 where no larger face is in it; from 1280 pixels on 1/16 or 1/32 of the longest side.

    Args:
        pixels: uint8 (H, W, 3), RGB.

    Raises:
        EgganError: dlib or its models are not installed.
    """
    picture = Image.fromarray(pixels)
    found = _upright(picture) or _upright(picture, enlarge=2)
    best = max((find.score for find in found), default=0.0)
    if best < SURE:
        for turned in _quarter_turns(picture):
            score = max((find.score for find in turned), default=0.0)
            if score > best + SURE:
                found, best = turned, score
    faces = [_face(pixels, find) for find in found or _neural(picture)]
    return sorted(faces, key=lambda face: face.box[0] - face.box[2])


def check_which(which: str | int) -> None:
    """Raise EgganError where `which` is none of `largest`, `all` and the number of a face, from 0."""
    if which not in ("largest", "all") and not str(which).isdecimal():
        raise EgganError(f'--face is largest, all or a number from 0, not "{which}".')


def select(faces: Sequence[Face], which: str | int, name: str = "the photograph") -> list[Face]:
    """The faces meant by `--face`.

    Args:
        faces: as `detect` gives them, the largest first.
        which: `largest`, `all`, or the number of one, 0 for the largest.
        name: what to call the photograph in an error.

    Returns:
        One face; or, for `all`, those that can be aligned.

    Raises:
        EgganError: there is no face or none of that number, or it is in profile, or `which` is none of the above.
    """
    check_which(which)
    word = str(which)
    if not faces:
        raise EgganError(f"No face was found in {name}: give a photograph of one that looks towards the camera.")
    if word.isdecimal() and int(word) >= len(faces):
        raise EgganError(f"In {name} {_numbers(len(faces))}, not {word}.")
    chosen = list(faces) if word == "all" else [faces[0 if word == "largest" else int(word)]]
    alignable = [face for face in chosen if face.alignable]
    if not alignable:
        raise EgganError(
            f"The face in {name} is turned aside or hidden too far: give one that looks towards the camera."
        )
    return alignable


def _numbers(count: int) -> str:
    if count == 1:
        return "there is 1 face: --face 0"
    choices = "0 or 1" if count == 2 else f"0 to {count - 1}"
    return f"there are {count} faces: --face {choices}"


def _upright(picture: Image.Image, enlarge: int = 1) -> list[_Found]:
    """Upright faces, tilted by up to 45°, of at least 80 pixels at the scale that the detector sees."""
    least, most = DETECTION_SIDES
    small, scale = _scaled(picture, enlarge * min(max(max(picture.size), least), most))
    with _ONE_AT_A_TIME:
        boxes, scores, _ = _frontal_detector().run(np.asarray(small), 0, 0.0)
    return [_found(box, score, scale) for box, score in zip(boxes, scores, strict=True)]


def _quarter_turns(picture: Image.Image) -> list[list[_Found]]:
    """What is found in the photograph turned by 90°, 180° and 270°, in its own coordinates."""
    width, height = picture.size
    turns = (
        (Image.Transpose.ROTATE_90, Similarity(1j, complex(width, 0))),
        (Image.Transpose.ROTATE_180, Similarity(-1, complex(width, height))),
        (Image.Transpose.ROTATE_270, Similarity(-1j, complex(0, height))),
    )
    small, scale = _scaled(picture, min(max(picture.size), 640))
    found = []
    for turn, back in turns:
        finds = _upright(small.transpose(turn))
        found.append([_Found(back.a * f.centre / scale + back.b, f.side / scale, back.a, f.score) for f in finds])
    return found


def _neural(picture: Image.Image) -> list[_Found]:
    small, scale = _scaled(picture, NEURAL_SIDE)
    if min(small.size) < NEURAL_SIDE // 20:  # a strip: dlib refuses what is smaller than its filters
        return []
    with _ONE_AT_A_TIME:
        finds = _neural_detector()(np.asarray(small), 0)
    return [_found(find.rect, find.confidence, scale) for find in finds]


def _found(box: Any, score: float, scale: float) -> _Found:  # noqa: ANN401
    """A dlib rectangle (its right and bottom pixels included), in pixels of the photograph."""
    centre = complex(box.left() + box.right() + 1, box.top() + box.bottom() + 1) / 2
    return _Found(centre / scale, (box.right() - box.left() + 1) / scale, 1, float(score))


def _face(pixels: np.ndarray, found: _Found) -> Face:
    """The face with its points, looked for in the detector's box, then in the box that the first ones ask for.

    The second time the box is also moved about: the points are the mean, and how far they wander is the spread.
    """
    (first,) = _points(pixels, found, shifts=(0,))
    tries = np.array(_points(pixels, _box_of_points(first), shifts=(0, SHIFT, -SHIFT, SHIFT * 1j, -SHIFT * 1j)))
    a, b, c, d, e = tries.mean(axis=0)
    marks = np.stack([tries[:, :2].mean(axis=1), tries[:, 2:4].mean(axis=1), tries[:, 4]], axis=1)
    spread = np.sqrt((np.abs(marks - marks.mean(axis=0)) ** 2).mean()) / abs(a + b - c - d) * 2
    x, y, half = found.centre.real, found.centre.imag, found.side / 2
    points = tuple((float(z.real), float(z.imag)) for z in (a, b, c, d, e))
    return Face((x - half, y - half, x + half, y + half), found.score, points, float(spread))


def _box_of_points(points: Sequence[complex]) -> _Found:
    right, left = (points[0] + points[1]) / 2, (points[2] + points[3]) / 2
    across = left - right
    centre = (right + left) / 2 + across * 1j * BOX_BELOW_EYES
    return _Found(centre, abs(across) * BOX_SIDE, across / abs(across), 0.0)


def _points(pixels: np.ndarray, found: _Found, shifts: Sequence[complex]) -> list[list[complex]]:
    """The five points of dlib as x + i y in the photograph, for each shift of the box by so many pixels of the cut.

    The cut is upright and of one scale whatever the photograph's, because dlib gives its points as whole pixels.
    """
    half = found.across * found.side / 2
    first, last = ((z.real, z.imag) for z in (found.centre - half, found.centre + half))
    edge = (CHIP - CHIP_FACE) // 2
    to_chip = similarity((first, last), ((edge, CHIP / 2), (CHIP - edge, CHIP / 2)))
    chip, back = resample(pixels, to_chip, CHIP, finest=1, grey=True), to_chip.inverse()
    tries = []
    for shift in shifts:
        left, top = edge + int(shift.real), edge + int(shift.imag)
        box = _dlib("rectangle")(left, top, left + CHIP_FACE - 1, top + CHIP_FACE - 1)
        parts = _point_predictor()(chip, box).parts()
        # dlib's order: left eye's outer and inner corner, right eye's outer and inner corner, base of the nose.
        tries.append([back.a * complex(parts[i].x + 0.5, parts[i].y + 0.5) + back.b for i in (2, 3, 1, 0, 4)])
    return tries


def _scaled(picture: Image.Image, longest: int) -> tuple[Image.Image, float]:
    """The picture with this longest side, and by what it was scaled."""
    scale = longest / max(picture.size)
    if scale == 1:
        return picture, 1.0
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0), scale


@cache
def _frontal_detector() -> Any:  # noqa: ANN401
    return _dlib("get_frontal_face_detector")()


@cache
def _neural_detector() -> Any:  # noqa: ANN401
    return _dlib("cnn_face_detection_model_v1")(_model("mmod_human_face_detector.dat"))


@cache
def _point_predictor() -> Any:  # noqa: ANN401
    return _dlib("shape_predictor")(_model("shape_predictor_5_face_landmarks.dat"))


def _dlib(name: str) -> Callable[..., Any]:
    try:
        return getattr(import_module("dlib"), name)
    except ImportError:
        raise EgganError("Faces are found with dlib: pip install dlib-bin face_recognition_models.") from None


def _model(file: str) -> str:
    """Path of a model; its package is not imported, since that would need setuptools."""
    package = find_spec("face_recognition_models")
    for folder in (package and package.submodule_search_locations) or ():
        if (path := Path(folder) / "models" / file).is_file():
            return str(path)
    raise EgganError(f"The face model {file} is missing: pip install face_recognition_models.")
