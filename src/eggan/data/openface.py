"""OpenFace 2 in one place: run its `FaceLandmarkImg`, and read the tables that it and `FeatureExtraction` write.

Both write one CSV a picture or video, names and values separated by a comma and a space:

| program             | columns before the others                           | one row            |
|---------------------|-----------------------------------------------------|--------------------|
| `FaceLandmarkImg`   | `face, confidence`                                  | a face             |
| `FeatureExtraction` | `frame, face_id, timestamp, confidence, success`    | a frame (from 1)   |

then, as asked for, landmarks `x_0` … `y_67` in pixels and intensities `AU01_r` … `AU45_r`. There is no file where no
face was found. The same columns with a `file` before them, as `eggan annotate` writes them, are read too.
"""

from __future__ import annotations

import csv
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from eggan.action_units import COLUMNS, MAX_INTENSITY
from eggan.errors import EgganError

__all__ = [
    "BOX",
    "MIN_CONFIDENCE",
    "NoTablesError",
    "OpenFace",
    "Reading",
    "most_confident",
    "read_table",
    "read_tables",
]

MIN_CONFIDENCE = 0.75
"""Of OpenFace's own confidence in its landmarks (0..1): below it a face does not count."""
BOX = ("left", "top", "right", "bottom")
LANDMARKS = [[f"{axis}_{k}" for k in range(68)] for axis in "xy"]


class NoTablesError(EgganError):
    """OpenFace ended well and wrote no table at all: it found no face, or it is another program."""


class Reading(NamedTuple):
    """What was read off one face of a picture, or of one frame of a video.

    Attributes:
        face: number of the face in the picture.
        frame: of a video, from 1; None in a picture.
        box: left, top, right, bottom in pixels; None where it is not known.
        score: of the detector of `eggan.faces`; None where another one found the face.
        confidence: OpenFace's, 0..1; None where another estimator read it.
        action_units: the 17 intensities, 0..5; None where there is a reason.
        reason: why the face could not be read or does not count; empty where it does.
    """

    face: int | None = None
    frame: int | None = None
    box: tuple[float, float, float, float] | None = None
    score: float | None = None
    confidence: float | None = None
    action_units: tuple[float, ...] | None = None
    reason: str = ""


