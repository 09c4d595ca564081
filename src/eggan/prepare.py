"""`eggan prepare`: the pictures that an importer lists, found, aligned and annotated, to a faces file."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from eggan.action_units import COLUMNS
from eggan.annotate import read_crops
from eggan.data.by_file import ByFile
from eggan.data.openface import NoTablesError, OpenFace, Reading, most_confident, read_tables
from eggan.data.parts import Output
from eggan.data.pictures import Item, read_items
from eggan.data.places import ending, file_state
from eggan.data.sources import Listing, Source
from eggan.errors import EgganError
from eggan.estimator import BATCH, ActionUnitEstimator
from eggan.faces import Face, align, detect, select
from eggan.files import printable
from eggan.flow import Stages, flow
from eggan.progress import track

__all__ = ["Reader", "choose_reader", "prepare"]

Reader = ActionUnitEstimator | OpenFace | ByFile[list[Reading]]
"""Where AUs come from: the built-in estimator, OpenFace, or tables of readings made before."""

CHUNK = 64
"""Pictures a part: what is lost at most where the work is cut off, and what OpenFace gets at once."""
SAME_FACE = 0.5
"""Between the centres of two boxes of one face at most, as a part of the side of the box."""


def choose_reader(annotator: Literal["builtin", "openface"], tables: Path | None = None) -> tuple[Reader, str]:
    """Who reads the AUs, as the command line names it, and what stands for their readings: it changes where they do.

    Args:
        annotator: `builtin`, or `openface` where OPENFACE_BIN says where it is.
        tables: a table of readings made before, or a folder of them, and nobody reads.

    Raises:
        EgganError: both are named, OpenFace is not there, or a table is wrong.
    """
    if tables is not None:
        if annotator == "openface":
            raise EgganError("Give either --aus, AUs that were read before, or --with openface.")
        readings = read_tables(tables)
        return ByFile(readings), hashlib.sha256(ascii(readings).encode()).hexdigest()
    if annotator == "openface":
        return OpenFace(), "openface"
    estimator = ActionUnitEstimator.from_pretrained()
    weights = b"".join(tensor.numpy().tobytes() for tensor in estimator.state_dict().values())
    return estimator, hashlib.sha256(weights).hexdigest()


def prepare(
    listing: Listing,
    source: str | Path,
    out: str | Path,
    reader: Reader,
    settings: str,
    size: int = 128,
    cluster: str | None = None,
) -> str:
    """Make a faces file, or three with people apart, from what an importer listed.

    The same call again goes on where the last one was cut off, and does nothing where nothing changed.

    Args:
        listing: the pictures, and what was left out already.
        source: what was listed, for the sentences of errors.
        out: a faces file, or a folder for `train.parquet`, `val.parquet` and `test.parquet`; here or at an address.
        reader: where AUs come from.
        settings: stands for the reader: a picture that was read by another one is read anew.
        size: side of the crops in pixels.
        cluster: as `eggan.flow.flow`.

    Returns:
        What was written, a line a file.

    Raises:
        EgganError: nothing could be prepared, three files are asked for and fewer than three people are there, or
            `out` is somebody else's.
    """
    output = Output(str(out).rstrip("/"))
    if not listing.sources:
        first = (
            f"{listing.skipped[0].item.below}: {listing.skipped[0].reason}" if listing.skipped else "it has no picture"
        )
        raise EgganError(f"{source} holds nothing to prepare ({first}).")
    people = {picture.identity for picture in listing.sources}
    if output.split and len(people) < 3:
        raise EgganError(
            f"{source} shows {len(people)} people, too few for train, val and test: give a .parquet as -o."
        )
    states = {place: _state(place) for place in {picture.item.place for picture in listing.sources}}
    keys = [_key(picture, states[picture.item.place], f"{settings} {size}") for picture in listing.sources]
    facts = "\n".join([ending(output.out), *keys, *map(str, listing.skipped)])
    job = hashlib.sha256(facts.encode(errors="surrogateescape")).hexdigest()
    if output.holds(job):
        return f"{out} is up to date."
    done, seen = output.done(set(keys))
    todo = [(picture, key) for picture, key in zip(listing.sources, keys, strict=True) if key not in done]
    chunks = [todo[start : start + CHUNK] for start in range(0, len(todo), CHUNK)]
    side = reader.config.image_size if isinstance(reader, ActionUnitEstimator) else None
    stages = Stages(partial(_look, size=size, side=side), partial(_load, reader), _finish)
    for rows in track(flow(chunks, stages, cluster), "preparing", len(chunks)):
        output.add([_unless_seen(row, seen) for row in rows])
    skipped = [(printable(item.below), item.number, printable(reason)) for item, reason in listing.skipped]
    return output.finish(set(keys), skipped, job)


def _state(place: str) -> str:
    try:
        return file_state(place)
    except OSError:
        return "gone"


def _key(source: Source, state: str, settings: str) -> str:
    """Stands for all that a row depends on; it changes where the file does."""
    item, *labels = source
    facts = [item.place, *map(str, labels), str(item.number), state, settings]
    return hashlib.sha256("\0".join(facts).encode(errors="surrogateescape")).hexdigest()


class Seen(NamedTuple):
    """A picture's row so far, and its face, cut out for the estimator where that reads."""

    row: dict[str, Any]
    face: Face | None = None
    crop: np.ndarray | None = None


