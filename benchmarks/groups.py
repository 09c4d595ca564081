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
from eggan.evaluation.metrics import Interval
from eggan.evaluation.protocol import Judges, evaluate
from eggan.model import EGGAN

TEST = Path(__file__).parent.parent / "data" / "facsynth" / "test.parquet"
OLD = 40
"""Splits the 50 people into 30 and 20."""


def main(name: str) -> None:
    model = EGGAN.from_pretrained(name)
    faces = read_faces(TEST, model.config.image_size)
    facts = {column: np.array(pq.read_table(TEST, columns=[column])[column]) for column in ("ancestry", "sex", "age")}
    age = facts.pop("age")
    groups = {str(word): column == word for column in facts.values() for word in np.unique(column)}
    groups |= {f"under {OLD}": age < OLD, f"{OLD} and over": age >= OLD}
    judges = Judges(ActionUnitEstimator.from_pretrained(), BuiltInVerifier())
    print("| group | people | unexplained change | AU MSE | true images | same person |\n|---|---|---|---|---|---|")
    for group, rows in {"all": np.ones(len(faces), dtype=bool), **groups}.items():
        own = faces.select(np.flatnonzero(rows))
        found = evaluate(model, own, judges, sweep_people=0).scalars
        figures = ("unexplained_change", "au_mse", "au_mse_floor", "identity_accuracy")
        cells = [shown(found[figure]) for figure in figures]
        print(f"| {group} | {len(own.people)} | {' | '.join(cells)} |", flush=True)


def shown(figure: Interval) -> str:
    return f"{figure.mean:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main(sys.argv[1])
