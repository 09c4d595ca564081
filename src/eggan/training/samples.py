"""The sample grid of a run: the same validation people with the same targets every time."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from eggan.action_units import MAX_INTENSITY
from eggan.contact_sheet import contact_sheet, to_pictures
from eggan.data import Faces
from eggan.method import Model
from eggan.pixels import to_floats

__all__ = ["Samples"]


class Samples:
    """Four validation people, always the same rows of each as targets; who has one row in the session is its own."""

    def __init__(self, val: Faces, device: torch.device) -> None:
        sources, targets = [], []
        shots, at_rest = val.shots, val.neutral
        for person in val.people[:4]:
            mine = np.flatnonzero(shots == shots[val.identity == person].min()).tolist()
            neutral = int(at_rest[mine[0]])
            others = [i for i in mine if i != neutral][:7] or [neutral]
            sources += [neutral] * len(others)
            targets += others
        self.people = sources
        self.I_i, self.I_t = (to_floats(val.images[rows]) for rows in (sources, targets))
        u = val.action_units / MAX_INTENSITY
        self.inputs = tuple(x.to(device) for x in (self.I_i, u[sources], u[targets]))

    @torch.no_grad()
    def draw(self, model: Model) -> Image.Image:
        """A row of edits and a row of true images for each person."""
        was_training = model.training
        edits = to_pictures(model.eval().edit(*self.inputs).cpu())
        model.train(was_training)
        own, true = to_pictures(self.I_i), to_pictures(self.I_t)
        rows, labels = [], []
        for source in dict.fromkeys(self.people):
            places = [k for k, s in enumerate(self.people) if s == source]
            rows += [[own[places[0]], *(edits[k] for k in places)], [own[places[0]], *(true[k] for k in places)]]
            labels += ["edit", "true"]
        columns = ["source", *(str(k + 1) for k in range(max(map(len, rows)) - 1))]
        return contact_sheet(rows, labels, columns, 96)
