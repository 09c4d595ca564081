"""What was done to a picture, written into it in a form that machines read: XMP in all formats, and PNG text.

XMP carries the IPTC digital source type "composite with trained algorithmic media" (IPTC NewsCodes), by which
platforms recognise pictures edited by AI.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn
from xml.sax.saxutils import escape, unescape

from PIL import Image, PngImagePlugin

from eggan.errors import EgganError
from eggan.files import write_atomically

__all__ = ["FORMATS", "FaceEdit", "Provenance", "encode_picture", "explain", "on_white", "save_picture"]

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
RECORD = re.compile(rb"<eggan:edit>(.*?)</eggan:edit>", re.DOTALL)


@dataclass(frozen=True)
class FaceEdit:
    """What was done to one face: its number (0 is the photograph's largest), source and target intensities by column.

    The number is None where an aligned crop was edited.
    """

    face: int | None
    source: dict[str, float]
    target: dict[str, float]


@dataclass(frozen=True)
class Provenance:
    """An edit's record: the model's name, what was done to each face, what was made of it, and that it is AI-edited."""

    model: str
    edits: tuple[FaceEdit, ...] = ()
    made: str = "edit"
    ai_edited: bool = True

    def to_json(self) -> str:
        """The record with the package's version, as one line of JSON."""
        from eggan import __version__

        return json.dumps({"software": f"eggan {__version__}", **asdict(self)})

    def to_xmp(self) -> bytes:
        """The record and the IPTC digital source type as an XMP packet."""
        return (
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
            'xmlns:eggan="urn:eggan:edit">'
            f"<Iptc4xmpExt:DigitalSourceType>{SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
            f"<eggan:edit>{escape(self.to_json())}</eggan:edit>"
            '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
        ).encode()


def save_picture(
    picture: Image.Image, path: str | Path, provenance: Provenance, sign: Callable[[bytes, str], bytes] | None = None
) -> None:
    """Write PNG, JPEG or WebP with its record; the file appears whole or not at all.

    JPEG has no alpha: what is transparent becomes white there.

    Args:
        picture: its pixels and colour profile.
        path: ends in one of `FORMATS`.
        provenance: the record to write with it.
        sign: from the encoded picture and its MIME type to the signed one.

    Raises:
        EgganError: the ending is none of `FORMATS`, the format cannot hold the picture, or the folder cannot be
            written to.
    """
    path = Path(path)
    try:
        data = encode_picture(picture, path, provenance)
        if sign is not None:
            data = sign(data, f"image/{FORMATS[path.suffix.lower()].lower()}")
        write_atomically(path, lambda beside: beside.write_bytes(data))
    except OSError as error:
        raise EgganError(f"{path} cannot be written ({error.strerror or error}).") from None


def encode_picture(picture: Image.Image, name: str | Path, provenance: Provenance) -> bytes:
    """The bytes of a file of that name, as `save_picture` writes it.

    Raises:
        EgganError: the ending is none of `FORMATS`, or the format cannot hold the picture.
    """
    name = Path(name)
    form = FORMATS.get(name.suffix.lower())
    if form is None:
        raise EgganError(f'"{name.name}" must end in one of {", ".join(FORMATS)}.')
    options: dict[str, object] = {"icc_profile": picture.info.get("icc_profile")}
    if form == "PNG":
        options["pnginfo"] = _png_text(provenance)
    else:
        options |= {"quality": 95, "xmp": provenance.to_xmp()}
    encoded = BytesIO()
    try:
        (on_white(picture) if form == "JPEG" else picture).save(encoded, form, **options)
    except ValueError as error:  # WebP ends at 16,383 pixels a side
        raise EgganError(f"{name} cannot be written ({error}): give another ending.") from None
    return encoded.getvalue()


def on_white(picture: Image.Image) -> Image.Image:
    """The picture without alpha."""
    if not picture.has_transparency_data:
        return picture
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("L" if picture.mode == "LA" else "RGB")


def explain(path: str | Path) -> dict[str, Any]:
    """The record in a picture or video that this package wrote.

    It is looked for in the bytes of the file, as XMP packets may be: they are stored plainly in every format.

    Raises:
        EgganError: there is no such file, or it has no record.
    """
    path = Path(path)
    try:
        found = RECORD.search(path.read_bytes())
        return json.loads(unescape(found.group(1).decode())) if found else _no_record(path)
    except OSError as error:
        raise EgganError(f"{path} cannot be read ({error.strerror or error}).") from None
    except ValueError:
        return _no_record(path)


def _no_record(path: Path) -> NoReturn:
    raise EgganError(f"{path} has no record of an edit by eggan.") from None


def _png_text(provenance: Provenance) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("eggan", provenance.to_json())
    info.add_text("Comment", "Edited by AI: the facial expression was changed.")
    info.add_itxt("XML:com.adobe.xmp", provenance.to_xmp().decode())
    return info
