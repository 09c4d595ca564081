"""Single frames of a video, by PyAV, from wherever in it they are."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from eggan.errors import EgganError

__all__ = ["count_frames", "each_frame", "read_frames"]


def count_frames(path: Path) -> int:
    """How many frames a video has.

    Raises:
        EgganError: there is no such file, it is no video, or PyAV is not installed.
    """
    return len(_times(path))


def read_frames(path: Path, wanted: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The wanted frames, counted from 1, in order, as uint8 (H, W, 3), upright; those after the end do not come.

    Decoding starts at the last key frame before the first of them, so the end of a long video is as near as its start.

    Raises:
        EgganError: as `count_frames`.
    """
    times, av = _times(path), _av()
    sought = len(set(times)) == len(times) and None not in times
    first = min(wanted)
    if first > len(times):
        return
    try:
        with av.open(str(path)) as video:
            if sought:
                video.seek(times[first - 1], stream=video.streams.video[0])
            numbers = {time: number for number, time in enumerate(times, 1)}
            for counted, frame in enumerate(video.decode(video=0), 1):
                number = numbers.get(frame.pts, 0) if sought else counted
                if number in wanted:
                    yield number, np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90).copy()
                if number >= max(wanted):
                    return
    except (av.error.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from None


def each_frame(path: Path, wanted: Collection[int]) -> Iterator[tuple[int, np.ndarray | EgganError]]:
    """As `read_frames`; the wanted frames that do not come follow, with the reason."""
    missing, waiting = EgganError(f"{path} ends before this frame"), dict.fromkeys(wanted)
    try:
        for number, pixels in read_frames(path, wanted):
            del waiting[number]
            yield number, pixels
    except EgganError as error:
        missing = error
    yield from ((number, missing) for number in waiting)


def _times(path: Path) -> tuple[Any, ...]:
    """When each frame is shown, in the stream's units and in order; None where the file does not say."""
    try:
        stat = path.stat()
    except OSError:
        raise EgganError(f"There is no file {path}.") from None
    return _times_of(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _times_of(path: Path, *_: int) -> tuple[Any, ...]:
    av = _av()
    try:
        with av.open(str(path)) as video:
            times = [packet.pts for packet in video.demux(video=0) if packet.size]
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise _unreadable(path, error) from None
    return tuple(times) if None in times else tuple(sorted(times))


def _av() -> Any:  # noqa: ANN401
    try:
        return import_module("av")
    except ImportError:
        raise EgganError('Videos are read by PyAV: pip install "eggan[video]".') from None


def _unreadable(path: Path, error: Exception) -> EgganError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return EgganError(f"{path} cannot be read as a video ({reason.strip().rstrip('.')}).")
