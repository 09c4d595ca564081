"""The figures of a report: sheets of pictures (Fig. 2 to 4 of the paper) and charts."""

from __future__ import annotations

import io
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from eggan.action_units import COLUMNS, EMOTIONS, MAX_INTENSITY, NUMBERS
from eggan.contact_sheet import contact_sheet, to_pictures
from eggan.data import Faces
from eggan.evaluation.protocol import CrossTalk, Figures, Sweep, asked_for, edit_pairs
from eggan.method import Model
from eggan.pixels import to_floats

__all__ = ["au_bars", "cross_talk_map", "expression_sheet", "interpolation_sheet", "sweep_curves"]

LABELS = [column[:4] for column in COLUMNS]
CELL = 96
PEOPLE = 3


def expression_sheet(models: Mapping[str, Model], faces: Mapping[str, Faces]) -> Image.Image:
    """Fig. 2 and, where ablations are given, Fig. 4: sources × emotions × methods, the true image above.

    Args:
        models: name to model.
        faces: name to the same faces at that model's size.
    """
    first = next(iter(faces.values()))
    neutral = first.neutral
    emotions = [word for word in EMOTIONS if word != "neutral" and word in first.emotion]
    rows: list[list[Image.Image | None]] = []
    labels = []
    for who in first.people[:PEOPLE]:
        found = [np.flatnonzero((first.identity == who) & (first.emotion == word)) for word in emotions]
        places = [k for k, of in enumerate(found) if len(of) and neutral[of[0]] != of[0]]
        if not places:
            continue
        target_rows = np.array([found[k][0] for k in places])
        source_rows = neutral[target_rows]
        rows += [
            _spread(first.images[source_rows], places, emotions),
            _spread(first.images[target_rows], places, emotions),
        ]
        labels += [f"{who}\nsource", "true"]
        for name, model in models.items():
            edits = edit_pairs(model, faces[name], source_rows, asked_for(model, faces[name], target_rows))
            rows.append(_spread(edits, places, emotions))
            labels.append(name)
    return contact_sheet(rows, labels, emotions, CELL)


def interpolation_sheet(models: Mapping[str, Model], faces: Mapping[str, Faces], steps: int = 7) -> Image.Image:
    """Fig. 3, Eq. 8: α from 0, the neutral source, to 1, a target; a person a row, the true image last."""
    alphas = torch.linspace(0, 1, steps)
    rows: list[list[Image.Image | None]] = []
    labels = []
    for name, model in models.items():
        own = faces[name]
        neutral = own.neutral
        for who, word in zip(own.people, ("happy", "surprised", "angry"), strict=False):
            found = np.flatnonzero((own.identity == who) & (own.emotion == word))
            if not len(found) or neutral[found[0]] == found[0]:
                continue
            source, target = int(neutral[found[0]]), int(found[0])
            u_i, u_t = (own.action_units[row] / MAX_INTENSITY for row in (source, target))
            path = torch.stack([torch.lerp(u_i, u_t, alpha) for alpha in alphas])
            edits = edit_pairs(model, own, np.full(steps, source), path)
            rows.append([*to_pictures(to_floats(edits)), to_pictures(to_floats(own.images[found[:1]]))[0]])
            labels.append(f"{name}\n{word}")
    return contact_sheet(rows, labels, [*(f"{alpha:.2f}" for alpha in alphas), "true"], CELL)


def cross_talk_map(name: str, found: CrossTalk) -> Image.Image:
    """The 17×17 matrix: how far each AU (column) moves when one (row) is asked for at 4."""
    figure = Figure((9, 7.5), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(found.moved, cmap="RdBu_r", vmin=-4, vmax=4)
    axes.set_xticks(range(len(NUMBERS)), LABELS, rotation=90)
    axes.set_yticks(range(len(NUMBERS)), LABELS)
    axes.set(xlabel="AU read", ylabel="AU asked for, alone", title=f"{name}: change in the reading, 0..5 scale")
    for (row, column), value in np.ndenumerate(found.moved):
        if abs(value) >= 0.25:
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=7)
    figure.colorbar(image, ax=axes, shrink=0.8)
    return _picture(figure)


def au_bars(figures: Mapping[str, Figures], key: str, title: str) -> Image.Image:
    """One AU a group, one bar a model, between "no edit" and "true target"."""
    first = next(iter(figures.values()))
    series = {name: f.per_au[f"{key}_by_au"] for name, f in figures.items()}
    series |= {"true target": first.per_au[f"{key}_by_au_floor"], "no edit": first.per_au[f"{key}_by_au_no_edit"]}
    figure = Figure((11, 3.6), layout="constrained")
    axes = figure.subplots()
    width, places = 0.84 / len(series), np.arange(len(COLUMNS))
    colours = [*mpl.colormaps["tab10"].colors[: len(figures)], "0.45", "0.8"]  # type: ignore[attr-defined]
    for k, ((name, by_au), colour) in enumerate(zip(series.items(), colours, strict=True)):
        axes.bar(places + (k + 0.5) * width - 0.42, list(by_au.values()), width, label=name, color=colour)
    axes.set_xticks(places, LABELS)
    axes.set_title(title)
    axes.legend(ncols=len(series), fontsize=8)
    return _picture(figure)


def sweep_curves(sweeps: Mapping[str, Sweep]) -> Image.Image:
    """Asked against read, one panel an AU, one curve a model."""
    figure = Figure((11, 6.5), layout="constrained")
    panels = figure.subplots(3, 6, sharex=True, sharey=True).flat
    for j, axes in zip(range(len(COLUMNS)), panels, strict=False):
        axes.plot([0, MAX_INTENSITY], [0, MAX_INTENSITY], color="0.8", linewidth=1)
        for name, sweep in sweeps.items():
            axes.plot(sweep.asked, sweep.read[j], marker=".", label=name)
        axes.set_title(LABELS[j], fontsize=9)
    for axes in list(panels):
        axes.set_axis_off()
    figure.axes[-1].set_axis_off()
    figure.axes[-1].legend(*figure.axes[0].get_legend_handles_labels(), loc="center")
    figure.supxlabel("intensity asked for")
    figure.supylabel("intensity read")
    return _picture(figure)


def _picture(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return Image.open(buffer).convert("RGB")


def _spread(images: torch.Tensor, places: list[int], columns: list[str]) -> list[Image.Image | None]:
    row: list[Image.Image | None] = [None] * len(columns)
    for place, picture in zip(places, to_pictures(to_floats(images)), strict=True):
        row[place] = picture
    return row
