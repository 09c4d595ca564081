"""Does a model edit all alike? Its figures for each ancestry, sex and age of the test split's rendered people.

    OMP_NUM_THREADS=1 python benchmarks/groups.py portrait

Prints, with 95 % intervals over people, the unexplained change, the AU MSE beside what the estimator makes of the true
images of the same people, and the share that the verifier takes for the same person.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from eggan.data import read_faces
from eggan.estimator import ActionUnitEstimator
from eggan.evaluation.judges import BuiltInVerifier
from eggan.evaluation.metrics import au_mse, bootstrap, unexplained_change
from eggan.evaluation.protocol import asked_for, draw_pairs, edit_pairs, squared_error
from eggan.model import EGGAN
from eggan.pixels import to_floats

TEST = Path(__file__).parent.parent / "data" / "facsynth" / "test.parquet"
OLD = 40
"""Splits the 50 people into 30 and 20."""


def main(name: str) -> None:
    model, estimator, verifier = EGGAN.from_pretrained(name), ActionUnitEstimator.from_pretrained(), BuiltInVerifier()
    faces = read_faces(TEST, model.config.image_size)
    pairs = draw_pairs(faces)
    s, t = pairs.source, pairs.target
    wanted, people = faces.action_units.numpy()[t], faces.identity[t]
    source, target, edits = faces.images[s], faces.images[t], edit_pairs(model, faces, s, asked_for(model, faces, t))
    error, change = squared_error(edits, target), squared_error(source, target)
    read, true = (estimator.read(to_floats(images)).numpy() for images in (edits, target))
    same = verifier.similarity(to_floats(source), to_floats(edits)).numpy() >= verifier.threshold

    figures = (
        lambda k: unexplained_change(error[k], change[k]),
        lambda k: au_mse(read[k], wanted[k]).mean(),
        lambda k: au_mse(true[k], wanted[k]).mean(),
        lambda k: same[k].mean(),
    )

    def over(rows: np.ndarray) -> list[str]:
        return [str(bootstrap(lambda drawn, of=of: float(of(rows[drawn])), people[rows])) for of in figures]

    table = pq.read_table(TEST, columns=["ancestry", "sex", "age"])
    ancestry, sex, age = (np.array(column)[t] for column in table.columns)
    groups = {"all": np.ones(len(t), dtype=bool)}
    groups |= {str(word): column == word for column in (ancestry, sex) for word in np.unique(column)}
    groups |= {f"under {OLD}": age < OLD, f"{OLD} and over": age >= OLD}
    print("| group | people | unexplained change | AU MSE | true images | same person |\n|---|---|---|---|---|---|")
    for group, members in groups.items():
        rows = np.flatnonzero(members)
        print(f"| {group} | {len(np.unique(people[rows]))} | {' | '.join(over(rows))} |")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main(sys.argv[1])
