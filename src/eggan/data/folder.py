"""Own pictures: one sub-folder a person, shards with labels, or a CSV `file,identity,emotion`."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from glob import has_magic
from itertools import groupby
from pathlib import Path, PurePath
from typing import NamedTuple

from eggan.action_units import EMOTIONS
from eggan.data.parts import parts_of
from eggan.data.pictures import SHARDS, Item, list_items, read_columns
from eggan.data.places import ending, file_system
from eggan.data.sources import Listing, Skipped, Source
from eggan.errors import EgganError

__all__ = ["Person", "list_folder", "read_people"]

PEOPLE = ("file", "identity", "emotion")
SESSIONS = 2**15


class Person(NamedTuple):
    """Who a photograph shows, with which expression."""

    identity: str
    emotion: str
    session: int = 0


def list_folder(source: str | Path, out: str | Path | None = None) -> Listing:
    """The pictures of a folder, a pattern, shards or a CSV.

    In a folder lies one sub-folder a person, with photographs and videos, of which each frame counts; the emotion is
    the first word of a file's name that is one (`ann/happy_2.jpg`), else `unknown`. Shards, in such a folder or
    named, say in columns `identity` and `emotion` what is on the picture in `image`; so does a CSV, which names files
    as seen from where it lies, or by addresses. The column `session` may be missing.

    Args:
        source: here, or but for a CSV at an address.
        out: where the import writes; nothing there, nor in its parts beside, is taken for a picture.

    Raises:
        EgganError: there is no such folder, it holds no picture, or as `read_people`.
    """
    text = str(source)
    fs, path = file_system(text)
    if ending(path) not in SHARDS and not fs.isdir(path) and not has_magic(path):
        if not ending(path):
            raise EgganError(f"There is no folder {text}: give one with a sub-folder a person, or a CSV.")
        if "://" in text:
            raise EgganError(f"{text} is at an address: copy the CSV here; the files it names may stay there.")
        people = read_people(Path(text)).items()
        return Listing([Source(_named(f, Path(text)), p.identity, p.session, p.emotion) for f, p in people], [])
    found: list[Source | Skipped] = []
    own = [] if out is None else [out, parts_of(str(out))]
    for place, group in groupby(list_items([text], leave_out=own), key=lambda item: item.place):
        items = list(group)
        found += _of_shard(place, items) if ending(place) in SHARDS else map(_of_file, items)
    return Listing([x for x in found if isinstance(x, Source)], [x for x in found if isinstance(x, Skipped)])


def _named(file: str, table: Path) -> Item:
    return Item(file if "://" in file else str((table.parent / file).absolute()), file)


def _of_file(item: Item) -> Source | Skipped:
    identity, *rest = PurePath(item.below).parts
    if not rest:
        return Skipped(item, "it lies in no person's sub-folder")
    words = [word for word in re.split(r"[^a-z]+", PurePath(item.below).stem.lower()) if word in EMOTIONS]
    return Source(item, identity, 0, words[0] if words else "unknown")


def _of_shard(place: str, items: Sequence[Item]) -> Iterator[Source | Skipped]:
    try:
        labels = read_columns(place, (*PEOPLE[1:], "session"))
        if missing := [column for column in PEOPLE[1:] if column not in labels]:
            raise EgganError(f"it lacks the column {missing[0]}")
    except EgganError as error:
        yield Skipped(items[0]._replace(number=None), str(error))
        return
    sessions = labels.get("session", [0] * len(items))
    for item, who, emotion, session in zip(items, *(labels[name] for name in PEOPLE[1:]), sessions, strict=True):
        if who in (None, "") or emotion in (None, ""):
            yield Skipped(item, "its identity or emotion is empty")
        elif not (isinstance(session, int) and 0 <= session < SESSIONS):
            yield Skipped(item, f"its session {session} is no whole number from 0 to {SESSIONS - 1}")
        else:
            yield Source(item, str(who), session, str(emotion))


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
        if not (session.isdecimal() and int(session) < SESSIONS):
            raise EgganError(f'{path}, line {number}, column session: "{session}" is no whole number; write 0.')
        people[cells["file"]] = Person(cells["identity"], cells["emotion"], int(session))
    return people
