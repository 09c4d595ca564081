"""One contact sheet: a neutral test face edited to seven emotions and three single AUs, beside the true images.

Run from the repository: python examples/demo.py [OUT.png]
"""

import sys
from pathlib import Path

import numpy as np

from eggan import Editor
from eggan.action_units import NUMBERS
from eggan.contact_sheet import contact_sheet, to_pictures
from eggan.data import Faces, read_faces
from eggan.editor import shipped_models
from eggan.pixels import to_floats
from eggan.provenance import Provenance, save_picture

ROOT = Path(__file__).parent.parent
PERSON = "E30009"  # whose expressions are the strongest of the test split
EMOTIONS = ("happy", "angry", "surprised", "sad", "fearful", "disgusted", "contemptuous")
SINGLE = (4, 12, 45)
CELL = 128


def main(out: Path) -> None:
    """Edit with every shipped model and write the sheet."""
    faces = read_faces(ROOT / "data/facsynth/test.parquet", CELL)
    faces = faces.select(faces.identity == PERSON)
    targets = [row_of(faces, emotion) for emotion in EMOTIONS] + [row_of(faces, "single", au) for au in SINGLE]
    sources = faces.neutral[targets]
    pictures = to_pictures(to_floats(faces.images))
    rows, labels = [[pictures[s] for s in sources], [pictures[t] for t in targets]], ["source", "true"]
    for name in shipped_models():
        editor = Editor.from_pretrained(name)
        wanted = [dict(zip(NUMBERS, faces.action_units[t].tolist(), strict=True)) for t in targets]
        rows.append([editor.edit_aligned(pictures[s], target) for s, target in zip(sources, wanted, strict=True)])
        labels.append(name)
    sheet = contact_sheet(rows, labels, [*EMOTIONS, *(f"AU {au} at 4" for au in SINGLE)], CELL)
    save_picture(sheet, out, Provenance(model=", ".join(shipped_models()), made="contact sheet"))
    print(out)


def row_of(faces: Faces, emotion: str, au: int | None = None) -> int:
    """The first row with an emotion word, and with that AU as the largest where one is given."""
    for row in np.flatnonzero(faces.emotion == emotion):
        if au is None or NUMBERS[int(faces.action_units[row].argmax())] == au:
            return int(row)
    raise LookupError(f"{PERSON} has no {emotion} {au or ''}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "demo.png")
