"""Which pictures a folder holds, and entries of a table found by the name of a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path, PurePath
from typing import Generic, TypeVar

from eggan.errors import EgganError

__all__ = ["PICTURES", "UNREADABLE", "VIDEOS", "ByFile", "pictures_in"]

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".jp2", ".ppm")
UNREADABLE = (".heic", ".heif")
"""Photographs that cannot be read: their owner is told, instead of missing them."""
VIDEOS = (".avi", ".mp4", ".mov", ".mkv", ".mpg", ".mpeg", ".wmv", ".webm")

Entry = TypeVar("Entry")


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder and its sub-folders, in order of their names; hidden ones are left out.

    Raises:
        EgganError: there is no such folder.
    """
    if not folder.is_dir():
        raise EgganError(f"There is no folder {folder}.")
    found = (path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


class ByFile(Generic[Entry]):
    """Entries of a table by the files that they are about, found by as much of a path as both sides have.

    >>> table = ByFile({"ann/1.jpg": 1, "bob/1.jpg": 2, "3": 3})
    >>> table.find("faces/bob/1.jpg"), table.find("3.png"), table.find("ann/1.png")
    (2, 3, None)
    """

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.entries = entries
        self._names: dict[str, list[str]] = {}
        for name in entries:
            self._names.setdefault(_bare(PurePath(name)), []).append(name)

    def find(self, file: str | PurePath) -> Entry | None:
        """The entry about a file, None where there is none.

        Raises:
            EgganError: the file may be meant by several.
        """
        file = PurePath(file)
        by_length: dict[int, list[str]] = {}
        for name in self._names.get(_bare(file), []):
            if (parts := _shared_parts(PurePath(name), file)) is not None:
                by_length.setdefault(parts, []).append(name)
        best = by_length[max(by_length)] if by_length else []
        if len(best) > 1:
            raise EgganError(f"{file} may be {best[0]} or {best[1]} of the table: write more of the path there.")
        return self.entries[best[0]] if best else None


def _bare(file: PurePath) -> str:
    return file.stem if file.suffix.lower() in (*PICTURES, *VIDEOS) else file.name


def _shared_parts(one: PurePath, other: PurePath) -> int | None:
    """How many trailing parts two paths share; None where they cannot be the same file."""
    bare = {_bare(one), _bare(other)}
    if len(bare) > 1 or (one.name != other.name and not bare & {one.name, other.name}):
        return None
    folders = list(zip(_folders(one), _folders(other), strict=False))
    return 1 + len(folders) if all(a == b for a, b in folders) else None


def _folders(file: PurePath) -> Iterator[str]:
    """The folders of a path, the innermost first, as far as their names are known."""
    return takewhile(lambda part: part != "..", file.parts[-2::-1])
