"""What the built-in estimator reads off photographs: agreement with OpenFace and with itself.

    OMP_NUM_THREADS=1 python benchmarks/photographs.py ../shared/photos [--estimator FOLDER]

London: smiling less neutral of the same person, and OpenFace's readings beside ours; AU 25 also beside how far the lips
part, by OpenFace's landmarks. check: the same face read under mirror, ±20 % brightness, JPEG 40 and a 2-pixel blur of
the photograph's aligned crop.
"""

import argparse
import csv
import io
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from eggan.action_units import COLUMNS, NUMBERS
from eggan.annotate import read_crops
from eggan.errors import EgganError
from eggan.estimator import ActionUnitEstimator
from eggan.faces import align, detect, open_photograph, select

SMILE = (6, 12, 25)
UPPER_LIP, LOWER_LIP = [61, 62, 63], [67, 66, 65]
"""Landmarks of the inner lips, one above the other, in OpenFace's order of 68."""
PARTED = (-100.0, 0.5, 2.0, 5.0, 100.0)
"""Bounds of the table by how much further the lips part, in percent of the distance of the eyes."""


def crops(paths: list[Path], side: int = 128) -> dict[str, np.ndarray]:
    """Aligned crops by file name, of the largest face where it can be aligned."""
    found = {}
    for path in paths:
        pixels = open_photograph(path).pixels
        try:
            (face,) = select(detect(pixels), "largest", path.name)
        except EgganError:
            continue
        found[path.name] = align(pixels, face, side)
    return found


def read(estimator: ActionUnitEstimator, images: list[np.ndarray]) -> np.ndarray:
    return np.array(read_crops(estimator, images))


def london(estimator: ActionUnitEstimator, folder: Path) -> None:
    images = crops(sorted((folder / "london").glob("*.jpg")))
    ours = dict(zip(images, read(estimator, list(images.values())), strict=True))
    with (folder / "london_openface.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file, skipinitialspace=True)}
    theirs = {name: np.array([float(rows[name][column]) for column in COLUMNS]) for name in images}
    people = sorted({name[:3] for name in images if f"{name[:3]}_neutral.jpg" in images})
    names = [(f"{person}_neutral.jpg", f"{person}_smiling.jpg") for person in people]
    change = np.array([ours[smiling] - ours[neutral] for neutral, smiling in names])
    other = np.array([theirs[smiling] - theirs[neutral] for neutral, smiling in names])
    a, b = (np.array([readings[name] for name in images]) for readings in (ours, theirs))
    print(f"## London: {len(images)} of 136 photographs, {len(people)} people\n")
    print("| AU | neutral | smiling | change > 0 | OpenFace's change > 0 | r with OpenFace | r of the changes |")
    print("|---|---|---|---|---|---|---|")
    for k, number in enumerate(NUMBERS):
        neutral, smiling = (np.mean([ours[pair[s]][k] for pair in names]) for s in (0, 1))
        r, r_change = (np.corrcoef(x[:, k], y[:, k])[0, 1] for x, y in ((a, b), (change, other)))
        positive, others = (change[:, k] > 0).mean(), (other[:, k] > 0).mean()
        print(
            f"| {number} | {neutral:.2f} | {smiling:.2f} | {positive:.0%} | {others:.0%} | {r:.2f} | {r_change:.2f} |"
        )
    smiles = ", ".join(f"AU {n} {(change[:, NUMBERS.index(n)] > 0).mean():.1%}" for n in SMILE)
    print(f"\nSmiling above neutral: {smiles}.\n")
    parted = np.array([lip_gap(rows[smiling]) - lip_gap(rows[neutral]) for neutral, smiling in names])
    print("| lips part by, % of the eyes' distance | people | AU 25 > 0 | largest fall | OpenFace's AU 25 > 0 |")
    print("|---|---|---|---|---|")
    k = NUMBERS.index(25)
    for low, high in pairwise(PARTED):
        here = (parted >= low) & (parted < high)
        up, others = ((x[here, k] > 0).sum() for x in (change, other))
        print(f"| {low:g} to {high:g} | {here.sum()} | {up} | {min(change[here, k].min(), 0):.3f} | {others} |")
    print()


def lip_gap(row: dict[str, str]) -> float:
    """How far the inner lips are apart, in percent of the distance of the eyes' centres, by OpenFace's landmarks."""
    points = np.array([complex(float(row[f"x_{k}"]), float(row[f"y_{k}"])) for k in range(68)])
    eyes = abs(points[36:42].mean() - points[42:48].mean())
    return 100 * abs(points[UPPER_LIP] - points[LOWER_LIP]).mean() / eyes


def check(estimator: ActionUnitEstimator, folder: Path) -> None:
    images = list(crops(sorted((folder / "synthetic" / "check").glob("*.webp"))).values())
    plain = read(estimator, images)
    disturbed = {
        "mirror": [image[:, ::-1] for image in images],
        "brightness +20 %": [scaled(image, 1.2) for image in images],
        "brightness -20 %": [scaled(image, 0.8) for image in images],
        "JPEG 40": [jpeg(image, 40) for image in images],
        "blur of 2 pixels": [np.asarray(Image.fromarray(i).filter(ImageFilter.GaussianBlur(2))) for i in images],
    }
    print(f"## check: {len(images)} of 200 photographs\n")
    print("| disturbance | mean difference of 5 | largest AU |")
    print("|---|---|---|")
    for name, others in disturbed.items():
        difference = np.abs(read(estimator, others) - plain).mean(axis=0)
        worst = int(difference.argmax())
        print(f"| {name} | {difference.mean():.3f} | AU {NUMBERS[worst]}: {difference[worst]:.3f} |")
    by_au = ", ".join(f"{number}: {mean:.2f}" for number, mean in zip(NUMBERS, plain.mean(axis=0), strict=True))
    print(f"\nMean reading {plain.mean():.2f}; by AU {by_au}.")


def scaled(image: np.ndarray, gain: float) -> np.ndarray:
    return (image * gain).clip(0, 255).round().astype(np.uint8)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--estimator", default="estimator")
    arguments = parser.parse_args()
    estimator = ActionUnitEstimator.from_pretrained(arguments.estimator)
    london(estimator, arguments.photos)
    check(estimator, arguments.photos)


if __name__ == "__main__":
    main()
