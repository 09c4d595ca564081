"""Work that goes on where it stopped: parts of an import beside its output, and the faces files that they become.

At a path or at an address that fsspec opens:

faces.parquet.parts/000000.parquet …   a row a picture done: the crop and its AUs, or why it is left out
faces.parquet, faces.skipped.csv       written whole when all is done; then the parts are removed
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from eggan.action_units import COLUMNS
from eggan.data.places import ending, file_system, names, write_whole
from eggan.errors import EgganError

__all__ = ["Output", "parts_of", "split_people"]

SHARES = {"val": 0.1, "test": 0.2}
"""Of the people; the others are in train."""
FACES = pa.schema(
    [
        ("image", pa.binary()),
        ("identity", pa.string()),
        ("session", pa.int16()),
        ("emotion", pa.string()),
        *((column, pa.float32()) for column in COLUMNS),
        ("file", pa.string()),
        ("frame", pa.int32()),
    ]
)
"""Of the faces file: DESIGN's columns, and where each row comes from."""
PART = pa.schema([*FACES, ("reason", pa.string()), ("key", pa.string()), ("pixels", pa.string())])
"""Of a part; `key` stands for all that a row depends on, `pixels` for the picture."""
JOB = b"eggan.prepare"


@dataclass(frozen=True)
class Output:
    """The files that an import writes: one faces file, or where `out` is a folder one each for train, val and test."""

    out: str

    def __post_init__(self) -> None:
        """Refuse a name that is neither, and faces files that somebody else made."""
        if ending(self.out) not in ("", ".parquet") or (_is_there(self.out) and _is_folder(self.out) != self.split):
            raise EgganError(
                f"{self.out} must be a faces file, ending in .parquet, or a folder for train, val and test."
            )
        for place in self.files.values():
            if _is_there(place) and _job(place) is None:
                raise EgganError(f"{place} is there and was not made by eggan prepare: give another -o.")

    @property
    def split(self) -> bool:
        """Whether people are divided among three files."""
        return ending(self.out) == ""

    @property
    def files(self) -> dict[str, str]:
        """Faces files by the name of their split; the only one is `all`."""
        if not self.split:
            return {"all": self.out}
        return {name: f"{self.out}/{name}.parquet" for name in ("train", *SHARES)}

    @property
    def skipped(self) -> str:
        """The list of what was left out and why."""
        return f"{self.out}/skipped.csv" if self.split else f"{self.out.removesuffix('.parquet')}.skipped.csv"

    @property
    def parts(self) -> str:
        """Folder of the parts."""
        return parts_of(self.out)

    def holds(self, job: str) -> bool:
        """Whether a job's files are all there."""
        return all(_job(place) == job.encode() for place in self.files.values()) and _is_there(self.skipped)

    def done(self, keys: set[str]) -> tuple[set[str], dict[str, str]]:
        """Of these keys those that are done; and of the pictures kept a hash of their pixels, with the file's name."""
        done: set[str] = set()
        seen: dict[str, str] = {}
        for part in self._rows(keys, ["key", "pixels", "file", "reason"]):
            for row in part.to_pylist():
                done.add(row["key"])
                if row["reason"] is None:
                    seen[row["pixels"]] = row["file"]
        return done, seen

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write one more part."""
        numbers = [int(name.partition(".")[0]) for name in self._finished()]
        place = f"{self.parts}/{max(numbers, default=-1) + 1:06}.parquet"
        write_whole(place, partial(pq.write_table, pa.Table.from_pylist(list(rows), PART)))

    def finish(self, keys: set[str], skipped: Sequence[tuple[str, int | None, str]], job: str) -> str:
        """Write the faces files and the list of what was left out; then the parts are not needed.

        Args:
            keys: of the rows that belong to the job.
            skipped: file, frame and reason of what had no row from the beginning.
            job: stands for all that the files depend on.

        Returns:
            What was written, a line a file.

        Raises:
            EgganError: there are not enough people.
        """
        kept: Counter[str] = Counter()
        left_out = list(skipped)
        for part in self._rows(keys, ["identity", "file", "frame", "reason"]):
            for row in part.to_pylist():
                if row["reason"] is None:
                    kept[row["identity"]] += 1
                else:
                    left_out.append((row["file"], row["frame"], row["reason"]))
        write_whole(self.skipped, partial(_write_skipped, left_out))
        if len(kept) < (3 if self.split else 1):
            if not kept:  # whatever was wrong, the next run tries again
                self._remove_parts()
            raise EgganError(f"Faces of {len(kept)} people could be prepared; {self.skipped} says why not more.")
        split = split_people(list(kept)) if self.split else {"all": set(kept)}
        lines = []
        for name, place in self.files.items():
            write_whole(place, partial(self._write_faces, keys, split[name], job))
            count = sum(kept[who] for who in split[name])
            lines.append(f"{place}: {count} faces of {len(split[name])} people")
        self._remove_parts()
        return "\n".join([*lines, f"{self.skipped}: {len(left_out)} left out, and why"])

    def _rows(self, keys: set[str], columns: list[str]) -> Iterator[pa.Table]:
        """The rows of the parts that have one of these keys, a part at a time."""
        wanted = pa.array(sorted(keys))
        fs, folder = file_system(self.parts)
        for name in self._finished():
            table = pq.read_table(f"{folder}/{name}", columns=sorted({*columns, "key"}), filesystem=fs)
            yield table.filter(pc.is_in(table["key"], wanted)).select(columns)

    def _write_faces(self, keys: set[str], people: set[str], job: str, file: BinaryIO) -> None:
        schema, mine = FACES.with_metadata({JOB: job.encode()}), pa.array(sorted(people))
        with pq.ParquetWriter(file, schema) as writer:
            for part in self._rows(keys, [*FACES.names, "reason"]):
                rows = part.filter(pc.and_(pc.is_null(part["reason"]), pc.is_in(part["identity"], mine)))
                if rows.num_rows:
                    writer.write_table(rows.select(FACES.names).cast(schema))

    def _finished(self) -> list[str]:
        """Names of the parts that are there."""
        return sorted(name for name in names(self.parts) if name[0].isdigit() and ending(name) == ".parquet")

    def _remove_parts(self) -> None:
        fs, folder = file_system(self.parts)
        for name in names(self.parts):
            if ".parquet" in name:
                fs.rm(f"{folder}/{name}")
        with suppress(OSError):  # it is gone, or somebody keeps something else in it
            fs.rmdir(folder)


def parts_of(out: str) -> str:
    """Folder of the parts of an import that writes to `out`."""
    return f"{out.rstrip('/')}.parts"


def split_people(people: Sequence[str]) -> dict[str, set[str]]:
    """People divided into train, val and test: by a hash of their names, so alike in every run and on every machine."""
    shuffled = sorted(people, key=lambda who: hashlib.sha256(who.encode()).digest())
    split, start = {}, 0
    for name, share in SHARES.items():
        count = max(1, round(share * len(shuffled)))
        split[name] = set(shuffled[start : start + count])
        start += count
    return {"train": set(shuffled[start:]), **split}


def _is_there(place: str) -> bool:
    fs, path = file_system(place)
    return fs.exists(path)


def _is_folder(place: str) -> bool:
    fs, path = file_system(place)
    return fs.isdir(path)


def _job(place: str) -> bytes | None:
    """The job that made a faces file; None where it is another's."""
    fs, path = file_system(place)
    try:
        return (pq.read_schema(path, filesystem=fs).metadata or {}).get(JOB)
    except (OSError, pa.ArrowInvalid):
        return None


def _write_skipped(skipped: Sequence[tuple[str, int | None, str]], file: BinaryIO) -> None:
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "frame", "reason"])
    table.writerows([name, "" if frame is None else frame, reason] for name, frame, reason in skipped)
    file.write(text.getvalue().encode())
