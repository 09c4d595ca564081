"""Photographs by the million: folders, videos and Parquet shards in, Parquet shards out, here or on a Ray cluster.

OUT/job.json                      what was asked, so that another job is not mixed in
OUT/shards/part-000000.parquet …  the rows of one chunk of pictures each, in the order of the inputs; whole or not there
OUT/pictures/                     edited pictures, where files are asked for
OUT/rejected.parquet              file, number and reason of each picture that has no row; written last
OUT/.rejected/                    the same by chunk

The same command again takes up the chunks that have no shard yet. What a shard holds does not depend on where it
was made, nor on how many work.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from eggan.action_units import COLUMNS, Targets
from eggan.annotate import read_crops
from eggan.cuts import Cut, EditedCut, cut_faces, put_together
from eggan.data.openface import BOX
from eggan.data.pictures import Item, list_items, read_items
from eggan.data.places import file_system, names, write_whole
from eggan.editor import Editor, check_request, choose_device
from eggan.errors import EgganError
from eggan.estimator import ActionUnitEstimator
from eggan.faces import check_which
from eggan.files import check_apart, printable
from eggan.flow import Stages, flow
from eggan.progress import track
from eggan.provenance import FORMATS, encode_picture

__all__ = ["CHUNK", "Change", "annotate", "edit"]

CHUNK = 64
"""Pictures of one part: what a worker has in memory at most, and what is done again where one dies."""
WHERE = (("file", pa.string()), ("number", pa.int64()))
"""A picture: its file, and the frame of a video (from 1) or the row of a shard (from 0)."""
REJECTED = pa.schema([*WHERE, ("reason", pa.string())])
ANNOTATED = pa.schema(
    [*WHERE, ("face", pa.int32()), *((side, pa.float32()) for side in (*BOX, "score", *COLUMNS))],
)
EDITED = pa.schema(
    [
        *WHERE,
        ("image", pa.binary()),
        ("output", pa.string()),
        ("faces", pa.list_(pa.int32())),
        ("source", pa.list_(pa.list_(pa.float32()))),
        ("target", pa.list_(pa.list_(pa.float32()))),
        ("record", pa.string()),
    ]
)
"""A row a picture: `image` holds it, or `output` says where it lies; AUs in the order of `NUMBERS`, a list a face."""


class Change(NamedTuple):
    """What `eggan edit` is asked for, as `Editor.edit` takes it."""

    model: str
    targets: Targets
    only: bool = False
    relative: bool = False
    face: str = "largest"
    crop: bool = False
    device: str = "auto"


class Part(NamedTuple):
    """A chunk of the job, numbered in the order of the inputs."""

    number: int
    items: list[Item]


class Looked(NamedTuple):
    """A picture's faces cut out, and how many were left out; or why it has none."""

    item: Item
    cuts: list[Cut]
    left_out: int = 0
    reason: str = ""


class Counts(NamedTuple):
    """Of a part: pictures with a row, and without."""

    kept: int
    rejected: int


def annotate(inputs: Sequence[str | Path], out: str | Path, face: str = "largest", cluster: str | None = None) -> str:
    """The AUs of all pictures, one row a face.

    Args:
        inputs: files, folders, patterns, videos and shards, here or at addresses.
        out: folder or address for the shards.
        face: `largest`, `all`, or the number of one.
        cluster: as `eggan.flow.flow`.

    Returns:
        What was done, in a line.

    Raises:
        EgganError: an input holds nothing, `face` is wrong, `out` holds another job, or the cluster is not there.
    """
    check_which(face)
    shards = _Shards(str(out), ANNOTATED)
    estimator = ActionUnitEstimator.from_pretrained()
    stages = Stages(
        partial(_look, which=face, side=estimator.config.image_size), _load_reader, partial(_write_read, shards=shards)
    )
    return _run(list_items(inputs, leave_out=[out]), shards, stages, f"annotate {face}", cluster)


