"""Files wherever they lie: at a path of this machine, or at an address that fsspec opens (`s3://…`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eggan.errors import EgganError, first_line

__all__ = ["ending", "file_state", "file_system", "reason"]


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


def ending(place: str) -> str:
    """What its name ends in, as `.png`."""
    return Path(place).suffix.lower()


def reason(error: BaseException) -> str:
    """Why an operation on a file failed, for the brackets of a sentence."""
    return getattr(error, "strerror", None) or first_line(error)
