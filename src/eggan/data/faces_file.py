"""The faces file: Parquet, one row an image of a person with an expression (DESIGN, "The faces file").

A file is decoded into memory. A folder of such files, shards, may be larger than that: its images are decoded once into
a file of bytes in the folder, which is mapped, so that the system keeps in memory what fits. Drawing batches, shuffling
and resuming are the same for both.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from eggan.action_units import COLUMNS, MAX_INTENSITY
from eggan.data.places import file_state
from eggan.errors import EgganError, first_line
from eggan.files import write_atomically

__all__ = ["Faces", "check_people_apart", "decode_image", "read_faces"]

LANDMARKS = 68
REQUIRED = ("image", "identity", "emotion", *COLUMNS)


@dataclass(frozen=True)
class Faces:
    """A faces file in memory.

    Attributes:
        images: uint8 (N, 3, S, S), in shared memory or mapped, so that worker processes read one copy.
        action_units: float32 (N, 17), intensities 0..5.
        identity: who, one string a row.
        session: int64 (N,); rows of one identity and session differ in expression alone.
        emotion: one word a row.
        path: the file or folder it was read from.
        landmarks: float16 (N, 68, 2), Multi-PIE's points as (x, y) in half sides from the middle; None where they were
            not asked for, or there is no column `landmarks` of 136 numbers, x0 y0 x1 y1 … in pixels of 128.
    """

    images: Tensor
    action_units: Tensor
    identity: np.ndarray
    session: np.ndarray
    emotion: np.ndarray
    path: Path
    landmarks: Tensor | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.images)

    @property
    def files(self) -> list[Path]:
        """The file, or those of the folder, in the order of the rows."""
        return _files(self.path)

    @property
    def people(self) -> list[str]:
        """The identities, sorted; a person's class in C_id is the position here."""
        return sorted(set(self.identity.tolist()))

    @property
    def shots(self) -> np.ndarray:
        """int64 (N,): number of the row's (identity, session) group."""
        keys = [f"{who}\0{session}" for who, session in zip(self.identity, self.session, strict=True)]
        return np.unique(keys, return_inverse=True)[1]

    @property
    def neutral(self) -> np.ndarray:
        """int64 (N,): the first neutral row of the row's shot, or the row itself where none is neutral."""
        shots, rows = self.shots, np.arange(len(self))
        first = np.full(shots.max() + 1, -1)
        neutral = rows[self.emotion == "neutral"][::-1]
        first[shots[neutral]] = neutral
        return np.where(first[shots] < 0, rows, first[shots])

    def select(self, rows: np.ndarray) -> Faces:
        """The given rows (indices or a boolean mask), as faces."""
        rows = np.arange(len(self))[rows]
        index = torch.from_numpy(rows)
        return Faces(
            self.images[index],
            self.action_units[index],
            self.identity[rows],
            self.session[rows],
            self.emotion[rows],
            self.path,
            None if self.landmarks is None else self.landmarks[index],
        )


def read_faces(path: str | Path, image_size: int, *, landmarks: bool = False) -> Faces:
    """Read, check and decode a faces file, or all `*.parquet` of a folder in the order of their names, once.

    Args:
        path: the Parquet file or the folder.
        image_size: side S of the square images in memory, in pixels.
        landmarks: whether to read those as well.

    Raises:
        EgganError: no such file, not Parquet, a column is missing or of a wrong type, an `AU.._r` column is not
            one of the 17, an intensity is NaN or outside 0..5, an identity is empty, or an image does not decode
            or is not square; or a folder has no room for the decoded images, or is a dataset with its test part. The
            sentence names file, row (from 0) and column.
    """
    path = Path(path)
    files = _files(path)
    if not files:
        raise EgganError(f"The folder {path} holds no faces files (*.parquet).")
    if {"train.parquet", "test.parquet"} <= {file.name for file in files}:
        raise EgganError(f"{path} holds faces to learn from and faces to be tested on: give {path / 'train.parquet'}.")
    shards = [_read_labels(file, landmarks) for file in files]
    return Faces(
        images=_mapped(path, files, image_size) if path.is_dir() else _decoded(path, image_size).share_memory_(),
        action_units=torch.from_numpy(np.concatenate([shard.intensities for shard in shards])),
        identity=np.concatenate([shard.identity for shard in shards]),
        session=np.concatenate([shard.session for shard in shards]),
        emotion=np.concatenate([shard.emotion for shard in shards]),
        path=path,
        landmarks=_joined([shard.landmarks for shard in shards]),
    )


