"""The report: `summary.json` for machines, `report.md` for people."""

from __future__ import annotations

import json
from pathlib import Path

from eggan.action_units import COLUMNS
from eggan.evaluation.metrics import Interval
from eggan.evaluation.protocol import Figures
from eggan.weights import new_folder

__all__ = ["write_report"]

ROWS = {
    "unexplained_change": "unexplained change",
    "au_mse": "AU MSE",
    "au_mse_floor": "AU MSE, true target",
    "au_mse_no_edit": "AU MSE, no edit",
    "au_pcc": "AU PCC",
    "au_pcc_floor": "AU PCC, true target",
    "au_pcc_no_edit": "AU PCC, no edit",
    "psnr": "PSNR to the true target, dB",
}


def write_report(figures: dict[str, Figures], faces_file: Path, out: Path) -> str:
    """Write the folder whole, replacing the one before, and return the Markdown.

    Args:
        figures: model name to its figures.
        faces_file: what they were measured on.
        out: the folder.
    """
    names = list(figures)
    lines = [
        f"# Evaluation on {faces_file.name}",
        "",
        "Every neutral image edited to every other image of its person and session, at the model's image size; "
        "AUs read by the built-in estimator. Brackets hold 95 % bootstrap intervals over people.",
        "",
        *_table(
            ["figure", *names],
            [[title, *(_cell(figures[n].scalars[key]) for n in names)] for key, title in ROWS.items()],
        ),
        "",
        "Unexplained change by the target's expression:",
        "",
        *_table(
            ["target", *names],
            [[word, *(_cell(figures[n].by_emotion[word]) for n in names)] for word in figures[names[0]].by_emotion],
        ),
    ]
    for key, title in (("au_mse", "AU MSE"), ("au_pcc", "AU PCC")):
        rows = [(n, figures[n].per_au[f"{key}_by_au"]) for n in names]
        rows.append(("true target", figures[names[0]].per_au[f"{key}_by_au_floor"]))
        rows.append(("no edit", figures[names[0]].per_au[f"{key}_by_au_no_edit"]))
        header = [title, *(column[2:4] for column in COLUMNS), "mean"]
        cells = [[n, *(f"{by[c]:.2f}" for c in COLUMNS), f"{sum(by.values()) / len(by):.2f}"] for n, by in rows]
        lines += ["", f"{title} by AU (Table 1):", "", *_table(header, cells)]
    text = "\n".join(lines) + "\n"
    with new_folder(out) as beside:
        (beside / "report.md").write_text(text)
        summary = {name: f.summary() for name, f in figures.items()}
        (beside / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return text


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def _cell(interval: Interval) -> str:
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
