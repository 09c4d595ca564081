"""The one way in for command line, page and library users: a photograph and what to change, to a photograph."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Generic, Literal, NamedTuple, TypeVar, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eggan.action_units import COLUMNS, MAX_INTENSITY, NUMBERS, Targets, asked_vector, whole_vector
from eggan.contact_sheet import to_pictures
from eggan.cuts import Cut, Edited, EditedCut, choose, crop_size, put_together
from eggan.errors import EgganError
from eggan.estimator import ActionUnitEstimator
from eggan.faces import Face, Photograph, align, check_which, detect, open_photograph, to_photograph
from eggan.model import EGGAN, Code
from eggan.networks import Fields, resized
from eggan.pixels import to_floats
from eggan.provenance import FaceEdit, Provenance
from eggan.weights import shipped

__all__ = ["DEFAULT_MODEL", "Editor", "Photo", "check_request", "choose_device", "shipped_models"]

Photo = Image.Image | np.ndarray | Photograph | str | Path

DEFAULT_MODEL = "portrait"
RECENT = 16
"""How many photographs and faces an editor remembers: a face takes 3 MB, a huge one up to 15."""
BATCH = 16
"""Faces in one pass of the generator."""

Kind = TypeVar("Kind", Image.Image, np.ndarray)
Value = TypeVar("Value")


class Editor:
    """Edits the faces of photographs.

    Faces, what E keeps of them and their own AUs are remembered for the last few photographs, by content: a further
    edit of the same face costs one pass of G and putting it back. An editor may be used from several threads.

    >>> from eggan.data import read_faces
    >>> photo = read_faces("data/facsynth/test.parquet", 128).images[0].permute(1, 2, 0).numpy()
    >>> editor = Editor.from_pretrained(device="cpu")
    >>> editor.edit(photo, {12: 4, 6: 2}).shape
    (128, 128, 3)
    >>> len(editor.action_units(photo)), len(editor.interpolate(photo, "happy", steps=5))
    (17, 5)
    >>> editor.edit(photo * 0, "happy")
    Traceback (most recent call last):
    eggan.errors.EgganError: No face was found in the picture: give a photograph of one that looks towards the camera.
    """

    def __init__(
        self, model: EGGAN, estimator: ActionUnitEstimator, name: str = "unnamed", device: str | torch.device = "cpu"
    ) -> None:
        self.name, self.device = name, torch.device(device)
        self.model, self.estimator = model.to(self.device), estimator.to(self.device)
        self._found: _Recent[list[Face]] = _Recent(RECENT)
        self._sources: _Recent[_Source] = _Recent(RECENT)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = DEFAULT_MODEL,
        *,
        device: str = "auto",
        runtime: Literal["torch", "onnx"] = "torch",
    ) -> Editor:
        """A shipped model by name, a folder of `save_pretrained` or of a training run, or a file of `eggan export`.

        Args:
            model: the name, folder or file.
            device: `cpu`, `cuda`, `cuda:1`, or `auto`: a GPU where there is one.
            runtime: `onnx` runs E and G in onnxruntime, on the CPU. A file of `eggan export` always runs in it; a
                name or folder is exported first, which takes some seconds.

        Raises:
            EgganError: no such model or device, the model's files do not fit together, or `onnx` on a GPU.
        """
        if runtime not in ("torch", "onnx"):
            raise EgganError(f'The runtime is torch or onnx, not "{runtime}".')
        estimator = ActionUnitEstimator.from_pretrained()
        if runtime == "torch" and Path(model).suffix != ".onnx":
            return cls(EGGAN.from_pretrained(model), estimator, str(model), choose_device(device))
        if device not in ("auto", "cpu"):
            raise EgganError(f"ONNX runs on the CPU here, not on {device}: give cpu, or a model that is no .onnx file.")
        from eggan.export import load_onnx

        return cls(load_onnx(model), estimator, str(model), "cpu")

    @property
    def crop_side(self) -> int | None:
        """Side in pixels of the crops that are edited; None where it is the photograph's own, `crop_size`."""
        return None if self.model.composes else self.model.config.image_size

    def faces(self, photo: Photo) -> list[Face]:
        """All faces of a photograph, the largest first: the numbers of `face`.

        Raises:
            EgganError: the photograph cannot be read.
        """
        opened = _photograph(photo)
        return self._find(opened, _digest(opened.pixels))

    def action_units(self, photo: Photo, *, face: str | int = "largest") -> list[float]:
        """The 17 intensities, 0..5, that the built-in estimator reads off a face of a photograph.

        Raises:
            EgganError: as `edit`.
        """
        sources, _ = self._faces(_photograph(photo), face)
        return list(sources[0].action_units)

    @overload
    def edit(
        self,
        photo: np.ndarray,
        targets: Targets,
        *,
        only: bool = ...,
        relative: bool = ...,
        face: str | int = ...,
        crop: bool = ...,
    ) -> np.ndarray: ...

    @overload
    def edit(
        self,
        photo: Image.Image | Photograph | str | Path,
        targets: Targets,
        *,
        only: bool = ...,
        relative: bool = ...,
        face: str | int = ...,
        crop: bool = ...,
    ) -> Image.Image: ...

    def edit(
        self,
        photo: Photo,
        targets: Targets,
        *,
        only: bool = False,
        relative: bool = False,
        face: str | int = "largest",
        crop: bool = False,
    ) -> Image.Image | np.ndarray:
        """A photograph of the same people with the target expression; outside the edited faces nothing changes.

        Args:
            photo: a Pillow picture, a uint8 array (H, W, 3), the path of a file, or what `open_photograph` gives.
            targets: AU number to intensity 0..5 (to change -5..5 where `relative`); the other AUs stay at the
                face's own. Or all 17 intensities in the order of `NUMBERS`; or an emotion, as `happy` or
                `happy:0.8`, which sets all 17 as well.
            only: AUs that are not named go to 0.
            relative: named values are added to the face's own.
            face: `largest`, `all`, or the number of one, 0 for the largest.
            crop: give the face alone, upright and framed as facsynth frames it.

        Returns:
            An array for an array, else a Pillow picture, whose `info["eggan"]` holds the record of what was done.

        Raises:
            EgganError: the photograph cannot be read or has no such face or none that can be aligned; an AU is none
                of the 17, or a value is out of range.
        """
        edited = self.edit_photograph(photo, targets, only=only, relative=relative, face=face, crop=crop)
        return _same_kind(photo, edited)

    def edit_photograph(
        self,
        photo: Photo,
        targets: Targets,
        *,
        only: bool = False,
        relative: bool = False,
        face: str | int = "largest",
        crop: bool = False,
    ) -> Edited:
        """As `edit`, with all that is known about the result."""
        plan = self._plan(_photograph(photo), targets, only, relative, face, crop)
        return self._finish(plan, self._render(plan.sources, plan.targets))

    def edit_batch(
        self,
        photos: Sequence[Photo],
        targets: Targets,
        *,
        only: bool = False,
        relative: bool = False,
        face: str | int = "largest",
        crop: bool = False,
    ) -> list[Image.Image | np.ndarray]:
        """As `edit` for several photographs, with the faces of all in common passes of the generator.

        Raises:
            EgganError: as `edit`, for the first photograph that cannot be edited; the sentence has its number from 0.
        """
        plans = [
            self._plan(_photograph(photo, f"picture {i}"), targets, only, relative, face, crop)
            for i, photo in enumerate(photos)
        ]
        crops = self._render([s for plan in plans for s in plan.sources], [t for plan in plans for t in plan.targets])
        results = []
        for photo, plan in zip(photos, plans, strict=True):
            mine, crops = crops[: len(plan.sources)], crops[len(plan.sources) :]
            results.append(_same_kind(photo, self._finish(plan, mine)))
        return results

    @overload
    def interpolate(
        self,
        photo: np.ndarray,
        targets: Targets,
        *,
        steps: int = ...,
        only: bool = ...,
        relative: bool = ...,
        face: str | int = ...,
        crop: bool = ...,
    ) -> list[np.ndarray]: ...

    @overload
    def interpolate(
        self,
        photo: Image.Image | Photograph | str | Path,
        targets: Targets,
        *,
        steps: int = ...,
        only: bool = ...,
        relative: bool = ...,
        face: str | int = ...,
        crop: bool = ...,
    ) -> list[Image.Image]: ...

    def interpolate(
        self,
        photo: Photo,
        targets: Targets,
        *,
        steps: int = 9,
        only: bool = False,
        relative: bool = False,
        face: str | int = "largest",
        crop: bool = False,
    ) -> list[Image.Image] | list[np.ndarray]:
        """The way from the face's own expression to the target, Eq. 8: u_i + α(u_t - u_i), α from 0 to 1.

        Args:
            photo: as `edit`.
            targets: as `edit`.
            steps: how many pictures, both ends included.
            only: as `edit`.
            relative: as `edit`.
            face: as `edit`.
            crop: as `edit`.

        Raises:
            EgganError: fewer than 2 steps, or as `edit`.
        """
        if steps < 2:
            raise EgganError(f"An interpolation has 2 steps at least, not {steps}.")
        alphas = np.linspace(0, 1, steps).tolist()
        frames = self.frames(photo, targets, alphas, only=only, relative=relative, face=face, crop=crop)
        return [_same_kind(photo, frame) for frame in frames]  # type: ignore[return-value]

    def frames(
        self,
        photo: Photo,
        targets: Targets,
        alphas: Sequence[float],
        *,
        only: bool = False,
        relative: bool = False,
        face: str | int = "largest",
        crop: bool = False,
    ) -> Iterator[Edited]:
        """As `interpolate`, for each α of Eq. 8 in turn, with all that is known about each picture."""
        plan = self._plan(_photograph(photo), targets, only, relative, face, crop)
        ends = [(np.array(s.action_units), np.array(t)) for s, t in zip(plan.sources, plan.targets, strict=True)]
        return self._follow(plan, ([(u_i + a * (u_t - u_i)).tolist() for u_i, u_t in ends] for a in alphas))

    def animate(
        self, photo: Photo, track: Sequence[Sequence[float]], *, face: str | int = "largest", crop: bool = False
    ) -> Iterator[Edited]:
        """One picture for each row of 17 intensities, 0..5: a face driven by the AUs of a video.

        Raises:
            EgganError: the track is empty, or as `edit`.
        """
        if not len(track):
            raise EgganError("The track has no rows of Action Units.")
        rows = [whole_vector(row) for row in track]
        plan = self._plan(_photograph(photo), rows[0], False, False, face, crop)
        return self._follow(plan, ([row] * len(plan.sources) for row in rows))

    @torch.inference_mode()
    def edit_cuts(
        self, cuts: Sequence[Cut], targets: Targets, *, only: bool = False, relative: bool = False
    ) -> list[EditedCut]:
        """The edits of faces cut out by `cut_faces` at `crop_side`; nothing is remembered of them.

        Raises:
            EgganError: a target is wrong, as `edit`.
        """
        edited = []
        for start in range(0, len(cuts), BATCH):
            some = cuts[start : start + BATCH]
            sources = self._sources_of(some)
            wanted = [asked_vector(source.action_units, targets, only, relative) for source in sources]
            crops = self._render(sources, wanted)
            edited += [_edited(*triple) for triple in zip(sources, wanted, crops, strict=True)]
        return edited

    def edit_aligned(
        self,
        crop: Kind,
        targets: Targets,
        *,
        source: Sequence[float] | None = None,
        only: bool = False,
        relative: bool = False,
    ) -> Kind:
        """The edit of a crop that is aligned already, such as an image of a faces file: no face is looked for.

        Args:
            crop: square picture of one upright face with both eyes on `eggan.faces.EYE_LINE`: Pillow, or a uint8
                array (H, H, 3).
            targets: as `edit`.
            source: its own 17 intensities where they are known; else they are estimated.
            only: as `edit`.
            relative: as `edit`.

        Returns:
            The edit, as `edit` gives it: at the crop's size where the model composes, else at the model's own.

        Raises:
            EgganError: the crop is not square or too small; or a target or `source` is wrong, as `edit`.
        """
        pixels = _square(crop)
        own = self._sources.get((_digest(pixels), None), lambda: self._source(pixels, None))
        if source is not None:
            action_units = whole_vector(source)
            u_i = torch.tensor([action_units], device=self.device) / MAX_INTENSITY
            own = own._replace(action_units=action_units, code=own.code._replace(u_i=u_i))
        target = asked_vector(own.action_units, targets, only, relative)
        (edited,) = self._render([own], [target])
        if isinstance(crop, np.ndarray):
            return edited
        picture = Image.fromarray(edited)
        picture.info["eggan"] = Provenance(self.name, (_record(own, None, target),))
        return picture

    def _plan(
        self, photo: Photograph, targets: Targets, only: bool, relative: bool, face: str | int, crop: bool
    ) -> _Plan:
        check_request(targets, only, relative, face, crop)
        sources, left_out = self._faces(photo, face)
        wanted = [asked_vector(source.action_units, targets, only, relative) for source in sources]
        return _Plan(photo, crop, sources, wanted, left_out)

    def _follow(self, plan: _Plan, moments: Iterator[list[list[float]]]) -> Iterator[Edited]:
        """The plan's photograph with other targets, one vector a face, at each moment."""
        for targets in moments:
            yield self._finish(plan._replace(targets=targets), self._render(plan.sources, targets))

    def _faces(self, photo: Photograph, which: str | int) -> tuple[list[_Source], int]:
        """The chosen faces, and how many of `all` were left out."""
        digest = _digest(photo.pixels)
        faces = self._find(photo, digest)
        chosen, left_out = choose(faces, which, photo.name)
        sources = [(self._cut(photo, digest, face), number) for number, face in chosen]
        return [source._replace(cut=source.cut._replace(number=number)) for source, number in sources], left_out

    def _find(self, photo: Photograph, digest: Hashable) -> list[Face]:
        return self._found.get(digest, lambda: detect(photo.pixels))

    def _cut(self, photo: Photograph, digest: Hashable, face: Face) -> _Source:
        """A face of a photograph, at the photograph's own resolution where the model composes."""
        size = crop_size(face, self.crop_side)
        return self._sources.get((digest, face), lambda: self._source(align(photo.pixels, face, size), face))

    @torch.inference_mode()
    def _source(self, pixels: np.ndarray, face: Face | None) -> _Source:
        """What is remembered of an aligned crop, uint8 (S, S, 3)."""
        (source,) = self._sources_of([Cut(pixels, face)])
        return source

    def _sources_of(self, cuts: Sequence[Cut]) -> list[_Source]:
        """The same of several crops of any sizes, read and encoded together."""
        images = [self._image(cut.crop) for cut in cuts]
        u_i = self.estimator.read(torch.cat([resized(image, self.estimator.config.image_size) for image in images]))
        seen = torch.cat([resized(image, self.model.config.image_size) for image in images])
        code = self.model.encode(seen, u_i / MAX_INTENSITY)._replace(source=torch.empty(0))
        return [_Source(cut, u_i[k].tolist(), _one(code, k)) for k, cut in enumerate(cuts)]

    @torch.inference_mode()
    def _render(self, sources: Sequence[_Source], targets: Sequence[Sequence[float]]) -> list[np.ndarray]:
        """The edited crops: uint8 (S, S, 3), S the source's where the model composes, else the model's."""
        crops: list[np.ndarray] = []
        for start in range(0, len(sources), BATCH):
            some = sources[start : start + BATCH]
            code = _stack([source.code for source in some])
            u_t = torch.tensor([list(t) for t in targets[start : start + BATCH]], device=self.device) / MAX_INTENSITY
            if self.model.composes:
                fields = self.model.fields(code, u_t)
                for k, source in enumerate(some):
                    one = Fields(*(field[k : k + 1] for field in fields))
                    image = self.model.composed(self._image(source.cut.crop), one)
                    crops += map(np.asarray, to_pictures(image))
            else:
                crops += map(np.asarray, to_pictures(self.model.generate(code, u_t)))
        return crops

    def _finish(self, plan: _Plan, crops: Sequence[np.ndarray]) -> Edited:
        """The photograph with its edited crops put back, or the crop alone; and the record."""
        edits = [_edited(*triple) for triple in zip(plan.sources, plan.targets, crops, strict=True)]
        return put_together(plan.photo, edits, self.name, plan.crop, plan.left_out)

    def _image(self, pixels: np.ndarray) -> Tensor:
        """A crop as (1, 3, S, S) in [-1, 1]."""
        return to_floats(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].to(self.device))


