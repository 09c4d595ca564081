"""Files wherever they lie: at a path of this machine, or at an address that fsspec opens (`s3://…`)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from eggan.errors import EgganError, first_line
from eggan.files import write_atomically

__all__ = ["ending", "file_state", "file_system", "names", "reason", "write_whole"]


def file_system(place: str) -> tuple[Any, str]:
    """The file system of a path or address, and what the path is called there.

    Raises:
        EgganError: nothing here speaks the address's protocol, or it cannot be reached.
    """
    import fsspec  # a command that knows no address need not wait for it

    try:
        return fsspec.core.url_to_fs(place)
    except (ValueError, ImportError, OSError) as error:
        raise EgganError(f"{place} cannot be reached ({reason(error)}).") from None


def file_state(place: str | Path) -> str:
    """Stands for what a file holds now: another text once it has changed.

    Raises:
        EgganError: as `file_system`.
        OSError: the file is not there.
    """
    if "://" in str(place):
        fs, path = file_system(str(place))
        return fs.ukey(path)
    stat = Path(place).stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def names(folder: str) -> set[str]:
    """What a folder holds now, hidden files too; nothing where it is not there."""
    fs, path = file_system(folder)
    return {Path(found).name for found in fs.ls(path, detail=False, refresh=True)} if fs.exists(path) else set()


def write_whole(place: str, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file beside, then give it its name; what stood there stays until then.

    Raises:
        EgganError: it cannot be written, or as `file_system`.
    """

    def fill(beside: Path) -> None:
        with beside.open("wb") as file:
            write(file)

    try:
        if "://" not in place:
            write_atomically(Path(place), fill)
            return
        fs, path = file_system(place)
        folder, _, last = path.rpartition("/")
        fs.makedirs(folder, exist_ok=True)
        with fs.open(beside := f"{folder}/.{last}-{uuid.uuid4().hex}", "wb") as file:
            write(file)
        fs.mv(beside, path)
    except OSError as error:
        raise EgganError(f"{place} cannot be written ({reason(error)}).") from None


def ending(place: str) -> str:
    """What its name ends in, as `.png`."""
    return Path(place).suffix.lower()


def reason(error: BaseException) -> str:
    """Why an operation on a file failed, for the brackets of a sentence."""
    return getattr(error, "strerror", None) or first_line(error)
