"""`eggan annotate`: photographs, or OpenFace's tables, to one table of Action Unit intensities."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from eggan.action_units import COLUMNS
from eggan.data.by_file import ByFile, pictures_in
from eggan.data.folder import Person
from eggan.data.openface import BOX, OpenFace, Reading, read_tables
from eggan.errors import EgganError
from eggan.estimator import ActionUnitEstimator
from eggan.faces import align, check_which, detect, open_photograph, select
from eggan.files import write_atomically
from eggan.pixels import to_floats
from eggan.progress import track

__all__ = ["Row", "annotate", "import_tables", "less_neutral", "list_photographs", "read_crops", "write_rows"]

PICTURES_A_RUN = 100
"""That OpenFace gets at once: as PNG files they take this many times 1 to 40 MB of the temporary folder."""


class Row(NamedTuple):
    """A row of the table: a face of a photograph, or why there is none."""

    file: str
    reading: Reading


def list_photographs(paths: Sequence[Path]) -> list[Path]:
    """The photographs named, and those in the folders named and in their sub-folders, each once.

    Raises:
        EgganError: a folder holds none.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        pictures = pictures_in(path) if path.is_dir() else [path]
        if not pictures:
            raise EgganError(f"The folder {path} holds no photograph.")
        for picture in pictures:
            found.setdefault(picture.resolve(), picture)
    return list(found.values())


def annotate(photographs: Sequence[Path], reader: ActionUnitEstimator | OpenFace, which: str = "largest") -> list[Row]:
    """Read the Action Units of photographs; one that cannot be read is a row with its reason.

    Args:
        photographs: files.
        reader: the built-in estimator reads crops aligned by `eggan.faces`; OpenFace finds the faces itself.
        which: `largest`, `all`, or the number of a face, 0 for the largest.

    Raises:
        EgganError: `which` is none of these.
    """
    check_which(which)
    if isinstance(reader, ActionUnitEstimator):
        readings = [_by_estimator(reader, path, which) for path in track(photographs, "annotating")]
    else:
        starts = range(0, len(photographs), PICTURES_A_RUN)
        chunks = (photographs[start : start + PICTURES_A_RUN] for start in starts)
        by_chunk = chain.from_iterable(_by_openface(reader, chunk, which) for chunk in chunks)
        readings = list(track(by_chunk, "annotating", len(photographs)))
    pairs = zip(photographs, readings, strict=True)
    return [Row(str(path), reading) for path, found in pairs for reading in found]


def import_tables(path: Path) -> list[Row]:
    """The rows of OpenFace's CSVs made elsewhere, as `eggan.data.openface.read_tables` reads them."""
    empty = [Reading(reason="no face in OpenFace's table")]
    return [Row(file, reading) for file, found in read_tables(path).items() for reading in found or empty]


def read_crops(estimator: ActionUnitEstimator, crops: Sequence[np.ndarray]) -> list[tuple[float, ...]]:
    """The 17 intensities of aligned crops, uint8 (S, S, 3)."""
    images = to_floats(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2))
    return [tuple(values) for values in estimator.read(images).tolist()]


