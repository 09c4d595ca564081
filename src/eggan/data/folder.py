"""Own photographs: one sub-folder a person, or a CSV `file,identity,emotion` that says who is on them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from eggan.errors import EgganError

__all__ = ["Person", "read_people"]

PEOPLE = ("file", "identity", "emotion")


class Person(NamedTuple):
    """Who a photograph shows, with which expression."""

    identity: str
    emotion: str


def read_people(path: Path) -> dict[str, Person]:
    """Read a CSV `file,identity,emotion`.

    Raises:
        EgganError: no such file, no CSV, a column is missing, a cell is empty, or a file is named twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file) if line]
    except FileNotFoundError:
        raise EgganError(f"There is no file {path}: give a CSV with the columns {', '.join(PEOPLE)}.") from None
    except (OSError, csv.Error) as error:
        raise EgganError(f"{path} cannot be read as CSV ({error}).") from None
    header = lines[0] if lines else []
    missing = [column for column in PEOPLE if column not in header]
    if missing:
        raise EgganError(f"{path} lacks the column {missing[0]}: its first line must name {', '.join(PEOPLE)}.")
    people: dict[str, Person] = {}
    for number, line in enumerate(lines[1:], 2):
        cells = dict(zip(header, line, strict=False))
        empty = [column for column in PEOPLE if not cells.get(column)]
        if empty:
            raise EgganError(f"{path}, line {number}, column {empty[0]}: is empty; each line needs all three.")
        if cells["file"] in people:
            raise EgganError(f"{path}, line {number}: {cells['file']} is named a second time.")
        people[cells["file"]] = Person(cells["identity"], cells["emotion"])
    return people
