"""Edits of photographs, in figures and on sheets to look at.

    OMP_NUM_THREADS=1 python benchmarks/photograph_edits.py ../shared/photos small -o /tmp/sheets

The 68 London neutrals, 40 near-frontal adults of `synthetic/check` (the first by `yaw_hint`, without children,
sunglasses and wide-open mouths) and the 30 other adults there whose heads are turned most, each edited to happy, angry,
surprised, AU 45 alone and AU 4 alone. Printed are dlib's distance from edit to source (0.6 is its own bound for another
person) and how much the built-in estimator reads the AUs that were asked for to have risen. The sheets of London are
not to be shown to others than who asked for them.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from photographs import crops
from PIL import Image

from eggan.action_units import NUMBERS, emotion_target, whole_expression
from eggan.annotate import read_crops
from eggan.contact_sheet import contact_sheet
from eggan.editor import Editor
from eggan.estimator import ActionUnitEstimator
from eggan.evaluation.judges import DlibJudge
from eggan.pixels import to_floats

CHECK = [
    *(29, 55, 66, 69, 78, 82, 131, 2, 6, 14, 54, 67, 91, 116, 160, 177, 185, 193, 0, 10),
    *(11, 23, 25, 89, 93, 96, 129, 132, 191, 9, 37, 62, 63, 72, 84, 99, 107, 117, 140, 18),
]
"""Numbers of the 40 files of `synthetic/check`."""
TURNED = [
    *(181, 65, 162, 167, 145, 13, 49, 42, 184, 101, 197, 111, 104, 135, 59),
    *(95, 147, 90, 158, 39, 56, 94, 168, 169, 180, 152, 26, 60, 148, 153),
]
"""Numbers of 30 more: the base of their noses lies 0.30 to 0.11 eye distances from the middle of the eyes."""
SIDE = 256
"""Side in pixels of the crops that are edited: the compose form works at the source's."""
TARGETS: dict[str, dict[int, float]] = {
    **{emotion: whole_expression(emotion_target(emotion)) for emotion in ("happy", "angry", "surprised")},
    "AU 45": {45: 5.0},
    "AU 4": {4: 5.0},
}


def tensor(images: list[np.ndarray]) -> torch.Tensor:
    return to_floats(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))


def photographs(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """The aligned faces of all three sets, by the set's name and the file's."""
    london = sorted((folder / "london").glob("*_neutral.jpg"))
    check, turned = (
        [folder / "synthetic" / "check" / f"{number:04}.webp" for number in numbers] for numbers in (CHECK, TURNED)
    )
    return {"check": crops(check, SIDE), "turned": crops(turned, SIDE), "london": crops(london, SIDE)}


def measure(editor: Editor, name: str, images: list[np.ndarray], labels: list[str], out: Path) -> None:
    dlib, estimator = DlibJudge(), ActionUnitEstimator.from_pretrained()
    before = np.array(read_crops(estimator, images))
    faces = dlib.embed(tensor(images))
    sheet = [[Image.fromarray(image)] for image in images]
    print(f"## {editor.name} on {name}: {len(images)} faces\n")
    print("| edited to | dlib distance, median | 90th percentile | AUs asked for, rise read (asked) |")
    print("|---|---|---|---|")
    for target, intensities in TARGETS.items():
        edits = [editor.edit_aligned(image, intensities) for image in images]
        distance = (dlib.embed(tensor(edits)) - faces).norm(dim=1).numpy()
        after = np.array(read_crops(estimator, edits))
        rises = []
        for number, intensity in intensities.items():
            k = NUMBERS.index(number)
            if intensity > 0:
                rise, asked = (after - before)[:, k].mean(), (intensity - before[:, k]).mean()
                rises.append(f"{number}: {rise:.1f} ({asked:.1f})")
        print(
            f"| {target} | {np.median(distance):.2f} | {np.quantile(distance, 0.9):.2f} | {', '.join(rises)} |",
            flush=True,
        )
        for row, edit in zip(sheet, edits, strict=True):
            row.append(Image.fromarray(edit))
    for first in range(0, len(sheet), 10):
        part = slice(first, first + 10)
        path = out / f"{Path(editor.name).name}-{name}-{first:02d}.png"
        contact_sheet(sheet[part], labels[part], ["source", *TARGETS], SIDE).save(path)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    sets = photographs(arguments.photos)
    for model in arguments.models:
        editor = Editor.from_pretrained(model)
        for name, images in sets.items():
            measure(editor, name, list(images.values()), [file[:4].strip("_") for file in images], arguments.out)


if __name__ == "__main__":
    main()