def edit(
    inputs: Sequence[str | Path], out: str | Path, change: Change, *, files: bool = False, cluster: str | None = None
) -> str:
    """Edits of all pictures, one row a picture.

    Args:
        inputs: as `annotate`.
        out: folder or address for the shards; and for the pictures, below `pictures/`, where `files` is set.
        change: what to do to each.
        files: write pictures as files instead of into the shards.
        cluster: as `eggan.flow.flow`.

    Returns:
        What was done, in a line.

    Raises:
        EgganError: as `annotate`; or the model or a target is wrong, or two pictures would be written to one file.
    """
    shards = _Shards(str(out), EDITED)
    check_request(change.targets, change.only, change.relative, change.face, change.crop)
    items = list_items(inputs, leave_out=[out])
    if files:
        check_apart(((item.place, _output(item)) for item in items), "rename one, or give --shards")
    choose_device(change.device)
    side = Editor.from_pretrained(change.model, device="cpu").crop_side
    stages = Stages(
        partial(_look, which=change.face, side=side),
        partial(_load_editor, change),
        partial(_write_edited, shards=shards, change=change, files=files),
        gpu=True,
    )
    return _run(items, shards, stages, f"edit {files} {change}", cluster)


def _run(items: list[Item], shards: _Shards, stages: Stages[Part, Counts], asked: str, cluster: str | None) -> str:
    if cluster is not None and "://" not in shards.root:  # a worker stands in another folder
        shards.root = str(Path(shards.root).absolute())
    parts = [Part(n, items[start : start + CHUNK]) for n, start in enumerate(range(0, len(items), CHUNK))]
    todo = shards.begin(parts, asked)
    kept = rejected = 0
    for counts in track(flow(todo, stages, cluster), "parts", len(todo)):
        kept, rejected = kept + counts.kept, rejected + counts.rejected
    shards.end()
    if rejected and not kept and len(todo) == len(parts):
        raise EgganError(f"All {rejected} pictures were rejected; {shards.root}/rejected.parquet says why.")
    before = f"; {len(parts) - len(todo)} of {len(parts)} parts were there" if len(todo) < len(parts) else ""
    return f"{shards.root}: {kept} pictures done, {rejected} rejected{before}"


# --- Stages: each takes what the one before gave, for one part -------------------------------------------------------


def _look(part: Part, which: str, side: int | None) -> tuple[int, list[Looked]]:
    found = []
    for item, photo in read_items(part.items):
        try:
            if isinstance(photo, EgganError):
                raise photo
            found.append(Looked(item, *cut_faces(photo, which, side)))
        except EgganError as error:
            found.append(Looked(item, [], reason=str(error)))
    return part.number, found


def _load_reader() -> Callable[[tuple[int, list[Looked]]], tuple[int, list[Looked], list[tuple[float, ...]]]]:
    estimator = ActionUnitEstimator.from_pretrained()

    def read(part: tuple[int, list[Looked]]) -> tuple[int, list[Looked], list[tuple[float, ...]]]:
        crops = [cut.crop for looked in part[1] for cut in looked.cuts]
        return *part, read_crops(estimator, crops) if crops else []

    return read


def _write_read(part: tuple[int, list[Looked], list[tuple[float, ...]]], shards: _Shards) -> Counts:
    number, found, read = part
    values = iter(read)
    rows = []
    for looked in found:
        for cut in looked.cuts:
            assert cut.face is not None
            seen = dict(zip((*BOX, "score", *COLUMNS), (*cut.face.box, cut.face.score, *next(values)), strict=True))
            rows.append({**_where(looked.item), "face": cut.number, **seen})
    return shards.write(number, rows, _rejected(found))


def _load_editor(change: Change) -> Callable[[tuple[int, list[Looked]]], tuple[int, list[Looked], list[EditedCut]]]:
    editor = Editor.from_pretrained(change.model, device=change.device)

    def edit(part: tuple[int, list[Looked]]) -> tuple[int, list[Looked], list[EditedCut]]:
        cuts = [cut for looked in part[1] for cut in looked.cuts]
        return *part, editor.edit_cuts(cuts, change.targets, only=change.only, relative=change.relative)

    return edit


