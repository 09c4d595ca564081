"""Moving pictures with the record of what was done: GIF, animated WebP, and MP4 by ffmpeg."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from PIL import Image

from eggan.errors import EgganError
from eggan.faces import Photograph
from eggan.files import write_atomically
from eggan.provenance import Provenance, on_white

__all__ = ["ENDINGS", "MAX_SIDE", "fitted", "save_animation", "there_and_back"]

MIME = {".gif": "image/gif", ".webp": "image/webp", ".mp4": "video/mp4"}
ENDINGS = tuple(MIME)
MAX_SIDE = 1280
"""Longest side of a moving picture in pixels; larger frames are reduced to it."""
MAX_HELD = 400_000_000
"""Pixels of all frames together, which GIF and WebP are written from at once: 1.2 GB. MP4 takes one after another."""
XMP_BOX = UUID("be7acfcb-97a9-42e8-9c71-999491e3afac")
"""Of XMP in MP4 (XMP specification, part 3)."""


def there_and_back(steps: int) -> list[float]:
    """The α of Eq. 8 for an animation that repeats: `steps` from 0 to 1, and back without the two ends.

    >>> there_and_back(3)
    [0.0, 0.5, 1.0, 0.5]
    """
    there = np.linspace(0, 1, steps).tolist()
    return there + there[-2:0:-1]


def fitted(photo: Photograph) -> Photograph:
    """The photograph with no side longer than `MAX_SIDE`."""
    if max(photo.pixels.shape) <= MAX_SIDE:
        return photo
    pixels, alpha = _reduced(Image.fromarray(photo.pixels)), None
    if photo.alpha is not None:
        alpha = np.asarray(Image.fromarray(photo.alpha).resize(pixels.size, Image.Resampling.BICUBIC))
    return replace(photo, pixels=np.asarray(pixels), alpha=alpha)


def save_animation(
    frames: Iterable[Image.Image],
    path: Path,
    fps: float,
    provenance: Provenance,
    sign: Callable[[bytes, str], bytes] | None = None,
) -> None:
    """Write frames of one size as GIF, WebP (both repeat for ever) or MP4; the file appears whole or not at all.

    What is transparent becomes white. GIF has hundredths of a second, so that 30 frames a second become 33.

    Args:
        frames: at least one; taken one after another.
        path: ends in one of `ENDINGS`.
        fps: frames a second.
        provenance: the record to write with it.
        sign: from the encoded animation and its MIME type to the signed one.

    Raises:
        EgganError: another ending, too many frames for GIF or WebP, no ffmpeg for MP4, or the file cannot be written.
    """
    writers: dict[str, Callable[..., None]] = {".gif": _write_gif, ".webp": _write_webp, ".mp4": _write_mp4}
    write = writers.get(path.suffix.lower())
    if write is None:
        raise EgganError(f'"{path.name}" must end in one of {", ".join(ENDINGS)}.')
    ready = (_reduced(on_white(frame).convert("RGB")) for frame in frames)
    try:
        write_atomically(path, partial(_write_signed, write, ready, fps, provenance, sign))
    except OSError as error:
        reason = error.strerror or str(error).strip().splitlines()[-1]
        raise EgganError(f"{path} cannot be written ({reason}).") from None


def _write_signed(
    write: Callable[..., None],
    frames: Iterator[Image.Image],
    fps: float,
    provenance: Provenance,
    sign: Callable[[bytes, str], bytes] | None,
    path: Path,
) -> None:
    write(frames, path, fps, provenance)
    if sign is not None:
        path.write_bytes(sign(path.read_bytes(), MIME[path.suffix.lower()]))


def ffmpeg() -> Any:  # noqa: ANN401
    """The package that brings ffmpeg.

    Raises:
        EgganError: it is not installed, or brings no ffmpeg for this machine.
    """
    try:
        package = import_module("imageio_ffmpeg")
        package.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        raise EgganError('MP4 is written with ffmpeg: pip install "eggan[video]", or write .gif or .webp.') from None
    return package


def _write_gif(frames: Iterator[Image.Image], path: Path, fps: float, provenance: Provenance) -> None:
    first, *others = _indexed(_held(frames))
    first.save(path, save_all=True, append_images=others, duration=1000 / fps, loop=0, comment=provenance.to_json())
    data = path.read_bytes()
    assert data.endswith(b";")
    # An application extension whose packet stands there plainly; the trailer leads any reader of sub-blocks out of it.
    trailer = b"\1" + bytes(range(255, -1, -1)) + b"\0"
    path.write_bytes(data[:-1] + b"\x21\xff\x0bXMP DataXMP" + provenance.to_xmp() + trailer + b";")


def _write_webp(frames: Iterator[Image.Image], path: Path, fps: float, provenance: Provenance) -> None:
    first, *others = _held(frames)
    options: dict[str, Any] = {"duration": round(1000 / fps), "loop": 0, "xmp": provenance.to_xmp()}
    options |= {"quality": 90, "method": 2, "kmin": 0, "kmax": 0}  # no key frames but the first: they would flicker
    first.save(path, save_all=True, append_images=others, **options)


def _write_mp4(frames: Iterator[Image.Image], path: Path, fps: float, provenance: Provenance) -> None:
    """H.264 with half the colours' resolution, which every player knows, and so with even sides."""
    first = next(frames)
    size = first.width // 2 * 2, first.height // 2 * 2
    options = ["-movflags", "+faststart", "-metadata", f"comment={provenance.to_json()}"]
    writer = ffmpeg().write_frames(
        str(path),
        size,
        fps=fps,
        codec="libx264",
        quality=8,
        macro_block_size=2,
        output_params=options,
        ffmpeg_log_level="error",
    )
    with closing(writer):  # also where a frame fails: ffmpeg must not write on afterwards
        writer.send(None)
        for frame in chain([first], frames):
            writer.send(frame.crop((0, 0, *size)).tobytes())
    packet = XMP_BOX.bytes + provenance.to_xmp()
    with path.open("ab") as file:
        file.write(struct.pack(">I4s", 8 + len(packet), b"uuid") + packet)


def _held(frames: Iterator[Image.Image]) -> list[Image.Image]:
    held: list[Image.Image] = []
    for frame in frames:
        held.append(frame)
        if len(held) * frame.width * frame.height > MAX_HELD:
            raise EgganError(f"{len(held)} frames are too many for GIF or WebP of this size: write .mp4.")
    return held


def _indexed(frames: list[Image.Image]) -> list[Image.Image]:
    """Frames with one palette of 256 colours; where a frame is as the first one, its indices are too.

    So what the edit left alone does not flicker with the dither, and takes no room.
    """
    some = frames[:: max(1, len(frames) // 4)][:4]
    sheet = Image.new("RGB", (some[0].width, some[0].height * len(some)))
    for k, frame in enumerate(some):
        sheet.paste(frame, (0, k * frame.height))
    palette = sheet.quantize(256)
    before = np.asarray(frames[0])
    result: list[Image.Image] = []
    for frame in frames:
        indices = np.asarray(frame.quantize(palette=palette))
        if result:
            indices = np.where((np.asarray(frame) == before).all(axis=2), np.asarray(result[0]), indices)
        picture = Image.fromarray(indices.astype(np.uint8)).convert("P")
        picture.putpalette(palette.getpalette() or [])
        result.append(picture)
    return result


def _reduced(picture: Image.Image) -> Image.Image:
    """With no side longer than `MAX_SIDE`."""
    scale = MAX_SIDE / max(picture.size)
    if scale >= 1:
        return picture
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
