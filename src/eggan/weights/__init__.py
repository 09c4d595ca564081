"""Weights that ship, and the one form of a weights folder: `config.json`, `model.safetensors`, `README.md` (card)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from eggan.errors import EgganError
from eggan.files import new_folder

__all__ = ["find_weights", "read_config", "read_tensors", "shipped", "write_weights"]

SHIPPED = Path(__file__).parent
Config = TypeVar("Config", bound=BaseModel)


def shipped(kind: type[nn.Module] | None = None) -> list[str]:
    """Names of the weights folders that come with the package: all, or those of one class of network."""
    folders = sorted(path.parent for path in SHIPPED.glob("*/config.json"))
    kinds = {folder.name: json.loads((folder / "config.json").read_text())["kind"] for folder in folders}
    return [name for name, own in kinds.items() if kind is None or own == kind.__name__]


def find_weights(name: str | Path) -> Path:
    """Folder of a shipped name, a folder made by `write_weights`, or a training run's `model/`."""
    for folder in (Path(name), Path(name) / "model", SHIPPED / name):
        if (folder / "model.safetensors").is_file() and (folder / "config.json").is_file():
            return folder
    raise EgganError(
        f'There is no model "{name}": give one of {", ".join(shipped())}, or a folder with config.json and '
        "model.safetensors."
    )


def read_config(folder: Path, kind: type[Config]) -> Config:
    """The configuration in `config.json`, checked."""
    try:
        return kind.model_validate(json.loads((folder / "config.json").read_text())["config"])
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().replace("\n", " ")
        raise EgganError(f"{folder / 'config.json'} does not describe a {kind.__name__} ({reason}).") from None


def read_tensors(folder: Path, module: nn.Module) -> None:
    """Load `model.safetensors` into a module; every tensor must be there and fit."""
    path = folder / "model.safetensors"
    try:
        tensors = load_file(path)
        module.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise EgganError(f"{path} does not hold the weights that its config.json describes ({reason}).") from None


def write_weights(folder: Path, module: nn.Module, config: BaseModel, card: str, dtype: torch.dtype) -> None:
    """Write a weights folder, beside first and then renamed, so that a crash leaves the old one whole."""
    tensors = {
        name: (t.to(dtype) if t.is_floating_point() else t).detach().cpu().contiguous()
        for name, t in module.state_dict().items()
    }
    with new_folder(folder, "model") as beside:
        save_file(tensors, beside / "model.safetensors", metadata={"format": "pt"})
        (beside / "model.safetensors").chmod(0o644)
        text = json.dumps({"kind": type(module).__name__, "config": config.model_dump(mode="json")}, indent=2)
        (beside / "config.json").write_text(text + "\n")
        (beside / "README.md").write_text(card)