class _Source(NamedTuple):
    """A face before its edit.

    Attributes:
        cut: it, cut out.
        action_units: its own 17 intensities, 0..5.
        code: what E keeps of it; without the image, which `cut` holds in a quarter of the memory.
    """

    cut: Cut
    action_units: list[float]
    code: Code


class _Plan(NamedTuple):
    """What is to be done to a photograph: to each of its chosen faces, 17 target intensities."""

    photo: Photograph
    crop: bool
    sources: list[_Source]
    targets: list[list[float]]
    left_out: int


def check_request(targets: Targets, only: bool, relative: bool, face: str | int, crop: bool) -> None:
    """Say what is wrong with a request before a face is looked for.

    Raises:
        EgganError: a target is wrong, as `Editor.edit`, or `face` is; or a crop is asked for of all faces.
    """
    check_which(face)
    if crop and face == "all":
        raise EgganError("A crop holds one face: give --face largest or a number, not all.")
    asked_vector([0.0] * len(NUMBERS), targets, only, relative)


def _edited(source: _Source, target: Sequence[float], crop: np.ndarray) -> EditedCut:
    return EditedCut(source.cut, crop, _record(source, source.cut.number, target))


class _Recent(Generic[Value]):
    """The last few results of a slow function by key. Two threads that ask for a new one at once both work it out."""

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, Lock()
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        return value