def less_neutral(rows: Sequence[Row], people: ByFile[Person]) -> list[Row]:
    """The rows less the mean of the same person's neutral faces, AU by AU and not below 0.

    What is read into a person's neutral face is the face, not a movement (docs/datasets.md has figures). A row whose
    person, or whose neutral, is not known gets a reason instead of intensities that look like the others.
    """
    faces = Counter((row.file, row.reading.frame) for row in rows if not row.reading.reason)
    whose = [_whose(row, people, faces[row.file, row.reading.frame]) for row in rows]
    neutral: dict[str, list[tuple[float, ...]]] = {}
    for row, person in zip(rows, whose, strict=True):
        if isinstance(person, Person) and person.emotion == "neutral" and row.reading.action_units is not None:
            neutral.setdefault(person.identity, []).append(row.reading.action_units)
    means = {identity: np.mean(values, axis=0) for identity, values in neutral.items()}
    return [_less(row, person, means) for row, person in zip(rows, whose, strict=True)]


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write the table; `eggan.data.openface.read_table` reads it."""

    def write(beside: Path) -> None:
        with beside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["file", "frame", "face", *BOX, "score", "confidence", *COLUMNS, "reason"])
            table.writerows(_cells(row) for row in rows)

    write_atomically(path, write)


def _by_estimator(estimator: ActionUnitEstimator, path: Path, which: str) -> list[Reading]:
    try:
        pixels = open_photograph(path).pixels
        faces = detect(pixels)
        chosen = faces if which == "all" and faces else select(faces, which, str(path))
    except EgganError as error:
        return [Reading(reason=str(error))]
    alignable = [face for face in chosen if face.alignable]
    size = estimator.config.image_size
    read = iter(read_crops(estimator, [align(pixels, face, size) for face in alignable]) if alignable else ())
    readings = []
    for face in chosen:
        found = Reading(faces.index(face), box=face.box, score=face.score)
        if face.alignable:
            readings.append(found._replace(action_units=next(read)))
        else:
            readings.append(found._replace(reason="the face is turned aside or hidden too far"))
    return readings


def _by_openface(openface: OpenFace, photographs: Sequence[Path], which: str) -> list[list[Reading]]:
    """The readings of each photograph; those that cannot be opened are not handed over."""
    reasons: dict[Path, str] = {}

    def pictures() -> Iterator[np.ndarray]:
        for path in photographs:
            try:
                yield open_photograph(path).pixels
            except EgganError as error:
                reasons[path] = str(error)

    try:
        found = iter(openface.read(pictures()))
    except EgganError as error:
        return [[Reading(reason=reasons.get(path, str(error)))] for path in photographs]
    return [
        [Reading(reason=reasons[path])] if path in reasons else _chosen(next(found), which, path)
        for path in photographs
    ]


def _chosen(readings: list[Reading], which: str, path: Path) -> list[Reading]:
    """OpenFace's readings, numbered from the largest, of which `--face` means one or all."""
    if not readings:
        return [Reading(reason=f"OpenFace found no face in {path}.")]
    by_size = sorted(readings, key=lambda reading: -_area(reading))
    numbered = [reading._replace(face=number) for number, reading in enumerate(by_size)]
    if which == "all":
        return numbered
    if which == "largest":
        return [next((reading for reading in numbered if not reading.reason), numbered[0])]
    if int(which) >= len(numbered):
        return [Reading(reason=f"{path} has no face {which}: OpenFace found {len(numbered)}, counted from 0.")]
    return [numbered[int(which)]]


def _area(reading: Reading) -> float:
    if reading.box is None:
        return 0.0
    left, top, right, bottom = reading.box
    return (right - left) * (bottom - top)


def _whose(row: Row, people: ByFile[Person], faces: int) -> Person | str:
    """The person on a row's face, or why that is not known; `faces` are read in its picture."""
    if row.reading.reason:
        return row.reading.reason
    if faces > 1:
        return "one of several faces, so it is not known which is whose"
    try:
        return people.find(row.file) or "not in the table of people"
    except EgganError as error:
        return str(error)


def _less(row: Row, person: Person | str, neutral: dict[str, np.ndarray]) -> Row:
    """The row less its person's neutral, or with the reason why that cannot be."""
    if isinstance(person, Person) and person.identity not in neutral:
        person = f"no neutral face of {person.identity} was read"
    if isinstance(person, str) or row.reading.action_units is None:
        return row._replace(reading=row.reading._replace(action_units=None, reason=str(person)))
    values = np.maximum(np.subtract(row.reading.action_units, neutral[person.identity]), 0.0)
    return row._replace(reading=row.reading._replace(action_units=tuple(values.tolist())))


def _cells(row: Row) -> list[object]:
    file, reading = row
    box = [f"{side:.1f}" for side in reading.box] if reading.box else [""] * len(BOX)
    given = ["" if value is None else f"{value:.3f}" for value in (reading.score, reading.confidence)]
    aus = [f"{value:.3f}" for value in reading.action_units] if reading.action_units else [""] * len(COLUMNS)
    numbers = ["" if number is None else number for number in (reading.frame, reading.face)]
    return [file, *numbers, *box, *given, *aus, reading.reason]
