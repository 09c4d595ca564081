"""`eggan evaluate`: models and a faces file to a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from eggan.data import Faces, check_people_apart, read_faces
from eggan.estimator import ActionUnitEstimator
from eggan.evaluation.judges import BuiltInVerifier, DlibJudge, LightCNNJudge, OpenFaceJudge
from eggan.evaluation.protocol import Figures, Judges, evaluate, evaluate_paper
from eggan.evaluation.report import build_report, write_report
from eggan.files import check_replaceable
from eggan.method import Model, show_exemplars
from eggan.progress import track

__all__ = ["choose_judges", "run_evaluation"]

QUICK_PEOPLE = 8


def run_evaluation(
    models: Mapping[str, Model],
    data: Path,
    judges: Judges,
    out: Path,
    *,
    protocol: Literal["own", "paper"] = "own",
    quick: bool = False,
) -> str:
    """Measure every model, write the report folder and return its Markdown.

    Args:
        models: name to model.
        data: faces file to measure on.
        judges: who reads AUs and recognises people.
        out: the report's folder.
        protocol: `paper` takes its targets from `train.parquet` beside `data`, of which a method that is asked by
            exemplar takes its exemplars in either protocol.
        quick: the first eight people only, no intensity sweep.

    Raises:
        EgganError: a file is wrong, or `out` holds something else than a report.
    """
    check_replaceable(out, "report")
    sizes = {model.config.image_size for model in models.values()}
    by_size = {size: _first_people(read_faces(data, size), QUICK_PEOPLE if quick else None) for size in sizes}
    faces = {name: by_size[model.config.image_size] for name, model in models.items()}
    figures: dict[str, Figures] = {}
    for name in track(list(models), "evaluating"):
        model = models[name]
        if protocol == "paper" or model.asked_by == "exemplar":
            labels = read_faces(data.with_name("train.parquet"), model.config.image_size)
            check_people_apart(labels, faces[name])
            show_exemplars(model, labels)
        if protocol == "paper":
            figures[name] = evaluate_paper(model, labels, faces[name], judges)
        else:
            figures[name] = evaluate(model, faces[name], judges, sweep_people=0 if quick else 20)
    remark = (
        "AUs of 1,392 training images of eight expressions put on sources of this file (the paper's Sec. 4.2)."
        if protocol == "paper"
        else "Every neutral image edited to every other image of its person and session, at the model's image size."
    )
    return write_report(build_report(figures, models, faces, judges, remark), out)


def choose_judges(aus: Literal["builtin", "openface"], identity: str, data: Path) -> Judges:
    """The judges that the command line names.

    Args:
        aus: `builtin`, or `openface` where OPENFACE_BIN says where it is.
        identity: `builtin`, `dlib`, `none`, or a file with LightCNN-29 v2 weights.
        data: faces file to judge; `val.parquet` beside it sets the threshold of dlib and LightCNN.

    Raises:
        EgganError: a judge is not installed, or its file is wrong.
    """
    reader = OpenFaceJudge() if aus == "openface" else ActionUnitEstimator.from_pretrained()
    match identity:
        case "none":
            return Judges(reader, None)
        case "builtin":
            return Judges(reader, BuiltInVerifier())
        case "dlib":
            return Judges(reader, DlibJudge(read_faces(data.with_name("val.parquet"), 128)))
        case file:
            return Judges(reader, LightCNNJudge(file, read_faces(data.with_name("val.parquet"), 128)))


def _first_people(faces: Faces, count: int | None) -> Faces:
    return faces if count is None else faces.select(np.isin(faces.identity.astype(str), faces.people[:count]))
