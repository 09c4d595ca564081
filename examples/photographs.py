"""One contact sheet of photographs, each edited to four expressions by the default model.

Run from the repository: python examples/photographs.py OUT.png PHOTO...
"""

import sys
from pathlib import Path

from PIL import Image

from eggan import Editor
from eggan.contact_sheet import contact_sheet
from eggan.faces import open_photograph
from eggan.provenance import Provenance, save_picture

TARGETS = {
    "AU 12 at 4, AU 6 at 2": {12: 4.0, 6: 2.0},
    "happy": "happy",
    "surprised": "surprised",
    "angry": "angry",
}
CELL = 240


def main(out: Path, photos: list[str]) -> None:
    """Edit every photograph to every target and write the sheet."""
    editor = Editor.from_pretrained()
    rows = []
    for photo in photos:
        source = open_photograph(photo)
        pictures = [source.picture(), *(editor.edit(source, target) for target in TARGETS.values())]
        rows.append([square(picture.convert("RGB")) for picture in pictures])
    sheet = contact_sheet(rows, [""] * len(rows), ["photograph", *TARGETS], CELL)
    save_picture(sheet, out, Provenance(model=editor.name, made="contact sheet"))
    print(out)


def square(picture: Image.Image) -> Image.Image:
    """The middle of a picture."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
