"""How far a smile itself moves a face by dlib's distance: true images by intensity, edits by strength and by part.

    OMP_NUM_THREADS=1 python benchmarks/dlib_distance.py ../shared/photos portrait

True images: of each split the first 400 happy ones that have a neutral image of the same person and session, by AU 12.
Edits: the photographs of `photograph_edits.py`, made happy at a strength, and how much the built-in estimator reads
AU 12 to have risen. Parts: the same edits, and those of 40 neutral renders of val, whole, by the flow alone, by what
happens in the upper half of the crop alone, and by all but that; and how far the flow moves pixels.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from photograph_edits import TARGETS, photographs, tensor

from eggan.action_units import MAX_INTENSITY, NUMBERS
from eggan.annotate import read_crops
from eggan.data import read_faces
from eggan.editor import Editor
from eggan.estimator import ActionUnitEstimator
from eggan.evaluation.judges import DlibJudge
from eggan.networks import Fields
from eggan.pixels import middles, to_floats

SMILE = [NUMBERS.index(number) for number in (6, 12, 25)]
AU_12 = NUMBERS.index(12)
INTENSITIES = (0, 2, 2.5, 3, 3.5, 4, 4.5, 5.1)
STRENGTHS = (0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
BOUND = 0.35
RENDERS = 40
HALF = 64
"""Half the side of a crop in pixels; eyes and brows lie in its upper half."""


def true_images(dlib: DlibJudge) -> None:
    found, shown = [], []
    for split in ("test", "val", "train"):
        faces = read_faces(Path(f"data/facsynth/{split}.parquet"), 128)
        happy = np.flatnonzero(faces.emotion == "happy")[:400]
        happy = happy[faces.emotion[faces.neutral[happy]] == "neutral"]
        before, after = (
            dlib.embed(to_floats(faces.images[torch.from_numpy(rows)])) for rows in (faces.neutral[happy], happy)
        )
        found.append((after - before).norm(dim=1).numpy())
        shown.append(faces.action_units[torch.from_numpy(happy)].numpy())
    distance, shown_aus = np.concatenate(found), np.concatenate(shown)
    print(f"## {len(distance)} true images\n")
    print(f"| AU 12 | images | mean AU 6, 12, 25 | median (quartiles) | at most {BOUND} |\n|---|---|---|---|---|")
    for low, high in pairwise(INTENSITIES):
        rows = (shown_aus[:, AU_12] >= low) & (shown_aus[:, AU_12] < high)
        first, median, third = np.quantile(distance[rows], (0.25, 0.5, 0.75))
        mean = ", ".join(f"{intensity:.1f}" for intensity in shown_aus[rows][:, SMILE].mean(axis=0))
        share = (distance[rows] <= BOUND).mean()
        print(f"| {low} to {high} | {rows.sum()} | {mean} | {median:.2f} ({first:.2f}, {third:.2f}) | {share:.0%} |")


def edits(dlib: DlibJudge, editor: Editor, name: str, images: list[np.ndarray]) -> None:
    estimator = ActionUnitEstimator.from_pretrained()
    before, faces = np.array(read_crops(estimator, images)), dlib.embed(tensor(images))
    print(f"\n## {editor.name} on {name}: {len(images)} faces\n")
    print("| strength | median | AU 12 up |\n|---|---|---|")
    for strength in STRENGTHS:
        intensities = {number: strength * intensity for number, intensity in TARGETS["happy"].items()}
        smiles = [editor.edit_aligned(image, intensities) for image in images]
        distance = np.median((dlib.embed(tensor(smiles)) - faces).norm(dim=1).numpy())
        rise = (np.array(read_crops(estimator, smiles)) - before)[:, AU_12].mean()
        print(f"| {strength} | {distance:.2f} | {rise:.1f} |", flush=True)


@torch.inference_mode()
def parts(dlib: DlibJudge, editor: Editor, name: str, images: list[np.ndarray]) -> None:
    model, x = editor.model, tensor(images)
    code = model.encode(x, editor.estimator.read(x) / MAX_INTENSITY)
    happy = torch.tensor([TARGETS["happy"][number] / MAX_INTENSITY for number in NUMBERS])
    fields = model.fields(code, happy.expand(len(x), -1))
    upper = (-middles(fields.mask.shape[-1]).view(-1, 1) * HALF / 1.5).sigmoid()
    still = torch.zeros_like(fields.mask)
    shown = {
        "whole": fields,
        "flow alone": fields._replace(mask=still, shade=still),
        "eyes and brows alone": Fields(*(field * upper for field in fields)),
        "all but these": Fields(*(field * (1 - upper) for field in fields)),
    }
    before = dlib.embed(x)
    edits = [model.composed(x, part) for part in shown.values()]
    figures = [(dlib.embed(edit) - before).norm(dim=1).quantile(0.5).item() for edit in edits]
    pixels = fields.flow.norm(dim=1).mean().item() * HALF
    print(f"| {name} | {pixels:.2f} | {' | '.join(f'{figure:.2f}' for figure in figures)} |", flush=True)


def renders() -> list[np.ndarray]:
    faces = read_faces(Path("data/facsynth/val.parquet"), 128)
    rows = np.flatnonzero(faces.emotion == "neutral")
    return list(faces.images[torch.from_numpy(rows[:: len(rows) // RENDERS][:RENDERS])].permute(0, 2, 3, 1).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("model")
    arguments = parser.parse_args()
    dlib, editor = DlibJudge(), Editor.from_pretrained(arguments.model)
    true_images(dlib)
    sets = photographs(arguments.photos)
    for name, images in sets.items():
        edits(dlib, editor, name, list(images.values()))
    print("\n## By part\n\n| | flow, pixels of 128 | whole | flow alone | eyes and brows alone | all but these |")
    print("|---|---|---|---|---|---|")
    parts(dlib, editor, "renders of val", renders())
    for name, images in sets.items():
        parts(dlib, editor, name, list(images.values()))


if __name__ == "__main__":
    main()
