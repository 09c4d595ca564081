"""Single frames of a video, by PyAV, from wherever in it they are. It is a file, or an address that fsspec opens."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from eggan.data.places import file_state, file_system, reason
from eggan.errors import EgganError

__all__ = ["count_frames", "each_frame", "read_frames"]


def count_frames(path: Path | str) -> int:
    """How many frames a video has.

    Raises:
        EgganError: there is no such file, it is no video, or PyAV is not installed.
    """
    return len(_times(path))


def read_frames(path: Path | str, wanted: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The wanted frames, counted from 1, in order, as uint8 (H, W, 3), upright; those after the end do not come.

    Decoding starts at the last key frame before the first of them, so the end of a long video is as near as its start.

    Raises:
        EgganError: as `count_frames`.
    """
    times = _times(path)
    sought = len(set(times)) == len(times) and None not in times
    first = min(wanted)
    if first > len(times):
        return
    with _opened(path) as video:
        if sought:
            video.seek(times[first - 1], stream=video.streams.video[0])
        numbers = {time: number for number, time in enumerate(times, 1)}
        for counted, frame in enumerate(video.decode(video=0), 1):
            number = numbers.get(frame.pts, 0) if sought else counted
            if number in wanted:
                yield number, np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90).copy()
            if number >= max(wanted):
                return


def each_frame(path: Path | str, wanted: Collection[int]) -> Iterator[tuple[int, np.ndarray | EgganError]]:
    """As `read_frames`; the wanted frames that do not come follow, with the reason."""
    missing, waiting = EgganError(f"{path} ends before this frame"), dict.fromkeys(wanted)
    try:
        for number, pixels in read_frames(path, wanted):
            del waiting[number]
            yield number, pixels
    except EgganError as error:
        missing = error
    yield from ((number, missing) for number in waiting)


def _times(path: Path | str) -> tuple[Any, ...]:
    """When each frame is shown, in the stream's units and in order; None where the file does not say."""
    try:
        return _times_of(path, file_state(path))
    except FileNotFoundError:
        raise EgganError(f"There is no file {path}.") from None
    except OSError as error:
        raise _unreadable(path, error) from None


@lru_cache(maxsize=8)
def _times_of(path: Path | str, _: str) -> tuple[Any, ...]:
    with _opened(path) as video:
        times = [packet.pts for packet in video.demux(video=0) if packet.size]
    return tuple(times) if None in times else tuple(sorted(times))


@contextmanager
def _opened(path: Path | str) -> Iterator[Any]:
    try:
        av = import_module("av")
    except ImportError:
        raise EgganError('Videos are read by PyAV: pip install "eggan[video]".') from None
    try:
        with ExitStack() as stack:
            file: Any = str(path)
            if "://" in file:
                fs, name = file_system(file)
                file = stack.enter_context(fs.open(name, "rb"))
            yield stack.enter_context(av.open(file))
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path | str, error: Exception) -> EgganError:
    return EgganError(f"{path} cannot be read as a video ({reason(error)}).")
