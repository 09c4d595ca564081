"""What an importer lists: the pictures of a dataset with who and what they show, and what it leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from eggan.data.pictures import Item

__all__ = ["Listing", "Skipped", "Source", "item_below"]


class Source(NamedTuple):
    """A picture of one person with one expression.

    Attributes:
        item: where it lies.
        identity: who.
        session: pictures of one identity and session differ in expression alone; 0 where that is not known.
        emotion: `neutral`, `happy` and so on, or another word.
    """

    item: Item
    identity: str
    session: int
    emotion: str


class Skipped(NamedTuple):
    """A picture that is left out, or a whole file of them, and why."""

    item: Item
    reason: str


class Listing(NamedTuple):
    """All that a folder holds: what is to be prepared, in order, and what is left out."""

    sources: list[Source]
    skipped: list[Skipped]


def item_below(folder: Path, path: Path, frame: int | None = None) -> Item:
    """A photograph in a folder of this machine, or a frame of a video, from 1."""
    return Item(str(path.absolute()), path.relative_to(folder).as_posix(), frame)