def _write_edited(
    part: tuple[int, list[Looked], list[EditedCut]], shards: _Shards, change: Change, files: bool
) -> Counts:
    """Put the faces back into their photographs, which are read anew: kept, they would fill the memory."""
    number, found, cuts = part
    edits, rows = iter(cuts), []
    seen = [looked for looked in found if not looked.reason]
    rejected = _rejected(found)
    for looked, (item, photo) in zip(seen, read_items([looked.item for looked in seen]), strict=True):
        mine = [next(edits) for _ in looked.cuts]
        name = _output(item)
        try:
            if isinstance(photo, EgganError):
                raise photo
            edited = put_together(photo, mine, change.model, change.crop, looked.left_out)
            data = encode_picture(edited.picture(), name, edited.provenance)
        except EgganError as error:
            rejected.append({**_where(item), "reason": printable(str(error))})
            continue
        if files:
            shards.put(name, data)
        rows.append(
            {
                **_where(item),
                "image": None if files else data,
                "output": name if files else None,
                "faces": [cut.number for cut, _, _ in mine],
                "source": [list(record.source.values()) for _, _, record in mine],
                "target": [list(record.target.values()) for _, _, record in mine],
                "record": edited.provenance.to_json(),
            }
        )
    return shards.write(number, rows, rejected)


def _where(item: Item) -> dict[str, Any]:
    return {"file": printable(item.place), "number": item.number}


def _rejected(found: Sequence[Looked]) -> list[dict[str, Any]]:
    return [{**_where(looked.item), "reason": printable(looked.reason)} for looked in found if looked.reason]


def _output(item: Item) -> str:
    """Name of an edited picture below the folder of the job."""
    kept = item.number is None and Path(item.below).suffix.lower() in FORMATS
    number = "" if item.number is None else f"-{item.number:06}"
    return f"pictures/{item.below}{'' if kept else f'{number}.png'}"


# --- Shards ----------------------------------------------------------------------------------------------------------


@dataclass
class _Shards:
    """The folder or address of a job."""

    root: str
    schema: pa.Schema

    def begin(self, parts: Sequence[Part], asked: str) -> list[Part]:
        """The parts that are not there yet.

        Raises:
            EgganError: the folder holds another job, or something else.
        """
        listing = "\n".join(f"{item}" for part in parts for item in part.items)
        job = {"asked": asked, "pictures": hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()}
        fs, root = file_system(self.root)
        there = {name for name in names(self.root) if not name.startswith(".")}
        if "job.json" in there:
            if json.loads(fs.cat_file(f"{root}/job.json")) != job:
                raise EgganError(f"{self.root} holds another job, or its inputs changed: give another -o.")
        elif there:
            raise EgganError(f"{self.root} holds something else ({min(there)}): give a new or empty folder.")
        else:
            self.put("job.json", json.dumps(job, indent=1).encode())
        done = names(f"{self.root}/shards")
        todo = [part for part in parts if _name(part.number) not in done]
        for name in names(f"{self.root}/.rejected") & {_name(part.number) for part in todo}:
            fs.rm(f"{root}/.rejected/{name}")  # of a part that was cut off, or whose shard was removed
        return todo

    def write(self, number: int, rows: Sequence[dict[str, Any]], rejected: Sequence[dict[str, Any]]) -> Counts:
        """Write a shard; what was rejected first, for a part whose shard is there is done."""
        if rejected:
            self.put(f".rejected/{_name(number)}", _parquet(rejected, REJECTED))
        self.put(f"shards/{_name(number)}", _parquet(rows, self.schema))
        return Counts(len({(row["file"], row["number"]) for row in rows}), len(rejected))

    def end(self) -> None:
        """Gather what was rejected into one file, and remove what workers that died left behind."""
        fs, root = file_system(self.root)
        found = sorted(path for path in names(f"{self.root}/.rejected") if path.startswith("part-"))
        tables = [pq.read_table(io.BytesIO(fs.cat_file(f"{root}/.rejected/{name}"))) for name in found]
        data = _parquet(pa.concat_tables([REJECTED.empty_table(), *tables]), REJECTED)
        if "rejected.parquet" not in names(self.root) or fs.cat_file(f"{root}/rejected.parquet") != data:
            self.put("rejected.parquet", data)
        for folder in ("shards", ".rejected"):
            for name in names(f"{self.root}/{folder}"):
                if name.startswith("."):
                    fs.rm(f"{root}/{folder}/{name}")

    def put(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all."""
        write_whole(f"{self.root}/{name}", lambda file: file.write(data))


def _name(number: int) -> str:
    return f"part-{number:06}.parquet"


def _parquet(rows: Sequence[dict[str, Any]] | pa.Table, schema: pa.Schema) -> bytes:
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()
