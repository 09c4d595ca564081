"""Pictures wherever they lie: in folders, videos and Parquet shards, here or at an address that fsspec opens."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from glob import has_magic
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from eggan.data.by_file import PICTURES, UNREADABLE, VIDEOS
from eggan.data.places import ending, file_system, reason
from eggan.data.video import count_frames, each_frame
from eggan.errors import EgganError
from eggan.faces import Photograph, open_photograph, to_photograph

__all__ = ["SHARDS", "Item", "list_items", "read_columns", "read_items"]

SHARDS = (".parquet",)

_ONE_AT_A_TIME = Lock()
"""An open Parquet file is no thing for two threads: it ends the process."""


class Item(NamedTuple):
    """A picture.

    Attributes:
        place: absolute path, or address, of its file.
        below: the same, seen from the folder that was named.
        number: of a video the frame, from 1; of a shard the row, from 0; None of a picture that is a file.
    """

    place: str
    below: str
    number: int | None = None


def list_items(inputs: Sequence[str | Path], leave_out: Sequence[str | Path] = ()) -> list[Item]:
    """All pictures of files, folders, patterns such as `faces/*.jpg`, videos and shards, each once.

    In the order of the inputs, and within one by the names of the files. Hidden files are left out. A video or a shard
    that cannot be opened is one item, which `read_items` gives the reason for.

    Args:
        inputs: paths and addresses.
        leave_out: files, folders and addresses where a job writes: neither they nor what lies below is taken.

    Raises:
        EgganError: an input holds no picture or nothing else than what is left out, or its address cannot be reached.
    """
    places: dict[str, str] = {}
    own = tuple(_folder(root) for root in leave_out)
    for text in map(str, inputs):
        found = dict(_files(text))
        if not found:
            raise EgganError(f"{text} holds no picture, video or Parquet shard.")
        others = {place: below for place, below in found.items() if not _folder(place).startswith(own)}
        if not others:
            raise EgganError(f"{text} lies where the result goes, {leave_out[0]}: give another -o.")
        for place, below in others.items():
            places.setdefault(place, below)
    return [item for place, below in places.items() for item in _items(place, below)]


def read_items(items: Sequence[Item]) -> Iterator[tuple[Item, Photograph | EgganError]]:
    """Each item's picture, or why there is none, in order."""
    for place, group in groupby(items, key=lambda item: item.place):
        those = list(group)
        if those[0].number is None:
            for item in those:
                yield item, _guarded(place)
        elif ending(place) in VIDEOS:
            yield from _from_video(place, those)
        else:
            yield from ((item, _from_shard(item)) for item in those)


def read_columns(place: str, names: Sequence[str]) -> dict[str, list[Any]]:
    """Those of the columns that a shard has.

    Raises:
        EgganError: it cannot be read.
    """
    shard = _shard(place)
    try:
        return shard.read([name for name in names if name in shard.schema_arrow.names]).to_pydict()
    except (pa.ArrowException, OSError) as error:
        raise EgganError(f"{place} cannot be read ({reason(error)}).") from None


def _folder(place: str | Path) -> str:
    """Absolute path or address with a slash at its end, so that one begins with another only where it lies in that."""
    text = str(place)
    return f"{text if '://' in text else Path(text).absolute()}".rstrip("/") + "/"


def _files(text: str) -> Iterator[tuple[str, str]]:
    """Place and name of each file of an input."""
    fs, path = file_system(text)
    root = path.rpartition("/")[0]
    try:
        if fs.isdir(path):
            found, root = fs.find(path), path
        elif has_magic(path) and not fs.exists(path):
            found, root = fs.glob(path), re.split(r"[*?[]", path)[0].rpartition("/")[0]
        else:
            found = [path]
    except OSError as error:
        raise EgganError(f"{text} cannot be listed ({reason(error)}).") from None
    alone = found == [path]
    for file in sorted(found):
        below = file[len(root) :].lstrip("/")
        hidden = any(part.startswith(".") for part in below.split("/"))
        if alone or (not hidden and ending(file) in (*PICTURES, *VIDEOS, *SHARDS, *UNREADABLE)):
            yield fs.unstrip_protocol(file) if "://" in text else file, below


def _items(place: str, below: str) -> Iterator[Item]:
    try:
        if ending(place) in VIDEOS:
            yield from (Item(place, below, number) for number in range(1, count_frames(place) + 1))
        elif ending(place) in SHARDS:
            yield from (Item(place, below, row) for row in range(_shard(place).metadata.num_rows))
        else:
            yield Item(place, below)
    except EgganError:
        yield Item(place, below)


def _guarded(place: str) -> Photograph | EgganError:
    try:
        if ending(place) in VIDEOS:
            count_frames(place)
        if ending(place) in SHARDS:
            _shard(place)
        return _open(place)
    except EgganError as error:
        return error


def _open(place: str) -> Photograph:
    if "://" not in place:
        return open_photograph(place)
    fs, path = file_system(place)
    try:
        data = fs.cat_file(path)
    except FileNotFoundError:
        raise EgganError(f"There is no file {place}.") from None
    except OSError as error:
        raise EgganError(f"{place} cannot be read ({reason(error)}).") from None
    return _decoded(data, place)


def _decoded(data: bytes, name: str) -> Photograph:
    return open_photograph(name, file=io.BytesIO(data))


def _from_video(place: str, items: Sequence[Item]) -> Iterator[tuple[Item, Photograph | EgganError]]:
    frames = {item.number: item for item in items if item.number is not None}
    for number, pixels in each_frame(place, list(frames)):
        try:
            if isinstance(pixels, EgganError):
                raise pixels
            yield frames[number], to_photograph(Image.fromarray(pixels), f"{place}, frame {number}")
        except EgganError as error:
            yield frames[number], error


def _from_shard(item: Item) -> Photograph | EgganError:
    assert item.number is not None
    name = f"{item.place}, row {item.number}"
    try:
        shard, row, group = _shard(item.place), item.number, 0
        while row >= shard.metadata.row_group(group).num_rows:
            row -= shard.metadata.row_group(group).num_rows
            group += 1
        data = _row_group(item.place, group)[row].as_py()
        data = data.get("bytes") if isinstance(data, dict) else data
        if not isinstance(data, bytes):
            raise EgganError(f"{name} holds no encoded picture in the column image.")
        return _decoded(data, name)
    except EgganError as error:
        return error
    except (pa.ArrowException, OSError) as error:
        return EgganError(f"{name} cannot be read ({reason(error)}).")


@lru_cache(maxsize=16)
def _shard(place: str) -> Any:  # noqa: ANN401
    fs, path = file_system(place)
    try:
        shard = pq.ParquetFile(fs.open(path, "rb"))
    except (pa.ArrowException, OSError) as error:
        raise EgganError(f"{place} cannot be read as Parquet ({reason(error)}).") from None
    if "image" not in shard.schema_arrow.names:
        raise EgganError(f"{place} has no column image with encoded pictures.")
    return shard


@lru_cache(maxsize=8)
def _row_group(place: str, group: int) -> Any:  # noqa: ANN401
    """The column `image` of a row group; chunks take its rows one after another, several threads at once."""
    with _ONE_AT_A_TIME:
        return _shard(place).read_row_group(group, columns=["image"]).column("image")
