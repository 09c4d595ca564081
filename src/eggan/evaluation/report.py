"""The report: tables as Markdown, CSV and JSON, figures as PNG, and one `index.html` that holds all of it."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment
from PIL import Image

from eggan.action_units import COLUMNS
from eggan.data import Faces
from eggan.evaluation.figures import au_bars, cross_talk_map, expression_sheet, interpolation_sheet, sweep_curves
from eggan.evaluation.metrics import Interval
from eggan.evaluation.protocol import Figures, Judges
from eggan.files import new_folder
from eggan.method import Model

__all__ = ["Report", "build_report", "write_report"]

ROWS = {
    "unexplained_change": "unexplained change",
    "au_mse": "AU MSE (Table 1)",
    "au_mse_floor": "AU MSE, true target",
    "au_mse_no_edit": "AU MSE, no edit",
    "au_pcc": "AU PCC (Table 1)",
    "au_pcc_floor": "AU PCC, true target",
    "au_pcc_no_edit": "AU PCC, no edit",
    "identity_accuracy": "identity accuracy (Table 2)",
    "identity_accuracy_real": "identity accuracy, real pairs",
    "identity_similarity": "identity similarity",
    "identity_similarity_real": "identity similarity, real pairs",
    "unread": "edits in which the AU judge found no face",
    "off_target": "off-target change of single AUs",
    "off_target_floor": "off-target change, true target",
    "psnr": "reconstruction PSNR, dB",
    "ms_ssim": "reconstruction MS-SSIM",
    "edits_per_second": "edits a second",
    "parameters_million": "parameters, millions",
    "gflop_per_edit": "GFLOP an edit",
}


ASKED_BY = {
    "word": "is asked by word, the target's own where it is one of the eight expressions. It cannot be asked for "
    "`mixed` and `single` targets, single AUs and strengths: it gets the word whose AUs lie nearest, and the figures "
    "over all targets count what comes of that. Compare it by the rows of single expressions.",
    "exemplar": "is asked by exemplar: of the training file, which shows other people, the image with the AUs nearest "
    "to the target's. By the paper's protocol that is the target image itself, as in the paper.",
}


@dataclass(frozen=True)
class Table:
    """A titled table of words."""

    name: str
    title: str
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Report:
    """What a report says, before it is written."""

    title: str
    remarks: list[str]
    tables: list[Table]
    pictures: dict[str, tuple[str, Image.Image]] = field(default_factory=dict)
    """File stem to caption and picture."""
    summary: dict[str, object] = field(default_factory=dict)


def build_report(
    figures: Mapping[str, Figures], models: Mapping[str, Model], faces: Mapping[str, Faces], judges: Judges, remark: str
) -> Report:
    """Gather tables and pictures of all models.

    Args:
        figures: model name to its figures.
        models: the same names to the models.
        faces: the same names to the faces at that model's size.
        judges: who read the AUs and recognised the people; the report names them.
        remark: one sentence on the protocol.
    """
    names, first = list(figures), next(iter(figures.values()))
    identity = "nobody" if judges.identity is None else judges.identity.name
    remarks = [
        remark,
        f"AUs read by {judges.aus.name}; people recognised by {identity}. Brackets hold 95 % bootstrap intervals over "
        "people (for the rate: slowest and fastest of five batches).",
    ]
    if first.gemm_gflops:
        remarks.append(f"The machine's matrix product in the same run: {first.gemm_gflops:.0f} GFLOP/s.")
    remarks += [f"{name} {ASKED_BY[m.asked_by]}" for name, m in models.items() if m.asked_by in ASKED_BY]
    present = {key: title for key, title in ROWS.items() if any(key in f.scalars for f in figures.values())}
    cells = [[title, *(_cell(f.scalars.get(key)) for f in figures.values())] for key, title in present.items()]
    tables = [Table("figures", "Figures", ["figure", *names], cells)]
    if first.by_emotion:
        words = [[word, *(_cell(f.by_emotion[word]) for f in figures.values())] for word in first.by_emotion]
        tables.append(
            Table("by_expression", "Unexplained change by the target's expression", ["target", *names], words)
        )
    for key, title in (("au_mse", "AU MSE by AU (Table 1)"), ("au_pcc", "AU PCC by AU (Table 1)")):
        rows = [(name, f.per_au[f"{key}_by_au"]) for name, f in figures.items()]
        rows += [("true target", first.per_au[f"{key}_by_au_floor"]), ("no edit", first.per_au[f"{key}_by_au_no_edit"])]
        tables.append(_by_au_table(f"{key}_by_au", title, rows))
    talk = {name: f.cross_talk for name, f in figures.items() if f.cross_talk is not None}
    if talk:
        shown = talk if first.cross_talk_floor is None else {**talk, "true target": first.cross_talk_floor}
        slopes = [(name, dict(zip(COLUMNS, found.slopes.tolist(), strict=True))) for name, found in shown.items()]
        tables.append(_by_au_table("on_target_slope", "On-target slope of single AUs (1 is perfect)", slopes))
    pictures = {
        "fig2": ("Sources × emotions × methods (Fig. 2; Fig. 4 with ablations)", expression_sheet(models, faces)),
        "fig3": ("Interpolation (Fig. 3, Eq. 8)", interpolation_sheet(models, faces)),
        "au_mse": ("AU MSE by AU", au_bars(figures, "au_mse", "AU MSE")),
        "au_pcc": ("AU PCC by AU", au_bars(figures, "au_pcc", "AU PCC")),
        **{
            f"cross_talk_{n.strip('/').replace('/', '-')}": (f"Cross-talk of {n}", cross_talk_map(n, found))
            for n, found in talk.items()
        },
    }
    sweeps = {name: f.sweep for name, f in figures.items() if f.sweep is not None}
    if sweeps:
        pictures["sweep"] = ("Intensity asked for against intensity read", sweep_curves(sweeps))
    summary: dict[str, object] = {name: f.summary() for name, f in figures.items()}
    return Report(f"Evaluation on {next(iter(faces.values())).path.name}", remarks, tables, pictures, summary)


def write_report(report: Report, out: Path) -> str:
    """Write the folder whole, replacing a report before it, and return the Markdown."""
    text = _markdown(report)
    with new_folder(out, "report") as beside:
        (beside / "report.md").write_text(text)
        (beside / "summary.json").write_text(json.dumps(report.summary, indent=1) + "\n")
        (beside / "index.html").write_text(_html(report))
        for table in report.tables:
            with (beside / f"{table.name}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([table.header, *table.rows])
        for stem, (_, picture) in report.pictures.items():
            picture.save(beside / f"{stem}.png", optimize=True)
    return text


def _by_au_table(name: str, title: str, rows: list[tuple[str, dict[str, float]]]) -> Table:
    cells = [[n, *(f"{by[c]:.2f}" for c in COLUMNS), f"{sum(by.values()) / len(by):.2f}"] for n, by in rows]
    return Table(name, title, ["AU", *(column[2:4] for column in COLUMNS), "mean"], cells)


def _cell(interval: Interval | None) -> str:
    return "" if interval is None else str(interval)


def _markdown(report: Report) -> str:
    lines = [f"# {report.title}", "", *(f"{remark}\n" for remark in report.remarks)]
    for table in report.tables:
        rows = [table.header, ["---"] * len(table.header), *table.rows]
        lines += [f"## {table.title}", "", *(f"| {' | '.join(cells)} |" for cells in rows), ""]
    for stem, (caption, _) in report.pictures.items():
        lines += [f"![{caption}]({stem}.png)", ""]
    return "\n".join(lines)


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{ r.title }}</title>
<style>
 body {font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222}
 .wide {overflow-x: auto} table {border-collapse: collapse; margin: 1rem 0; white-space: nowrap}
 th, td {padding: .2rem .6rem; border-bottom: 1px solid #ddd; text-align: left} img {max-width: 100%}
</style>
<h1>{{ r.title }}</h1>
{% for remark in r.remarks %}<p>{{ remark }}</p>{% endfor %}
{% for t in r.tables %}<h2>{{ t.title }}</h2><div class="wide"><table>
<tr>{% for cell in t.header %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in t.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>{% endfor %}
{% for caption, data in pictures %}<h2>{{ caption }}</h2>
<img alt="{{ caption }}" src="data:image/png;base64,{{ data }}">{% endfor %}
</html>
"""


def _html(report: Report) -> str:
    pictures = []
    for caption, picture in report.pictures.values():
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", optimize=True)
        pictures.append((caption, base64.b64encode(buffer.getvalue()).decode()))
    return Environment(autoescape=True).from_string(PAGE).render(r=report, pictures=pictures)
