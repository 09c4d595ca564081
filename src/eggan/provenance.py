"""What was done to a picture, written into it in a form that machines read: PNG text, and XMP in all formats.

XMP carries the IPTC digital source type "composite with trained algorithmic media" (IPTC NewsCodes), by which
platforms recognise pictures edited by AI.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.sax.saxutils import escape, unescape

from PIL import Image, PngImagePlugin

from eggan.errors import EgganError
from eggan.files import write_atomically

__all__ = ["FORMATS", "Provenance", "explain", "save_picture"]

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


@dataclass(frozen=True)
class Provenance:
    """An edit's record: the model's name, source and target intensities by column, and that it is AI-edited."""

    model: str
    source: dict[str, float]
    target: dict[str, float]
    ai_edited: bool = True

    def to_json(self) -> str:
        """The record with the package's version, as one line of JSON."""
        from eggan import __version__

        return json.dumps({"software": f"eggan {__version__}", **asdict(self)})


def save_picture(picture: Image.Image, path: Path, provenance: Provenance) -> None:
    """Write PNG, JPEG or WebP with its record; the file appears whole or not at all.

    Raises:
        EgganError: the ending is none of `FORMATS`, or the folder cannot be written to.
    """
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise EgganError(f'"{path.name}" must end in one of {", ".join(FORMATS)}.')
    xmp = _xmp(provenance)
    options: dict[str, object] = {"xmp": xmp.encode()} if form != "PNG" else {"pnginfo": _png_text(provenance, xmp)}
    if form != "PNG":
        options["quality"] = 95
    try:
        write_atomically(path, lambda beside: picture.save(beside, form, **options))
    except OSError as error:
        raise EgganError(f"{path} cannot be written ({error.strerror or error}).") from None


def explain(path: Path) -> dict[str, object] | None:
    """The record of a picture that `save_picture` wrote; None where there is none."""
    with Image.open(path) as picture:
        text, xmp = picture.info.get("eggan"), picture.info.get("xmp", b"")
    if text is None and (found := re.search(r"<eggan:edit>(.*?)</eggan:edit>", xmp.decode(errors="replace"), re.S)):
        text = unescape(found.group(1))
    return json.loads(text) if text else None


def _png_text(provenance: Provenance, xmp: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("eggan", provenance.to_json())
    info.add_text("Comment", "Edited by AI: the facial expression was changed.")
    info.add_itxt("XML:com.adobe.xmp", xmp)
    return info


def _xmp(provenance: Provenance) -> str:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        'xmlns:eggan="urn:eggan:edit">'
        f"<Iptc4xmpExt:DigitalSourceType>{SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
        f"<eggan:edit>{escape(provenance.to_json())}</eggan:edit>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )
