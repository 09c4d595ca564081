"""From a face's own expression to another, or along a track of Action Units: as a labelled strip or an animation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from eggan.action_units import COLUMNS, Targets
from eggan.animation import ENDINGS, ffmpeg, fitted, save_animation, there_and_back
from eggan.contact_sheet import contact_sheet
from eggan.data.track import Track
from eggan.editor import Editor
from eggan.errors import EgganError
from eggan.faces import Photograph
from eggan.files import is_same
from eggan.provenance import FaceEdit, Provenance, save_picture

__all__ = ["CELL", "Timing", "check_output", "drive", "morph"]

STRIP = ".png"
CELL = 192
"""Side of a face in a strip, in pixels."""
STEPS, SECONDS, FPS = 9, 2.0, 25.0


Sign = Callable[..., bytes]


class Timing(NamedTuple):
    """What the user said of steps, seconds and frames a second; None is the default."""

    steps: int | None = None
    seconds: float | None = None
    fps: float | None = None


def check_output(photo: Path, out: Path, timing: Timing, track: Path | None) -> None:
    """Refuse, before any work, an ending that cannot be written and a timing that does not go with it.

    Raises:
        EgganError: as said; or MP4 is asked for and ffmpeg is not there.
    """
    ending = out.suffix.lower()
    if ending not in (STRIP, *ENDINGS):
        raise EgganError(f"{out} must end in .png (a strip) or {', '.join(ENDINGS)}.")
    if is_same(out, photo):
        raise EgganError(f"The result would overwrite the photograph {photo}: give another -o.")
    if ending == STRIP and (timing.seconds or timing.fps):
        raise EgganError("A strip has --steps; --seconds and --fps go with an animation.")
    if timing.steps and timing.seconds:
        raise EgganError("--steps and --seconds both say how many pictures there are: give one of them.")
    if track is not None and ending != STRIP and (timing.steps or timing.seconds):
        raise EgganError("An animation by --track has a frame for each row: --steps and --seconds do not go with it.")
    if ending == ".mp4":
        ffmpeg()


def morph(
    editor: Editor,
    photo: Photograph,
    targets: Targets,
    out: Path,
    timing: Timing,
    *,
    only: bool = False,
    relative: bool = False,
    face: str | int = "largest",
    crop: bool = False,
    sign: Sign | None = None,
) -> Provenance:
    """Eq. 8 from the face's own expression to the targets: a strip of the aligned face, or there and back.

    `sign` is called with the bytes, their MIME type and `provenance`, and gives the signed bytes.

    Returns:
        The record that is written with it.

    Raises:
        EgganError: as `Editor.edit` and the writers.
    """
    strip = out.suffix.lower() == STRIP
    crop = crop or strip
    photo = photo if crop else fitted(photo)
    end = editor.edit_photograph(photo, targets, only=only, relative=relative, face=face, crop=crop)
    fps = timing.fps or FPS
    if strip:
        alphas = np.linspace(0, 1, timing.steps or STEPS).tolist()
    else:
        alphas = there_and_back(timing.steps or max(2, round((timing.seconds or SECONDS) * fps / 2) + 1))
    frames = editor.frames(photo, targets, alphas, only=only, relative=relative, face=face, crop=crop)
    pictures = (frame.picture() for frame in frames)
    if strip:
        record = replace(end.provenance, made=f"strip of {len(alphas)} steps from source to target")
        sheet = _strip(list(pictures), _changes(end.provenance.edits[0]), [f"{a:.3g}" for a in alphas])
        save_picture(sheet, out, record, sign and partial(sign, provenance=record))
    else:
        record = replace(end.provenance, made=f"animation of {len(alphas)} frames from source to target and back")
        save_animation(pictures, out, fps, record, sign and partial(sign, provenance=record))
    return record


def drive(
    editor: Editor,
    photo: Photograph,
    track: Track,
    out: Path,
    timing: Timing,
    *,
    face: str | int = "largest",
    crop: bool = False,
    sign: Sign | None = None,
) -> Provenance:
    """A face with the expressions of a track: a frame a row, or a strip of evenly chosen rows; `sign` as in `morph`.

    Returns:
        The record that is written with it.

    Raises:
        EgganError: as `Editor.edit` and the writers.
    """
    rows, own_fps, name = track
    strip = out.suffix.lower() == STRIP
    crop = crop or strip
    photo = photo if crop else fitted(photo)
    chosen = np.linspace(0, len(rows) - 1, min(timing.steps or STEPS, len(rows))).round().astype(int).tolist()
    if strip:
        rows = [rows[k] for k in chosen]
    start = editor.edit_photograph(photo, rows[0], face=face, crop=crop)
    made = f"{'strip' if strip else 'animation'} of {len(rows)} rows of {name}"
    edits = tuple(replace(edit, target={}) for edit in start.provenance.edits)  # another one in every frame
    record = replace(start.provenance, edits=edits, made=made)
    pictures = (frame.picture() for frame in editor.animate(photo, rows, face=face, crop=crop))
    if strip:
        sheet = _strip(list(pictures), name, [f"row {k + 1}" for k in chosen])
        save_picture(sheet, out, record, sign and partial(sign, provenance=record))
    else:
        fps = timing.fps or min(max(own_fps or FPS, 1), 60)
        save_animation(pictures, out, fps, record, sign and partial(sign, provenance=record))
    return record


def _strip(pictures: Sequence[Image.Image], label: str, columns: Sequence[str]) -> Image.Image:
    return contact_sheet([[picture.convert("RGB") for picture in pictures]], [label], columns, CELL)


def _changes(edit: FaceEdit) -> str:
    """The AUs that an edit changes, a line each, as `AU12 0.1 to 4.0`."""
    lines = [
        f"{column[:4]} {edit.source[column]:.1f} to {edit.target[column]:.1f}"
        for column in COLUMNS
        if abs(edit.target[column] - edit.source[column]) >= 0.1
    ]
    return "\n".join(lines)
