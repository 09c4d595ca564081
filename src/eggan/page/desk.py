"""What the page does with a photograph, a thin face over `Editor`: no Gradio here, and nothing of the model."""

from __future__ import annotations

import secrets
import shlex
import shutil
import weakref
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from PIL import Image, ImageDraw

from eggan.action_units import NUMBERS, parse_emotion, whole_expression
from eggan.animation import fitted
from eggan.editor import Editor
from eggan.errors import EgganError
from eggan.faces import Face, Photograph, open_photograph, select
from eggan.interpolation import Timing, check_output, morph
from eggan.provenance import on_white, save_picture

__all__ = ["KINDS", "MAX_BYTES", "MAX_PIXELS", "Desk", "Opened", "Start"]

MAX_BYTES = 20_000_000
MAX_PIXELS = 25_000_000
"""Of an upload, decoded: 75 MB. What is shown is at most 1280 pixels wide; what is saved has the photograph's size."""
STEP = 0.1
"""Of a slider: the face's own intensities are shown rounded to it."""
RECENT = 32
"""How many opened photographs are kept, at 5 MB at most each."""
KEPT = 200
"""How many edits are kept for browsers to fetch; the oldest go."""
KEPT_FILES = 30
KINDS = {
    "Picture, JPEG": ".jpg",
    "Picture, PNG": ".png",
    "Picture, WebP": ".webp",
    "Animation, GIF": ".gif",
    "Animation, WebP": ".webp",
    "Animation, MP4": ".mp4",
    "Strip of 9 steps, PNG": ".png",
}
"""What can be saved, and the ending of its file."""


@dataclass(frozen=True)
class Start:
    """Where the sliders stand before a hand moves one: the face's own expression, an emotion, or another face's.

    Attributes:
        option: how the command line says it: empty, `--emotion happy:0.8` or `--like her.jpg`.
        targets: the AUs it sets; none for the face's own.
        sliders: the 17 values that are shown.
    """

    option: str
    targets: Mapping[int, float]
    sliders: tuple[float, ...]

    def moved(self, sliders: Sequence[float]) -> dict[int, float]:
        """The AUs whose slider stands elsewhere now."""
        return {n: float(v) for n, v, own in zip(NUMBERS, sliders, self.sliders, strict=True) if abs(v - own) > 1e-6}


class Opened(NamedTuple):
    """A photograph on the desk.

    Attributes:
        photo: at most 1280 pixels wide and high, named as its owner named it.
        faces: the numbers of the faces that can be edited, the largest first.
        shown: file of the photograph as browsers show it.
        numbered: file with the faces outlined and numbered; None where there is one.
    """

    photo: Photograph
    faces: tuple[int, ...]
    shown: Path
    numbered: Path | None