def _look(chunk: Sequence[tuple[Source, str]], size: int, side: int | None) -> list[Seen]:
    """Find and cut out the face of each picture: at `size` for the faces file, at `side` for the estimator."""
    by_item = {source.item: (source, key) for source, key in chunk}
    found = []
    for item, photo in read_items(list(by_item)):
        source, key = by_item[item]
        row = {**source._asdict(), "key": key, "file": printable(item.below), "frame": item.number}
        try:
            if isinstance(photo, EgganError):
                raise photo
            pixels = photo.pixels
            row["pixels"] = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()
            face = _largest(detect(pixels), photo.name)
            row["image"] = _png(align(pixels, face, size))
            found.append(Seen(row, face, None if side is None else align(pixels, face, side)))
        except EgganError as error:
            found.append(Seen(row | {"reason": printable(str(error))}))
    return found


def _load(reader: Reader) -> Callable[[list[Seen]], list[dict[str, Any]]]:
    return partial(_rows, reader=reader)


def _rows(found: Sequence[Seen], reader: Reader) -> list[dict[str, Any]]:
    """A row of a part for each picture."""
    readings = _readings([seen for seen in found if seen.face is not None], reader)
    rows = []
    for row, face, _ in found:
        try:
            if face is not None:
                aus = _reading_of(face, readings.get(row["item"], []))
                row = row | dict(zip(COLUMNS, aus, strict=True))
            rows.append(row)
        except EgganError as error:
            rows.append(_left_out(row, str(error)))
    return rows


def _left_out(row: dict[str, Any], reason: str) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k not in ("image", *COLUMNS)} | {"reason": printable(reason)}


def _finish(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Nothing: the process that was called writes the rows, which it first compares with those of other chunks."""
    return rows


def _unless_seen(row: dict[str, Any], seen: dict[str, str]) -> dict[str, Any]:
    """The row, or why it is left out where its picture is in `seen`, which grows by those that are kept."""
    pixels = row.get("pixels")
    if pixels in seen:
        return _left_out(row, f"the same picture as {seen[pixels]}")
    if "reason" not in row:
        seen[row["pixels"]] = row["file"]
    return row


def _readings(seen: Sequence[Seen], reader: Reader) -> dict[Item, list[Reading]]:
    """What is read off the faces of a chunk, or stands in a table about them.

    The estimator gets whole batches, filled up with the last face: so it reads a face alike whichever stand beside it,
    and a run that was cut off ends as one that was not.
    """
    items = [each.row["item"] for each in seen]
    if isinstance(reader, ActionUnitEstimator):
        crops = [each.crop for each in seen if each.crop is not None]
        read = read_crops(reader, [*crops, *crops[-1:] * (-len(crops) % BATCH)]) if crops else []
        return {item: [Reading(action_units=aus)] for item, aus in zip(items, read[: len(items)], strict=True)}
    if isinstance(reader, OpenFace):
        given: list[Item] = []

        def pictures() -> Iterator[np.ndarray]:
            for item, photo in read_items(items):
                if not isinstance(photo, EgganError):
                    given.append(item)
                    yield photo.pixels

        try:
            return dict(zip(given, reader.read(pictures()), strict=True))
        except NoTablesError as error:
            return {item: [Reading(reason=str(error))] for item in given}
    return {item: _in_table(reader, item) for item in items}


def _in_table(table: ByFile[list[Reading]], item: Item) -> list[Reading]:
    try:
        found = table.find(item.place) or []
    except EgganError as error:
        return [Reading(reason=str(error))]
    return [r for r in found if r.frame == item.number] or [Reading(reason="it is not in the table of AUs")]


def _reading_of(face: Face, readings: Sequence[Reading]) -> tuple[float, ...]:
    """The intensities of the reading that lies on the face; of the most confident one where none says where it lies."""
    counting = [reading for reading in readings if not reading.reason]
    if not counting:
        raise EgganError(readings[0].reason if readings else "OpenFace found no face")
    placed = [reading for reading in counting if reading.box is not None]
    best = min(placed, key=lambda reading: _distance(face, reading)) if placed else most_confident(counting)
    if placed and best and _distance(face, best) > SAME_FACE:
        raise EgganError("the AUs are of another face")
    return (best and best.action_units) or ()


def _distance(face: Face, reading: Reading) -> float:
    """Between the centres of the boxes, as a part of the side of the face's."""
    (a, b, c, d), (left, top, right, bottom) = face.box, reading.box or (0.0, 0.0, 0.0, 0.0)
    return abs(complex(a + c - left - right, b + d - top - bottom)) / 2 / (c - a)


def _largest(faces: Sequence[Face], name: str) -> Face:
    """The largest face that can be aligned: of a view from the front beside one from the side it is the former."""
    return next((face for face in faces if face.alignable), None) or select(faces, "largest", name)[0]


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