class OpenFace:
    """OpenFace 2's `FaceLandmarkImg -aus` (Baltrusaitis et al. 2018), the annotator of the paper."""

    def __init__(self, executable: str | Path | None = None) -> None:
        """Find the executable.

        Args:
            executable: path or name of `FaceLandmarkImg`; by default what the variable OPENFACE_BIN holds.

        Raises:
            EgganError: it is not given, or not there, or cannot be run.
        """
        given = executable or os.environ.get("OPENFACE_BIN")
        if not given:
            raise EgganError(
                "OpenFace's FaceLandmarkImg is needed: install OpenFace 2 and set OPENFACE_BIN to its path."
            )
        found = shutil.which(given)
        if found is None:
            raise EgganError(f"{given} is no program that can be run: set OPENFACE_BIN to OpenFace's FaceLandmarkImg.")
        self.executable = Path(found).resolve()

    def read(self, pictures: Iterable[np.ndarray]) -> list[list[Reading]]:
        """Read the faces of all pictures in one run.

        The pictures are handed over as PNG files, because `FaceLandmarkImg` stops without a word at the first file
        that it cannot read.

        Args:
            pictures: uint8 (H, W, 3), RGB, upright; taken one at a time.

        Returns:
            The readings of each picture, in OpenFace's order; an empty list where it finds no face.

        Raises:
            NoTablesError: there is not a single table, though there are pictures.
            EgganError: the program fails, or a table is not as `read_table` wants it.
        """
        with tempfile.TemporaryDirectory(prefix="eggan-openface-") as folder:
            source, out = Path(folder, "in"), Path(folder, "out")
            source.mkdir()
            out.mkdir()
            count = 0
            for count, pixels in enumerate(pictures, 1):
                Image.fromarray(pixels).save(source / f"{count:06}.png", compress_level=1)
            if count == 0:
                return []
            self._run(source, out)
            if not any(out.glob("*.csv")):
                raise NoTablesError(
                    f"{self.executable} ended well but wrote no CSV for {count} picture{'s'[: count > 1]}: either none "
                    "shows a face, or OPENFACE_BIN is not FaceLandmarkImg of OpenFace 2."
                )
            tables = [out / f"{number:06}.csv" for number in range(1, count + 1)]
            return [read_table(table)[table.stem] if table.is_file() else [] for table in tables]

    def _run(self, source: Path, out: Path) -> None:
        command = [str(self.executable), "-aus", "-fdir", str(source), "-out_dir", str(out), "-2Dfp"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            raise EgganError(f"{self.executable} cannot be run ({error.strerror}).") from None
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise EgganError(
                f"{self.executable} failed with exit code {done.returncode} ({said}): try it on a picture by hand."
            )


def most_confident(readings: Sequence[Reading]) -> Reading | None:
    """The reading that counts most, None where none does."""
    counting = [reading for reading in readings if not reading.reason]
    return max(counting, key=lambda reading: reading.confidence or 0.0, default=None)


def read_tables(path: Path) -> dict[str, list[Reading]]:
    """The readings of a table or of all `*.csv` in a folder, by the names of their pictures or videos.

    Raises:
        EgganError: there is none, one is not as `read_table` wants it, or two are about the same picture.
    """
    if not path.is_dir():
        return read_table(path)
    tables = sorted(path.glob("*.csv"))
    if not tables:
        raise EgganError(f"{path} holds no CSV: give the folder that OpenFace wrote to.")
    found: dict[str, list[Reading]] = {}
    for table in tables:
        readings = read_table(table)
        twice = sorted(found.keys() & readings.keys())
        if twice:
            raise EgganError(f"{table}: {twice[0]} is in another table of that folder too; take one of them away.")
        found |= readings
    return found


def read_table(path: Path) -> dict[str, list[Reading]]:
    """Read a CSV of `FaceLandmarkImg`, of `FeatureExtraction` or of `eggan annotate`.

    A face does not count, and its reading says so, where `success` is 0, `confidence` is below `MIN_CONFIDENCE`, an
    intensity is not a number from 0 to 5, or the column `reason` has words in it.

    Returns:
        Readings by the name in the column `file`; where there is none, by the table's own name without `.csv`.

    Raises:
        EgganError: no such file, no CSV, a column is missing, a line is cut off, or a word stands for a number.
    """
    lines = _lines(path)
    header = lines[0] if lines else []
    missing = [column for column in ("confidence", *COLUMNS) if column not in header]
    if missing:
        raise EgganError(
            f"{path} lacks the column{'s'[: len(missing) > 1]} {', '.join(missing)}: give a CSV of FaceLandmarkImg or "
            "FeatureExtraction of OpenFace 2, made with -aus and its AU models."
        )
    readings: dict[str, list[Reading]] = {} if "file" in header else {path.stem: []}
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(header):
            raise EgganError(f"{path}, line {number}: has {len(line)} cells, its header {len(header)}; make it anew.")
        cells = dict(zip(header, line, strict=True))
        name = cells.get("file", path.stem)
        readings.setdefault(name, []).append(_reading(f"{path}, line {number}", cells))
    return readings


def _lines(path: Path) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            return [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except FileNotFoundError:
        raise EgganError(f"There is no file {path}: give a CSV that OpenFace wrote, or a folder of them.") from None
    except (OSError, csv.Error) as error:
        raise EgganError(f"{path} cannot be read as CSV ({error}).") from None


def _reading(place: str, cells: Mapping[str, str]) -> Reading:
    face = _number(place, cells, "face" if "face" in cells else "face_id")
    frame = _number(place, cells, "frame")
    confidence = _number(place, cells, "confidence")
    found = Reading(
        face=None if face is None else int(face),
        frame=None if frame is None else int(frame),
        box=_box(place, cells),
        score=_number(place, cells, "score"),
        confidence=confidence,
    )
    if cells.get("reason"):
        return found._replace(reason=cells["reason"])
    if _number(place, cells, "success") == 0:
        return found._replace(reason="OpenFace says that it failed (success 0)")
    if confidence is not None and not confidence >= MIN_CONFIDENCE:
        return found._replace(reason=f"OpenFace's confidence {confidence:g} is below {MIN_CONFIDENCE}")
    intensities = [_number(place, cells, column) for column in COLUMNS]
    for column, value in zip(COLUMNS, intensities, strict=True):
        if value is None or not 0 <= value <= MAX_INTENSITY:
            said = "empty" if value is None else f"{value:g}"
            return found._replace(reason=f"{column} is {said}, not a number from 0 to 5")
    return found._replace(action_units=tuple(value for value in intensities if value is not None))


def _number(place: str, cells: Mapping[str, str], column: str) -> float | None:
    """The number in a column; None where the cell is empty or there is no such column."""
    cell = cells.get(column, "")
    try:
        return float(cell) if cell else None
    except ValueError:
        raise EgganError(f'{place}, column {column}: "{cell}" is not a number.') from None


def _box(place: str, cells: Mapping[str, str]) -> tuple[float, float, float, float] | None:
    """The columns of the box, or the bounds of the 68 landmarks, whichever the table has."""
    sides = [_number(place, cells, side) for side in BOX]
    if None in sides:
        xs, ys = ([_number(place, cells, column) for column in axis] for axis in LANDMARKS)
        known = [(x, y) for x, y in zip(xs, ys, strict=True) if x is not None and y is not None]
        if len(known) < len(xs):
            return None
        (left, right), (top, bottom) = ((min(axis), max(axis)) for axis in zip(*known, strict=True))
        sides = [left, top, right, bottom]
    left, top, right, bottom = (side or 0.0 for side in sides)
    return (left, top, right, bottom) if all(map(math.isfinite, (left, top, right, bottom))) else None
