"""What an importer lists: the pictures of a dataset with who and what they show, and what it leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

__all__ = ["Listing", "Skipped", "Source"]


class Source(NamedTuple):
    """A photograph, or a frame of a video, of one person with one expression.

    Attributes:
        path: the file.
        identity: who.
        session: pictures of one identity and session differ in expression alone; 0 where that is not known.
        emotion: `neutral`, `happy` and so on, or another word.
        frame: of a video, from 1; None for a photograph.
    """

    path: Path
    identity: str
    session: int
    emotion: str
    frame: int | None = None


class Skipped(NamedTuple):
    """A file, or a frame of one, that is left out, and why."""

    path: Path
    reason: str
    frame: int | None = None


class Listing(NamedTuple):
    """All that a folder holds: what is to be prepared, in order, and what is left out."""

    sources: list[Source]
    skipped: list[Skipped]
