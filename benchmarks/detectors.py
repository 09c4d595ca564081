"""Compare face detectors on photographs: what they find, how well they place the eyes, time, size, licence.

    OMP_NUM_THREADS=1 python benchmarks/detectors.py ../shared/photos [--only dlib] > table.md
    OMP_NUM_THREADS=1 python benchmarks/detectors.py ../shared/photos --put-back data/facsynth/test.parquet > table.md

The second form compares the ways of putting a crop back: the unedited crop into London, where nothing should change;
and true expressions, cut at half and 2/5 of the size, into facsynth's neutral images, where the truth is known.

The folder holds `london/` with `london_openface.csv`, and `synthetic/check/` with its `index.csv` (their README says
what they are). Candidates whose packages are not installed are left out: pip install yuface dlib-bin
face_recognition_models "opencv-python-headless<5". Timings are CPU time of this process, all threads together.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image


class Find(NamedTuple):
    """A face in continuous pixel coordinates: left, top, right, bottom; right and left eye as x + i y, if found."""

    box: tuple[float, float, float, float]
    eyes: tuple[complex, complex] | None


class Candidate(NamedTuple):
    name: str
    packages: tuple[str, ...]
    licence: str
    load: Callable[[], Callable[[np.ndarray], list[Find]]]


class Sample(NamedTuple):
    """A photograph with its true eyes; for `check` they are yuface's and serve only to say whether a face was hit."""

    file: str
    pixels: np.ndarray
    eyes: tuple[complex, complex]


# --- The candidates --------------------------------------------------------------------------------------------------


def load_yuface() -> Callable[[np.ndarray], list[Find]]:
    import yuface

    def run(pixels: np.ndarray) -> list[Find]:
        _, boxes, points = yuface.detect(np.ascontiguousarray(pixels[:, :, ::-1]))
        finds = []
        for (x, y, w, h), p in zip(boxes.astype(float), points.astype(float) + 0.5, strict=True):
            finds.append(Find((x, y, x + w, y + h), (complex(p[0], p[1]), complex(p[2], p[3]))))
        return finds

    return run


def load_dlib(points: int, neural: bool = False) -> Callable[[], Callable[[np.ndarray], list[Find]]]:
    def load() -> Callable[[np.ndarray], list[Find]]:
        import dlib

        (folder,) = find_spec("face_recognition_models").submodule_search_locations
        predictor = dlib.shape_predictor(f"{folder}/models/shape_predictor_{points}_face_landmarks.dat")
        frontal = dlib.get_frontal_face_detector()
        cnn = dlib.cnn_face_detection_model_v1(f"{folder}/models/mmod_human_face_detector.dat") if neural else None

        def run(pixels: np.ndarray) -> list[Find]:
            if cnn:  # at 320 pixels: it needs a second at 640
                scale = 320 / max(pixels.shape)
                small = Image.fromarray(pixels).resize([round(n * scale) for n in pixels.shape[1::-1]], Image.BICUBIC)
                edges = [(f.rect.left(), f.rect.top(), f.rect.right(), f.rect.bottom()) for f in cnn(np.asarray(small))]
                boxes = [dlib.rectangle(*(round(edge / scale) for edge in four)) for four in edges]
            else:
                boxes = frontal(pixels, 0)
            return [Find((b.left(), b.top(), b.right(), b.bottom()), dlib_eyes(predictor(pixels, b))) for b in boxes]

        return run

    return load


def dlib_eyes(shape: object) -> tuple[complex, complex]:
    p = np.array([complex(q.x + 0.5, q.y + 0.5) for q in shape.parts()])
    return (p[2:4].mean(), p[0:2].mean()) if len(p) == 5 else (p[36:42].mean(), p[42:48].mean())


