"""Edits, strips and animations of many photographs, in one folder with a table of what was done: `edits.csv`."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from eggan.action_units import COLUMNS
from eggan.credentials import Credentials
from eggan.cuts import Edited
from eggan.data.by_file import PICTURES, UNREADABLE
from eggan.errors import EgganError
from eggan.faces import open_photograph
from eggan.files import check_apart, check_writable, is_same, write_atomically
from eggan.provenance import FORMATS, Provenance, save_picture

__all__ = ["TABLE", "Job", "check_kept", "edit_file", "edit_files", "find_jobs"]

TABLE = "edits.csv"
ENDINGS = (*PICTURES, *UNREADABLE)
"""What counts as a photograph in a folder."""
HEADER = (
    "file", "output", "face", "problem", *(f"source_{c}" for c in COLUMNS), *(f"target_{c}" for c in COLUMNS),
)  # fmt: skip


class Job(NamedTuple):
    """A photograph and the file to which its edit goes."""

    photo: Path
    output: Path


def find_jobs(photos: Sequence[Path], out: Path, ending: str | None = None) -> list[Job]:
    """Which photographs go where: a single one to `out` itself where that has an ending, else into the folder `out`.

    Of a folder, the photographs in it and its sub-folders are taken, and keep their sub-folders; what lies in `out`
    and hidden files are not. An edit keeps its photograph's ending where pictures can be written with it, else it
    becomes PNG.

    Args:
        photos: files and folders.
        out: a file or a folder.
        ending: what to write into a folder instead, as `.gif`.

    Raises:
        EgganError: a folder has no photograph, `out` has an ending and is no place for several, two edits would go to
            one file, an edit would replace its photograph, or has an ending with which no picture can be written.
    """
    into_folder = not out.suffix or out.is_dir()
    for photo in photos:
        if not into_folder and _is_folder(photo):
            raise EgganError(f"{photo} is a folder, and {out} one picture: give -o a folder.")
    if not into_folder and len(photos) > 1:
        raise EgganError(f"{out} is one picture, and there are {len(photos)} photographs: give -o a folder.")
    jobs = []
    for photo in photos:
        for path, place in _photographs(photo, out):
            kept = place.suffix if place.suffix.lower() in FORMATS else ".png"
            jobs.append(Job(path, out / place.with_suffix(ending or kept) if into_folder else out))
    _check(jobs, FORMATS if ending is None or not into_folder else [ending])
    return jobs


def _photographs(photo: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """A photograph, or those of a folder, each with its place below the folder `out`."""
    if not _is_folder(photo):
        yield photo, Path(photo.name)
        return
    places = [
        path.relative_to(photo)
        for path in sorted(photo.rglob("*"))
        if path.suffix.lower() in ENDINGS and not path.is_dir()
    ]
    root, edited = photo.resolve(), out.resolve()
    if root in edited.parents:
        places = [place for place in places if edited not in (root / place).parents]
    places = [place for place in places if not any(part.startswith(".") for part in place.parts)]
    if not places:
        raise EgganError(f"The folder {photo} has no photograph (a file that ends in {', '.join(ENDINGS)}).")
    for place in places:
        yield photo / place, place


def _check(jobs: Sequence[Job], endings: Collection[str]) -> None:
    for photo, output in jobs:
        if output.suffix.lower() not in endings:
            raise EgganError(f"{output} must end in one of {', '.join(endings)}.")
        if is_same(output, photo):
            raise EgganError(f"The edit would overwrite the photograph {photo}: give another -o.")
    check_apart(jobs)


def check_kept(jobs: Sequence[Job], *read: Path | None) -> None:
    """Refuse to replace a file that is read besides the photographs, as the one of `--like`.

    Raises:
        EgganError: a job would.
    """
    for path in read:
        if path is not None and any(is_same(job.output, path) for job in jobs):
            raise EgganError(f"The edit would overwrite {path}, which it reads: give another -o.")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # its name is too long; opening it will say so
        return False


def edit_file(
    job: Job, edit: Callable[..., Edited], say: Callable[[str], object], credentials: Credentials | None = None
) -> Edited:
    """Open a photograph, edit it, write the edit.

    Args:
        job: what and where to.
        edit: from a photograph to its edit.
        say: is told, in a line each, what its owner may want to know.
        credentials: to sign the edit with.

    Raises:
        EgganError: it cannot be read, edited, signed or written; the sentence names it.
    """
    photo = open_photograph(job.photo)
    for note in photo.notes:
        say(f"{job.photo}: {note}.")
    edited = edit(photo)
    if edited.left_out:
        count = len(edited.provenance.edits) + edited.left_out
        say(f"{job.photo}: {edited.left_out} of {count} faces left out, turned aside or hidden too far.")
    sign = partial(credentials.sign, provenance=edited.provenance, original=job.photo) if credentials else None
    save_picture(edited.picture(), job.output, edited.provenance, sign)
    return edited


def edit_files(
    jobs: Sequence[Job],
    make: Callable[[Job], Provenance],
    table: Path,
    done: Callable[[Path], object],
    say: Callable[[str], object],
) -> int:
    """Make something of each photograph; one that fails is a row with its problem, and the others go on.

    Args:
        jobs: what and where to.
        make: writes one, and gives the record of what was done.
        table: the CSV to write, one row a face or a photograph that failed; also when the work is interrupted. Rows
            of edits of other photographs that it holds already stay.
        done: is told each file that was written.
        say: is told, in a line each, what failed.

    Returns:
        How many photographs failed.

    Raises:
        EgganError: the table cannot be written.
    """
    check_writable(table)
    rows: list[list[object]] = []
    failed = 0
    try:
        for job in jobs:
            try:
                made = make(job)
            except EgganError as error:
                say(str(error))
                rows.append([job.photo, "", "", error, *[""] * (2 * len(COLUMNS))])
                failed += 1
                continue
            for face in made.edits:
                target = face.target.values() or [""] * len(COLUMNS)
                rows.append([job.photo, job.output, face.face, "", *face.source.values(), *target])
            done(job.output)
    finally:
        _write_table(table, rows)
    return failed


def _write_table(table: Path, rows: Sequence[Sequence[object]]) -> None:
    done = {str(row[0]) for row in rows}
    try:
        kept = [row for row in _read_rows(table) if row[1] and row[0] not in done]
        write_atomically(table, lambda beside: _write_rows(beside, [*kept, *rows]))
    except OSError as error:
        raise EgganError(f"{table} cannot be written ({error.strerror or error}).") from None


def _read_rows(table: Path) -> list[list[str]]:
    """The rows of a table of edits; none where there is none, or it is another's."""
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        header, *rows = [*csv.reader(file)] or [[]]
    return [row for row in rows if len(row) == len(HEADER)] if header == list(HEADER) else []


def _write_rows(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([HEADER, *rows])
