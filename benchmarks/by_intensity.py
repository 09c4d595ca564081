"""What is read where little or much of an AU is asked for: off the true image and off the edit to it, by intensity.

    OMP_NUM_THREADS=1 python benchmarks/by_intensity.py data/facsynth/val.parquet portrait

Every neutral image edited to every other image of its session, all 17 AUs together, read by the built-in estimator.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import torch

from eggan.data import read_faces
from eggan.estimator import ActionUnitEstimator
from eggan.evaluation.protocol import asked_for, draw_pairs, edit_pairs
from eggan.model import EGGAN
from eggan.pixels import to_floats

ASKED = (0, 0.001, 1, 1.5, 2, 3, 4, 5.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("model")
    arguments = parser.parse_args()
    model, estimator = EGGAN.from_pretrained(arguments.model), ActionUnitEstimator.from_pretrained()
    faces = read_faces(arguments.faces, model.config.image_size)
    pairs = draw_pairs(faces)
    edits = edit_pairs(model, faces, pairs.source, asked_for(model, faces, pairs.target))
    t = torch.from_numpy(pairs.target)
    asked, true, edited = faces.action_units[t], *(estimator.read(to_floats(x)) for x in (faces.images[t], edits))
    print("| asked for | AUs | mean | read off true images | off edits |\n|---|---|---|---|---|")
    for low, high in pairwise(ASKED):
        rows = (asked >= low) & (asked < high)
        means = " | ".join(f"{x[rows].mean():.2f}" for x in (asked, true, edited))
        print(f"| {low:g} to {high:g} | {rows.sum():,} | {means} |")


if __name__ == "__main__":
    main()
