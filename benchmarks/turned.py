"""How much worse edits and readings become where the head is turned: rendered people turned as reliefs are.

    OMP_NUM_THREADS=1 python benchmarks/turned.py data/facsynth/val.parquet portrait

Every third pair of the protocol, source and true image turned alike by `eggan.data.appearance.with_place`; aside is to
the right of the picture. AU MSE is what the built-in estimator reads off edits and off the true images.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import torch

from eggan.data import read_faces
from eggan.data.appearance import AS_IT_STANDS, with_place
from eggan.estimator import ActionUnitEstimator
from eggan.evaluation.metrics import au_mse, unexplained_change
from eggan.evaluation.protocol import asked_for, draw_pairs, edit_pairs, squared_error
from eggan.model import EGGAN
from eggan.pixels import to_bytes, to_floats

DEGREES = ((0, 0), (10, 0), (20, 0), (-20, 0), (30, 0), (0, 10), (0, -10), (15, 10))
"""How far aside, and how far up."""


def turned(images: torch.Tensor, aside: float, up: float) -> torch.Tensor:
    """Images uint8 (N, 3, S, S) of heads turned by so many degrees."""
    turn = [math.tan(math.radians(aside)), -math.tan(math.radians(up))]
    place = torch.tensor([*AS_IT_STANDS[:5], *turn])
    parts = [with_place(to_floats(x)[:, None], place.expand(len(x), -1))[:, 0] for x in images.split(64)]
    return to_bytes(torch.cat(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--estimator", default="estimator")
    arguments = parser.parse_args()
    estimator = ActionUnitEstimator.from_pretrained(arguments.estimator)
    models = [EGGAN.from_pretrained(model) for model in arguments.models]
    upright = [read_faces(arguments.faces, model.config.image_size) for model in models]
    print("| turned aside, up | model | unexplained change | AU MSE | of true images |\n|---|---|---|---|---|")
    for aside, up in DEGREES:
        for name, model, standing in zip(arguments.models, models, upright, strict=True):
            faces = replace(standing, images=turned(standing.images, aside, up))
            pairs = draw_pairs(faces)
            s, t = pairs.source[::3], pairs.target[::3]
            source, true = faces.images[s], faces.images[t]
            edits = edit_pairs(model, faces, s, asked_for(model, faces, t))
            unexplained = unexplained_change(squared_error(edits, true), squared_error(source, true))
            wanted = faces.action_units.numpy()[t]
            mse, floor = (au_mse(estimator.read(to_floats(x)).numpy(), wanted).mean() for x in (edits, true))
            print(f"| {aside}°, {up}° | {name} | {unexplained:.3f} | {mse:.3f} | {floor:.3f} |", flush=True)


if __name__ == "__main__":
    main()