def _joined(parts: Sequence[np.ndarray | None]) -> Tensor | None:
    """Of all shards, or None where one has none."""
    known = [part for part in parts if part is not None]
    return torch.from_numpy(np.concatenate(known)) if len(known) == len(parts) else None


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("[!.]*.parquet")) if path.is_dir() else [path]


class _Labels(NamedTuple):
    """All columns of a file but the images."""

    intensities: np.ndarray
    identity: np.ndarray
    session: np.ndarray
    emotion: np.ndarray
    landmarks: np.ndarray | None


def _read_labels(path: Path, landmarks: bool) -> _Labels:
    if not path.is_file():
        raise EgganError(
            f"There is no faces file {path}: give a Parquet file, for example data/facsynth/train.parquet."
        )
    try:
        schema = pq.read_schema(path)
        _check_columns(path, schema.names)
        wanted = (*REQUIRED[1:], "session", *(["landmarks"] if landmarks else []))
        present = [name for name in wanted if name in schema.names]
        table = pq.read_table(path, columns=present)
    except (pa.ArrowInvalid, OSError) as error:
        raise EgganError(f"{path} cannot be read as Parquet ({first_line(error)}); make it anew.") from None
    if table.num_rows == 0:
        raise EgganError(f"{path} holds no rows.")
    intensities = np.stack([_numbers(path, table, name, np.float32) for name in COLUMNS], axis=1)
    _check_intensities(path, intensities)
    session = _numbers(path, table, "session", np.int64) if "session" in present else np.zeros(len(table), np.int64)
    points = _landmarks(table) if "landmarks" in present else None
    return _Labels(intensities, _words(path, table, "identity"), session, _words(path, table, "emotion"), points)


def check_people_apart(*splits: Faces) -> None:
    """Refuse splits that share a person: what is measured on one must not have been learned from the other."""
    for i, one in enumerate(splits):
        for other in splits[i + 1 :]:
            shared = sorted(set(one.people) & set(other.people))
            if shared:
                row = int(np.flatnonzero(other.identity == shared[0])[0])
                raise EgganError(
                    f"{other.path}, row {row}, column identity: {shared[0]} is also in {one.path} "
                    f"({len(shared)} shared in all); splits must not share a person."
                )


