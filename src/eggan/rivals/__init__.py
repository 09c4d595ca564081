"""Methods that EGGAN is compared with, one file each, all behind `eggan.method`.

A new rival is one new file here that ends with `RIVAL`, and its presets in `training/presets/NAME/`. The file is named
as the class of its model is, in small letters; no rival imports another.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from eggan.method import Model, Rival
from eggan.model import EGGAN
from eggan.weights import kind_of

__all__ = ["load_model", "rival", "rivals"]


def rivals() -> list[str]:
    """Names of the rivals."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def rival(name: str) -> Rival:
    """The rival of that name, one of `rivals()`."""
    return import_module(f"eggan.rivals.{name}").RIVAL


def load_model(name: str | Path) -> Model:
    """EGGAN or a rival, as a weights folder's `config.json` says, in evaluation mode and float32.

    Raises:
        EgganError: there is no such model, or its files do not fit together.
    """
    kind = str(kind_of(name)).lower()
    return rival(kind).model.from_pretrained(name) if kind in rivals() else EGGAN.from_pretrained(name)