def load_cascades() -> Callable[[np.ndarray], list[Find]]:
    import cv2

    cv2.setNumThreads(1)
    face, eye = (
        cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml") for name in ("frontalface_alt2", "eye")
    )

    def run(pixels: np.ndarray) -> list[Find]:
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        finds = []
        for x, y, w, h in face.detectMultiScale(grey, 1.1, 4, minSize=(60, 60)):
            upper = grey[y : y + round(0.6 * h), x : x + w]
            boxes = eye.detectMultiScale(upper, 1.05, 4, minSize=(w // 8, w // 8))
            centres = [complex(x + a + c / 2, y + b + d / 2) for a, b, c, d in boxes]
            right = [z for z in centres if z.real < x + w / 2]
            left = [z for z in centres if z.real >= x + w / 2]
            finds.append(Find((x, y, x + w, y + h), (right[0], left[0]) if right and left else None))
        return finds

    return run


def load_eggan() -> Callable[[np.ndarray], list[Find]]:
    from eggan.faces import detect

    return lambda pixels: [Find(f.box, (complex(*f.eyes[0]), complex(*f.eyes[1]))) for f in detect(pixels)]


DLIB = ("dlib-bin", "face_recognition_models")
CANDIDATES = (
    Candidate("yuface (libfacedetection)", ("yuface",), "BSD-3-Clause", load_yuface),
    Candidate("OpenCV 4 cascades: alt2 + eye", ("opencv-python-headless",), "Apache-2.0", load_cascades),
    Candidate("dlib HOG + 5 points", DLIB, "Boost; models public domain (CC0)", load_dlib(5)),
    Candidate("dlib HOG + 68 points", DLIB, "Boost; model not for commercial use", load_dlib(68)),
    Candidate("dlib CNN at 320 + 5 points", DLIB, "Boost; models public domain (CC0)", load_dlib(5, neural=True)),
    Candidate("eggan.faces (dlib HOG, then CNN; 5 points)", DLIB, "Boost; models public domain (CC0)", load_eggan),
)


# --- Measuring -------------------------------------------------------------------------------------------------------


def london(folder: Path) -> Iterator[Sample]:
    for row in csv.DictReader((folder / "london_openface.csv").open()):
        points = np.array([complex(float(row[f"x_{k}"]) + 0.5, float(row[f"y_{k}"]) + 0.5) for k in range(68)])
        pixels = np.asarray(Image.open(folder / "london" / row["file"]).convert("RGB"))
        yield Sample(row["file"], pixels, (points[36:42].mean(), points[42:48].mean()))


def check(folder: Path) -> Iterator[Sample]:
    folder = folder / "synthetic" / "check"
    for row in csv.DictReader((folder / "index.csv").open()):
        right, left = (complex(float(row[f"{s}_eye_x"]), float(row[f"{s}_eye_y"])) for s in ("right", "left"))
        yield Sample(row["file"], np.asarray(Image.open(folder / row["file"]).convert("RGB")), (right, left))


def hit(finds: list[Find], eyes: tuple[complex, complex]) -> Find | None:
    """The largest find that holds the middle of the true eyes."""
    z = sum(eyes) / 2
    holds = [f for f in finds if f.box[0] < z.real < f.box[2] and f.box[1] < z.imag < f.box[3]]
    return max(holds, key=lambda f: f.box[2] - f.box[0], default=None)


def offsets(eyes: tuple[complex, complex], true: tuple[complex, complex]) -> tuple[complex, complex]:
    """From the found to the true eyes, in the frame of the found eye line: outwards + i down, in eye distances."""
    across = eyes[1] - eyes[0]
    right, left = ((t - e) / across for t, e in zip(true, eyes, strict=True))
    return complex(-right.real, right.imag), left


def measure(candidate: Candidate, folder: Path) -> str:
    run = candidate.load()
    run(np.zeros((64, 64, 3), np.uint8))
    found, extra, seconds, errors, moves = 0, 0, [], [], []
    for sample in london(folder):
        start = time.process_time()
        finds = run(sample.pixels)
        seconds.append(time.process_time() - start)
        best = hit(finds, sample.eyes)
        found, extra = found + (best is not None), extra + len(finds) - (best is not None)
        if best and best.eyes:
            distance = abs(sample.eyes[1] - sample.eyes[0])
            errors.append([abs(e - t) / distance for e, t in zip(best.eyes, sample.eyes, strict=True)])
            moves.append(offsets(best.eyes, sample.eyes))
    hits = [(hit(finds := run(sample.pixels), sample.eyes) is not None, len(finds)) for sample in check(folder)]
    ok = sum(one for one, _ in hits)
    median, high = 100 * np.percentile(errors, [50, 95])
    first, second = np.array(moves[: len(moves) // 2]), np.array(moves[len(moves) // 2 :])
    calibrated = 100 * np.percentile(abs(second - first.mean()), [50, 95])
    cells = (
        candidate.name,
        f"{found} / {len(seconds)}" + (f" ({len(errors)} with eyes)" if len(errors) < found else ""),
        f"{median:.2f} / {high:.2f}",
        f"{calibrated[0]:.2f} / {calibrated[1]:.2f}",
        f"{1000 * np.mean(seconds):.0f}",
        f"{ok} / {len(hits)}",
        f"{extra} + {sum(count for _, count in hits) - ok}",
        f"{sum(map(megabytes, candidate.packages)):.0f}",
        candidate.licence,
    )
    offset = first.mean()
    print(f"{candidate.name}: offset {offset.real:+.4f} outwards, {offset.imag:+.4f} down", file=sys.stderr)
    return "| " + " | ".join(cells) + " |"


def megabytes(package: str) -> float:
    """What the package's own files take on the disk."""
    return (
        sum(path.stat().st_size for file in distribution(package).files or () if (path := file.locate()).is_file())
        / 1e6
    )


COLUMNS = (
    "detector",
    "London found",
    "eye error, % of eye distance: median / 95 %",
    "the same less a constant",
    "ms of CPU",
    "check found",
    "other finds, London + check",
    "MB",
    "licence",
)


def put_back_unedited(folder: Path) -> None:
    from eggan.faces import align, crop_transform, detect, native_size, put_back
    from eggan.faces.paste import feather_weight
    from eggan.faces.warp import Rectangle

    rows: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for sample in london(folder):
        (face,) = detect(sample.pixels)
        height, width = sample.pixels.shape[:2]
        inside = feather_weight(crop_transform(face, 128), 128, Rectangle(0, 0, width, height)) > 0
        for name, size in (("128", 128), ("256", 256), ("native", native_size(face))):
            crop = align(sample.pixels, face, size)
            for form, original in (("crop replaces the face", None), ("difference is added", crop)):
                result = put_back(sample.pixels, crop, face, original)
                change = np.abs(result.astype(int) - sample.pixels)
                again = align(result, face, 128), align(sample.pixels, face, 128)
                figures = (
                    change[~inside].max(),
                    change.max(),
                    psnr(change[inside]),
                    psnr(again[0].astype(int) - again[1]),
                )
                rows.setdefault((name, form), []).append(figures)
    print("| crop | form | most outside | most inside | PSNR inside: mean, least | PSNR of the 128 crop |")
    print("|---" * 6 + "|")
    for (name, form), figures in rows.items():
        outside, most, inner, crops = np.array(figures).T
        print(f"| {name} | {form} | {outside.max():.0f} | {most.max():.0f} | ", end="")
        print(f"{decibels(inner.mean())}, {decibels(inner.min())} | {decibels(crops.mean())} |")


def put_back_expressions(path: Path) -> None:
    import pyarrow.parquet as pq

    from eggan.faces import Face, align, crop_transform, put_back
    from eggan.faces.paste import feather_weight
    from eggan.faces.warp import Rectangle

    eyes = ((44.7, 51.2), (83.4, 51.2))
    face = Face((17.0, 18.0, 111.0, 112.0), 1.0, (eyes[0], eyes[0], eyes[1], eyes[1], (64.0, 75.0)))
    table = pq.read_table(path, columns=["image", "identity", "session", "emotion"]).to_pylist()
    neutral = {(r["identity"], r["session"]): r["image"] for r in table if r["emotion"] == "neutral"}
    inside = feather_weight(crop_transform(face, 128), 128, Rectangle(0, 0, 128, 128)) == 1
    gains: dict[tuple[int, str], list[float]] = {}
    for row in [row for row in table if row["emotion"] != "neutral"][::10]:
        source, target = (decoded(image) for image in (neutral[row["identity"], row["session"]], row["image"]))
        still = np.square(source.astype(float) - target)[inside].sum()
        for size in (64, 51):
            before, after = align(source, face, size), align(target, face, size)
            for form, original in (("crop replaces the face", None), ("difference is added", before)):
                result = put_back(source, after, face, original)
                error = np.square(result.astype(float) - target)[inside].sum()
                gains.setdefault((size, form), []).append(error / max(still, 1))
    print("| crop of 128 | form | error left, of that of not editing: median |")
    print("|---" * 3 + "|")
    for (size, form), left in gains.items():
        print(f"| {size} | {form} | {np.median(left):.3f} |")


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def psnr(difference: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(np.square(difference.astype(float)).mean(), 1e-12))


def decibels(value: float) -> str:
    return "exact" if value > 150 else f"{value:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="the folder of london/ and synthetic/")
    parser.add_argument("--only", default="", help="candidates whose name has this in it")
    parser.add_argument("--put-back", type=Path, metavar="FACES", help="measure putting back, with this faces file too")
    arguments = parser.parse_args()
    if arguments.put_back:
        put_back_unedited(arguments.photos)
        print()
        put_back_expressions(arguments.put_back)
        return
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * len(COLUMNS) + "|")
    for candidate in CANDIDATES:
        if arguments.only not in candidate.name:
            continue
        try:
            print(measure(candidate, arguments.photos), flush=True)
        except ImportError as error:
            print(f"{candidate.name}: left out, {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
