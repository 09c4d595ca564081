"""Own photographs: one sub-folder a person, or a CSV `file,identity,emotion` that says who is on them."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import NamedTuple

from eggan.action_units import EMOTIONS
from eggan.data.by_file import pictures_in
from eggan.data.sources import Listing, Skipped, Source
from eggan.errors import EgganError

__all__ = ["Person", "list_folder", "read_people"]

PEOPLE = ("file", "identity", "emotion")


class Person(NamedTuple):
    """Who a photograph shows, with which expression."""

    identity: str
    emotion: str
    session: int = 0


def list_folder(source: Path) -> Listing:
    """The pictures of a folder with one sub-folder a person, or those that a CSV names.

    In a folder the emotion is the first word of a picture's name that is one (`ann/happy_2.jpg`), else `unknown`. A
    CSV names files as seen from where it lies; its column `session` may be missing.

    Raises:
        EgganError: there is no such folder, or as `read_people`.
    """
    if not source.is_dir():
        if not source.suffix:
            raise EgganError(f"There is no folder {source}: give one with a sub-folder a person, or a CSV.")
        people = read_people(source)
        return Listing([Source(source.parent / f, p.identity, p.session, p.emotion) for f, p in people.items()], [])
    sources, skipped = [], []
    for path in pictures_in(source):
        identity, *rest = path.relative_to(source).parts
        if not rest:
            skipped.append(Skipped(path, "it lies in no person's sub-folder"))
            continue
        words = [word for word in re.split(r"[^a-z]+", path.stem.lower()) if word in EMOTIONS]
        sources.append(Source(path, identity, 0, words[0] if words else "unknown"))
    return Listing(sources, skipped)


def read_people(path: Path) -> dict[str, Person]:
    """Read a CSV `file,identity,emotion`, with or without `session`.

    Raises:
        EgganError: no such file, no CSV, a column is missing, a cell is empty, a session is no whole number, or a
            file is named twice.
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
        session = cells.get("session", "0")
        if not (session.isdecimal() and int(session) < 2**15):
            raise EgganError(f'{path}, line {number}, column session: "{session}" is no whole number; write 0.')
        people[cells["file"]] = Person(cells["identity"], cells["emotion"], int(session))
    return people
