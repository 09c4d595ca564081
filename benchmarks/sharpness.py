"""How much of a photograph's fine detail is left where an edit changes it, at the photograph's own size.

    OMP_NUM_THREADS=1 python benchmarks/sharpness.py ../shared/photos portrait small

The first six London neutrals, as they are (640 pixels) and enlarged to 2,000 with a grain of single pixels laid over
them, since no larger photographs are at hand. Detail is what differs from the mean of 5×5 pixels, root of its mean
square over the pixels that an edit changes, as a share of that of the source there; in the last column, that of the
source itself where it was shrunk until the face's crop has 128 pixels, and enlarged again.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d

from eggan.editor import Editor
from eggan.faces import Face
from eggan.faces.alignment import native_size

TARGETS = ("happy", "surprised", "angry")
SIDES = (640, 2000)
GRAIN = 8
CROP = 128


def photograph(path: Path, side: int) -> np.ndarray:
    picture = Image.open(path).convert("RGB")
    if picture.width == side:
        return np.asarray(picture)
    large = np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS)).astype(float)
    grain = np.random.default_rng(0).normal(0, GRAIN, (side, side, 1))
    return (large + grain).clip(0, 255).round().astype(np.uint8)


def coarse(photo: np.ndarray, face: Face) -> np.ndarray:
    side = len(photo)
    small = Image.fromarray(photo).resize((round(side * CROP / native_size(face)),) * 2, Image.Resampling.BOX)
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))


def detail(photo: np.ndarray, where: np.ndarray) -> float:
    x = torch.from_numpy(photo.copy()).float().permute(2, 0, 1)
    fine = x - avg_pool2d(x, 5, stride=1, padding=2, count_include_pad=False)
    return float(fine[:, torch.from_numpy(where)].square().mean().sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    paths = sorted((arguments.photos / "london").glob("*_neutral.jpg"))[:6]
    print(f"| model | side | {' | '.join(TARGETS)} | enlarged from 128 |\n|---|---|{'---|' * len(TARGETS)}---|")
    for model in arguments.models:
        editor = Editor.from_pretrained(model)
        for side in SIDES:
            shares = []
            for path in paths:
                source = photograph(path, side)
                edits = [editor.edit(source, target) for target in TARGETS]
                changed = [(edit != source).any(axis=2) for edit in edits]
                kept = [detail(edit, at) / detail(source, at) for edit, at in zip(edits, changed, strict=True)]
                enlarged = coarse(source, editor.faces(source)[0])
                shares.append([*kept, detail(enlarged, changed[0]) / detail(source, changed[0])])
            means = " | ".join(f"{share:.2f}" for share in np.mean(shares, axis=0))
            print(f"| `{model}` | {side:,} | {means} |", flush=True)


if __name__ == "__main__":
    main()
