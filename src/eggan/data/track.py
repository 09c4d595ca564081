"""Action Units over time: the rows of a video that OpenFace's FeatureExtraction wrote, or any CSV of its columns."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from eggan.action_units import COLUMNS, MAX_INTENSITY
from eggan.errors import EgganError

__all__ = ["Track", "read_track"]


class Track(NamedTuple):
    """17 intensities a row, 0..5, in the order of `NUMBERS`; rows a second, None without times; the file's name."""

    rows: list[list[float]]
    fps: float | None
    name: str


def read_track(path: str | Path) -> Track:
    """Read a CSV with the columns `AU01_r` … `AU45_r`, one row a moment; spaces around names and values are ignored.

    Of OpenFace's further columns three are used: a row whose `success` is 0 repeats the one before it, `timestamp`
    (seconds) gives the rows a second, and several values of `face_id` are refused.

    Raises:
        EgganError: no such file or no CSV, a column is missing, there are no rows or several faces, or an intensity
            is no number from 0 to 5.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = [{k.strip(): (v or "").strip() for k, v in row.items() if k} for row in csv.DictReader(file)]
    except OSError as error:
        raise EgganError(f"{path} cannot be read ({error.strerror or error}).") from None
    except (UnicodeDecodeError, csv.Error):
        raise EgganError(f"{path} is not a CSV of Action Units.") from None
    if not table:
        raise EgganError(f"{path} has no rows of Action Units.")
    if missing := [column for column in COLUMNS if column not in table[0]]:
        raise EgganError(f"{path} has no column {missing[0]}: give a CSV with {COLUMNS[0]} to {COLUMNS[-1]}.")
    if len({row.get("face_id") for row in table}) > 1:
        raise EgganError(f"{path} has several faces: keep the rows of one face_id.")
    rows: list[list[float]] = []
    for number, row in enumerate(table, 2):  # the line of the file, for rows without line breaks in them
        seen = row.get("success") != "0"
        if seen or rows:
            rows.append(_intensities(row, f"{path}, line {number}") if seen else rows[-1])
    if not rows:
        raise EgganError(f"{path} has no row in which a face was seen.")
    return Track(rows, _rows_a_second(table), path.name)


def _intensities(row: Mapping[str, str], where: str) -> list[float]:
    values = []
    for column in COLUMNS:
        try:
            values.append(float(row[column]))
        except ValueError:
            raise EgganError(f'{where}: {column} is "{row[column]}", not a number.') from None
        if not 0 <= values[-1] <= MAX_INTENSITY:
            raise EgganError(f"{where}: {column} is {row[column]}, outside 0..{MAX_INTENSITY:g}.")
    return values


def _rows_a_second(table: list[dict[str, str]]) -> float | None:
    try:
        seconds = float(table[-1]["timestamp"]) - float(table[0]["timestamp"])
    except (KeyError, ValueError):
        return None
    return (len(table) - 1) / seconds if seconds > 0 else None
