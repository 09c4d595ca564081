"""Work that goes on where it stopped: parts of an import beside its output, and the faces files that they become.

faces.parquet.parts/000000.parquet …   a row a picture done: the crop and its AUs, or why it is left out
faces.parquet, faces.skipped.csv       written whole when all is done; then the parts are removed
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from eggan.action_units import COLUMNS
from eggan.errors import EgganError
from eggan.files import write_atomically

__all__ = ["Output", "split_people"]

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

    out: Path

    def __post_init__(self) -> None:
        """Refuse a name that is neither, and faces files that somebody else made."""
        if self.out.suffix not in ("", ".parquet") or (self.out.exists() and self.out.is_dir() != self.split):
            raise EgganError(
                f"{self.out} must be a faces file, ending in .parquet, or a folder for train, val and test."
            )
        for path in self.files.values():
            if path.exists() and _job(path) is None:
                raise EgganError(f"{path} is there and was not made by eggan prepare: give another -o.")

    @property
    def split(self) -> bool:
        """Whether people are divided among three files."""
        return self.out.suffix == ""

    @property
    def files(self) -> dict[str, Path]:
        """Faces files by the name of their split; the only one is `all`."""
        if not self.split:
            return {"all": self.out}
        return {name: self.out / f"{name}.parquet" for name in ("train", *SHARES)}

    @property
    def skipped(self) -> Path:
        """The list of what was left out and why."""
        return self.out / "skipped.csv" if self.split else self.out.with_name(f"{self.out.stem}.skipped.csv")

    @property
    def parts(self) -> Path:
        """Folder of the parts."""
        return self.out.with_name(f"{self.out.name}.parts")

    def holds(self, job: str) -> bool:
        """Whether a job's files are all there."""
        return all(_job(path) == job.encode() for path in self.files.values()) and self.skipped.is_file()

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
        numbers = [int(path.stem) for path in self.parts.glob("[0-9]*.parquet")]
        path = self.parts / f"{max(numbers, default=-1) + 1:06}.parquet"
        write_atomically(path, partial(pq.write_table, pa.Table.from_pylist(list(rows), PART)))

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
        write_atomically(self.skipped, partial(_write_skipped, left_out))
        if len(kept) < (3 if self.split else 1):
            if not kept:  # whatever was wrong, the next run tries again
                self._remove_parts()
            raise EgganError(f"Faces of {len(kept)} people could be prepared; {self.skipped} says why not more.")
        split = split_people(list(kept)) if self.split else {"all": set(kept)}
        lines = []
        for name, path in self.files.items():
            write_atomically(path, partial(self._write_faces, keys, split[name], job))
            count = sum(kept[who] for who in split[name])
            lines.append(f"{path}: {count} faces of {len(split[name])} people")
        self._remove_parts()
        return "\n".join([*lines, f"{self.skipped}: {len(left_out)} left out, and why"])

    def _rows(self, keys: set[str], columns: list[str]) -> Iterator[pa.Table]:
        """The rows of the parts that have one of these keys, a part at a time."""
        wanted = pa.array(sorted(keys))
        for path in sorted(self.parts.glob("[0-9]*.parquet")):
            table = pq.read_table(path, columns=sorted({*columns, "key"}))
            yield table.filter(pc.is_in(table["key"], wanted)).select(columns)

    def _write_faces(self, keys: set[str], people: set[str], job: str, beside: Path) -> None:
        schema, names = FACES.with_metadata({JOB: job.encode()}), pa.array(sorted(people))
        with pq.ParquetWriter(beside, schema) as writer:
            for part in self._rows(keys, [*FACES.names, "reason"]):
                mine = part.filter(pc.and_(pc.is_null(part["reason"]), pc.is_in(part["identity"], names)))
                if mine.num_rows:
                    writer.write_table(mine.select(FACES.names).cast(schema))

    def _remove_parts(self) -> None:
        for path in self.parts.glob("*.parquet"):
            path.unlink()
        with suppress(OSError):  # it is gone, or somebody keeps something else in it
            self.parts.rmdir()


def split_people(people: Sequence[str]) -> dict[str, set[str]]:
    """People divided into train, val and test: by a hash of their names, so alike in every run and on every machine."""
    shuffled = sorted(people, key=lambda who: hashlib.sha256(who.encode()).digest())
    split, start = {}, 0
    for name, share in SHARES.items():
        count = max(1, round(share * len(shuffled)))
        split[name] = set(shuffled[start : start + count])
        start += count
    return {"train": set(shuffled[start:]), **split}


def _job(path: Path) -> bytes | None:
    """The job that made a faces file; None where it is another's."""
    try:
        return (pq.read_schema(path).metadata or {}).get(JOB)
    except (OSError, pa.ArrowInvalid):
        return None


def _write_skipped(skipped: Sequence[tuple[str, int | None, str]], beside: Path) -> None:
    with beside.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file", "frame", "reason"])
        table.writerows([file, "" if frame is None else frame, reason] for file, frame, reason in skipped)