def shipped_models() -> dict[str, EGGAN]:
    """The models that come with the package, the default first."""
    names = sorted(shipped(EGGAN), key=lambda name: (name != DEFAULT_MODEL, name))
    return {name: EGGAN.from_pretrained(name) for name in names}


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is a GPU where there is one, else the CPU.

    Raises:
        EgganError: there is none of that name here.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):  # torch without CUDA asserts
        raise EgganError(
            f'There is no device "{name}" here: give auto, cpu, or cuda where torch finds a GPU.'
        ) from None


def _record(source: _Source, number: int | None, target: Sequence[float]) -> FaceEdit:
    before, after = (
        dict(zip(COLUMNS, (round(float(value), 3) for value in vector), strict=True))
        for vector in (source.action_units, target)
    )
    return FaceEdit(number, before, after)


def _one(code: Code, k: int) -> Code:
    """The code of one face of several."""
    row = slice(k, k + 1)
    features = [level[row].clone() for level in code.features]  # a view would keep all the others
    latent = None if code.latent is None else code.latent[row].clone()
    return Code(latent, features, code.source, code.u_i[row].clone())


def _stack(codes: Sequence[Code]) -> Code:
    """Codes of single faces as one of them all."""
    latents = [code.latent for code in codes if code.latent is not None]
    features = [torch.cat(level) for level in zip(*(code.features for code in codes), strict=True)]
    return Code(
        torch.cat(latents) if latents else None, features, codes[0].source, torch.cat([code.u_i for code in codes])
    )