class Desk:
    """Does what the page's visitors ask for; may be used from several threads.

    Args:
        editor: does the edits.
        folder: for the pictures that are shown and saved; the latest are kept.
    """

    def __init__(self, editor: Editor, folder: Path) -> None:
        self.editor = editor
        self._edits, self._files = _Shelf(folder, KEPT), _Shelf(folder, KEPT_FILES)
        self._folder = folder
        self.open = lru_cache(RECENT)(self._open)

    def own(self, path: Path, face: int) -> Start:
        """The face as it is."""
        intensities = self.editor.action_units(self.open(path).photo, face=face)
        return Start("", {}, _rounded(intensities))

    def emotion(self, name: str, strength: float) -> Start:
        """An emotion at a strength of 0..1."""
        text = name if strength == 1 else f"{name}:{strength:g}"
        targets = whole_expression(parse_emotion(text))
        return Start(f"--emotion {text}", targets, _rounded(targets.values()))

    def like(self, path: Path) -> Start:
        """The expression of the largest face of another photograph."""
        other = self.open(path).photo
        targets = dict(zip(NUMBERS, self.editor.action_units(other), strict=True))
        return Start(f"--like {shlex.quote(other.name)}", targets, _rounded(targets.values()))

    def edit(self, path: Path, face: int, start: Start, sliders: Sequence[float]) -> Path:
        """The edited photograph as it is shown, with its record: one pass of the generator."""
        opened = self.open(path)
        edited = self.editor.edit_photograph(opened.photo, {**start.targets, **start.moved(sliders)}, face=face)
        out = self._edits.place(f"{Path(opened.photo.name).stem}-edited.jpg")
        save_picture(edited.picture(), out, edited.provenance)
        return out

    def save(self, path: Path, face: int, start: Start, sliders: Sequence[float], kind: str) -> Path:
        """The edit at the photograph's own size, a strip, or an animation there and back, with its record."""
        if kind not in KINDS:
            raise EgganError(f'"{kind}" cannot be saved: choose one of {", ".join(KINDS)}.')
        photo = _opened(path)
        targets = {**start.targets, **start.moved(sliders)}
        out = self._files.place(f"{Path(photo.name).stem}-edited{KINDS[kind]}")
        if kind.startswith("Picture"):
            edited = self.editor.edit_photograph(photo, targets, face=face)
            save_picture(edited.picture(), out, edited.provenance)
        else:
            check_output(path, out, Timing(), None)
            morph(self.editor, photo, targets, out, Timing(), face=face)
        return out

    def command(self, path: Path, face: int, start: Start, sliders: Sequence[float]) -> str:
        """The line for a terminal that makes the same edit of the same file."""
        name = Path(path).name
        words = ["eggan edit", shlex.quote(name), "-o", shlex.quote(f"{Path(name).stem}-edited.jpg")]
        words += [start.option] if start.option else []
        words += [f"--au {number}={value:g}" for number, value in start.moved(sliders).items()]
        if not start.option and not start.moved(sliders):
            return ""
        return " ".join([*words, f"--face {face}"] if face else words)

    def _open(self, path: Path) -> Opened:
        photo = fitted(_opened(path))
        found = self.editor.faces(photo)
        faces = tuple(number for number, face in enumerate(found) if face.alignable)
        if not faces:
            select(found, "largest", photo.name)  # says why there is none
        picture = on_white(photo.picture()).convert("RGB")
        room = _new_room(self._folder)
        weakref.finalize(photo, shutil.rmtree, room, ignore_errors=True)  # with the photograph, its pictures go
        shown, numbered = room / "original.jpg", room / "faces.jpg" if len(faces) > 1 else None
        picture.save(shown, quality=95, icc_profile=photo.profile)
        if numbered is not None:
            _outlined(picture, found, faces).save(numbered)
        return Opened(photo, faces, shown, numbered)


class _Shelf:
    """Files of which the latest are kept, under names that cannot be guessed."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder, self._size, self._lock = folder, size, Lock()
        self._paths: deque[Path] = deque()

    def place(self, name: str) -> Path:
        """A path for a new file of that name; the oldest file goes where there are too many."""
        room = _new_room(self._folder)
        with self._lock:
            self._paths.append(room)
            old = self._paths.popleft() if len(self._paths) > self._size else None
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
        return room / name


def _new_room(folder: Path) -> Path:
    room = folder / secrets.token_hex(16)
    room.mkdir(parents=True)
    return room


def _opened(path: Path) -> Photograph:
    """The photograph at its own size; messages name the file, not where it is kept."""
    try:
        return replace(open_photograph(path, MAX_PIXELS), name=path.name)
    except EgganError as error:
        raise EgganError(str(error).replace(str(path), path.name)) from None


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(round(float(value) / STEP) * STEP, 1) for value in values)


def _outlined(picture: Image.Image, found: Sequence[Face], numbers: Sequence[int]) -> Image.Image:
    """A copy with a numbered box around each of the faces."""
    picture = picture.copy()
    draw = ImageDraw.Draw(picture)
    size = max(14, max(picture.size) // 30)
    for number in numbers:
        left, top, right, bottom = found[number].box
        draw.rectangle((left, top, right, bottom), outline="white", width=max(2, size // 6))
        draw.rectangle((left, top, left + size * 1.1, top + size * 1.3), fill="white")
        draw.text((left + size * 0.25, top), str(number), fill="black", font_size=size)
    return picture
