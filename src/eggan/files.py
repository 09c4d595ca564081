"""Files and folders that are whole or as before: written beside, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from eggan.errors import EgganError

__all__ = [
    "check_apart",
    "check_replaceable",
    "check_writable",
    "clear_up",
    "is_same",
    "new_folder",
    "printable",
    "write_atomically",
]

CONTENTS = {
    "model": ("config.json", "model.safetensors", "README.md"),
    "report": ("report.md", "summary.json", "index.html", "*.csv", "*.png"),
}
"""What the folders hold that are replaced whole."""


def write_atomically(path: Path, write: Callable[[Path], object], keep: Path | None = None) -> None:
    """Call `write` on a path beside, then rename it; what stood there stays until the new one is on the disk.

    Args:
        path: the file.
        write: fills the path that it is given.
        keep: a name for what stood there, in the same folder; without it that goes.
    """
    beside = _new_file_beside(path)
    try:
        write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.chmod(0o644)
        if keep is not None and path.exists():
            path.replace(keep)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Find out before long work, not after it, whether its file can be written."""
    _new_file_beside(path).unlink()


def check_apart(pairs: Iterable[tuple[object, object]], advice: str = "rename one") -> None:
    """Refuse sources, the first of each pair, of which two would be written to one place, the second."""
    taken: dict[object, object] = {}
    for source, output in pairs:
        if output in taken:
            raise EgganError(f"{taken[output]} and {source} would both be written to {output}: {advice}.")
        taken[output] = source


def is_same(one: Path, other: Path) -> bool:
    """Whether both names lead to one file, that is there."""
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there, or a link to nowhere
        return False


def clear_up(path: Path) -> None:
    """Remove what a process that was killed while it wrote `path` left beside it; an old folder gets its name back.

    Only for a path that nobody else is writing now. The name may be a pattern.
    """
    for left in path.parent.glob(f".{path.stem}-*{path.suffix}"):
        if (left / path.name).is_dir() and not path.exists():
            (left / path.name).rename(path)
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()


def check_replaceable(folder: Path, kind: str) -> None:
    """Refuse to replace a folder with anything else in it than such a folder has: it is somebody's."""
    foreign = [path.name for path in folder.glob("*") if not any(path.match(pattern) for pattern in CONTENTS[kind])]
    if foreign or (folder.exists() and not folder.is_dir()):
        raise EgganError(f"{folder} holds something else ({(foreign or ['a file'])[0]}): give a new or empty folder.")


@contextmanager
def new_folder(folder: Path, kind: str) -> Iterator[Path]:
    """A folder to fill that takes its name only when the block ends well, replacing the one before.

    Where the second rename fails, the old folder gets its name back.

    Args:
        folder: its name.
        kind: what such a folder holds, a key of `CONTENTS`; one with anything else in it is refused.
    """
    check_replaceable(folder, kind)
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield beside
        beside.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            folder.rename(old / folder.name)
            try:
                beside.rename(folder)
            except BaseException:  # Ctrl-C too
                (old / folder.name).rename(folder)
                old.rmdir()
                raise
            shutil.rmtree(old)
        else:
            beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def printable(text: str) -> str:
    """Text that can be written as UTF-8, whatever the file names in it."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _new_file_beside(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise EgganError(f"{path} cannot be written ({error.strerror}).") from None
    os.close(handle)
    return Path(name)