def decode_image(data: bytes, image_size: int) -> np.ndarray:
    """Decode one square image and resample it: uint8 (S, S, 3), RGB.

    Raises:
        ValueError: the bytes are no image, or it is not square.
    """
    try:
        image = Image.open(io.BytesIO(data)).convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"is no readable image ({first_line(error)})") from None
    if image.width != image.height:
        raise ValueError(f"is {image.width}×{image.height} pixels, not square")
    if image.width != image_size:
        image = image.resize((image_size, image_size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _decoded(path: Path, image_size: int) -> Tensor:
    """The images of a file, uint8 (N, 3, S, S)."""
    images = torch.empty(pq.read_metadata(path).num_rows, 3, image_size, image_size, dtype=torch.uint8)
    _decode(path, images)
    return images


def _mapped(folder: Path, files: Sequence[Path], image_size: int) -> Tensor:
    """The images of all files, uint8 (N, 3, S, S), in a file of the folder: decoded now, or before by anybody."""
    facts = [f"{file.name} {file_state(file)}" for file in files]
    key = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
    cache = folder / f".eggan-{image_size}px-{key}.u8"
    rows = [pq.read_metadata(file).num_rows for file in files]
    shape = (sum(rows), 3, image_size, image_size)

    def write(beside: Path) -> None:
        from eggan.progress import track  # rich comes with training, which is what has such folders

        images = torch.from_file(str(beside), shared=True, size=math.prod(shape), dtype=torch.uint8).view(shape)
        for file, part in track(list(zip(files, images.split(rows), strict=True)), "decoding shards"):
            _decode(file, part)

    if not cache.is_file():
        if (free := shutil.disk_usage(folder).free) < math.prod(shape):
            raise EgganError(
                f"{folder} needs {math.prod(shape) / 1e9:.1f} GB for its decoded images; {free / 1e9:.1f} GB are free."
            )
        write_atomically(cache, write)
    return torch.from_file(str(cache), shared=False, size=math.prod(shape), dtype=torch.uint8).view(shape)


def _decode(path: Path, images: Tensor) -> None:
    """Decode a file's images into a tensor, uint8 (N, 3, S, S), a row group at a time."""
    with pq.ParquetFile(path) as file, ThreadPoolExecutor() as pool:
        first = 0
        for group in range(file.num_row_groups):
            column = file.read_row_group(group, columns=["image"]).column("image")
            decode = partial(_decode_row, path, column, images[first : first + len(column)], first)
            for _ in pool.map(decode, range(len(column))):
                pass
            first += len(column)


def _decode_row(path: Path, column: pa.ChunkedArray, images: Tensor, first: int, row: int) -> None:
    data = column[row].as_py()
    if not isinstance(data, bytes):
        raise EgganError(f"{path}, row {first + row}, column image: holds no bytes; each row needs an encoded image.")
    try:
        images[row] = torch.from_numpy(decode_image(data, images.shape[-1]).transpose(2, 0, 1).copy())
    except ValueError as error:
        raise EgganError(f"{path}, row {first + row}, column image: {error}.") from None


def _check_columns(path: Path, names: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise EgganError(f"{path} lacks the column{'s'[: len(missing) > 1]} {', '.join(missing)}.")
    unknown = [name for name in names if re.fullmatch(r"AU\d+_r", name.strip()) and name not in COLUMNS]
    if unknown:
        raise EgganError(
            f"{path} has the unknown Action Unit column {', '.join(unknown)}: the 17 are {', '.join(COLUMNS)}."
        )


def _check_intensities(path: Path, intensities: np.ndarray) -> None:
    bad = ~((intensities >= 0) & (intensities <= MAX_INTENSITY))
    if bad.any():
        row, j = (int(i) for i in np.argwhere(bad)[0])
        raise EgganError(
            f"{path}, row {row}, column {COLUMNS[j]}: intensity {intensities[row, j]:g} is outside 0..5 "
            f"({int(bad.sum())} such values in the file)."
        )


def _numbers(path: Path, table: pa.Table, name: str, dtype: type[np.generic]) -> np.ndarray:
    column = table.column(name)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise EgganError(f"{path}, column {name}: is of type {column.type}, not numbers.")
    numbers = column.to_numpy()
    if dtype is np.int64 and not (whole := np.isfinite(numbers) & (numbers == np.floor(numbers))).all():
        row = int(np.flatnonzero(~whole)[0])
        raise EgganError(f"{path}, row {row}, column {name}: is no whole number; write 0 where it is unknown.")
    return numbers.astype(dtype)


def _landmarks(table: pa.Table) -> np.ndarray | None:
    """The points of the column, which has them in pixels of 128, in half sides; None where it holds something else."""
    points = np.array([np.nan])
    with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
        column = table.column("landmarks").cast(pa.list_(pa.float32()))
        if pc.all(pc.equal(pc.fill_null(pc.list_value_length(column), 0), 2 * LANDMARKS)).as_py():
            points = pc.list_flatten(column).to_numpy()
    if not np.isfinite(points).all():
        return None
    return ((points.reshape(-1, LANDMARKS, 2) + 0.5) / 64 - 1).astype(np.float16)


def _words(path: Path, table: pa.Table, name: str) -> np.ndarray:
    words = table.column(name).to_pylist()
    for row, word in enumerate(words):
        if not isinstance(word, str) or not word:
            raise EgganError(f"{path}, row {row}, column {name}: is {word!r}; each row needs a word.")
    return np.array(words, dtype=object)