def _photograph(photo: Photo, name: str = "the picture") -> Photograph:
    """Whatever was given, as a photograph."""
    if isinstance(photo, Photograph):
        return photo
    if isinstance(photo, (str, Path)):
        return open_photograph(photo)
    return to_photograph(photo if isinstance(photo, Image.Image) else Image.fromarray(_colours(photo)), name)


def _same_kind(given: Photo, edited: Edited) -> Image.Image | np.ndarray:
    return edited.photograph.pixels if isinstance(given, np.ndarray) else edited.picture()


def _colours(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise EgganError(f"A picture as an array must be uint8 (H, W, 3), not {pixels.dtype} {pixels.shape}.")
    return np.ascontiguousarray(pixels)


def _square(crop: Image.Image | np.ndarray) -> np.ndarray:
    """An aligned crop's pixels."""
    pixels = _colours(np.asarray(crop.convert("RGB") if isinstance(crop, Image.Image) else crop))
    height, width = pixels.shape[:2]
    if height != width:
        raise EgganError(f"The crop is {width}×{height} pixels: give a square one around one face.")
    if height < 16:
        raise EgganError(f"The crop is {width}×{height} pixels: give a face of at least 16×16.")
    return pixels


def _digest(pixels: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    """What tells one picture from another."""
    return pixels.shape, hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()
