"""Single frames of a video, by the ffmpeg that comes with `imageio-ffmpeg`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from eggan.errors import EgganError

__all__ = ["count_frames", "read_frames"]


def count_frames(path: Path) -> int:
    """How many frames a video has.

    Raises:
        EgganError: there is no such file, it is no video, or `imageio-ffmpeg` is not installed.
    """
    try:
        count, _ = _ffmpeg().count_frames_and_secs(str(path))
    except (OSError, RuntimeError) as error:
        raise _unreadable(path, error) from None
    return int(count)


def read_frames(path: Path, wanted: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The wanted frames, counted from 1, in order, as uint8 (H, W, 3); those after the end do not come.

    Raises:
        EgganError: as `count_frames`.
    """
    reader = _ffmpeg().read_frames(str(path), output_params=["-fps_mode", "passthrough"])
    try:
        width, height = next(reader)["size"]
        for number, frame in enumerate(reader, 1):
            if number in wanted:
                yield number, np.frombuffer(frame, np.uint8).reshape(height, width, 3)
            if number >= max(wanted):
                return
    except (OSError, RuntimeError) as error:
        raise _unreadable(path, error) from None
    finally:
        reader.close()


def _ffmpeg() -> Any:  # noqa: ANN401
    try:
        return import_module("imageio_ffmpeg")
    except ImportError:
        raise EgganError('Videos are read by imageio-ffmpeg: pip install "eggan[video]".') from None


def _unreadable(path: Path, error: Exception) -> EgganError:
    if not path.is_file():
        return EgganError(f"There is no file {path}.")
    last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    return EgganError(f"{path} cannot be read as a video ({last[0].strip().rstrip('.')}).")
