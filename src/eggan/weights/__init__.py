"""Weights that ship, and the one form of a weights folder: `config.json`, `model.safetensors`, `README.md` (card)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eggan.errors import EgganError
from eggan.files import new_folder

__all__ = [
    "find_weights", "kind_of", "load_weights", "official_vgg19", "read_config", "read_given", "read_tensors", "shipped",
    "write_weights",
]  # fmt: skip

SHIPPED = Path(__file__).parent
Config = TypeVar("Config", bound=BaseModel)
Network = TypeVar("Network", bound=nn.Module)


def shipped(kind: type[nn.Module]) -> list[str]:
    """Names of the weights folders of one class of network that come with the package."""
    folders = sorted(path.parent for path in SHIPPED.glob("*/config.json"))
    return [folder.name for folder in folders if _kind(folder) == kind.__name__]


def find_weights(name: str | Path, kind: type[nn.Module]) -> Path:
    """Folder of a shipped name, a folder made by `write_weights`, or a training run's `model/`.

    Raises:
        EgganError: there is none of that name, or it holds another class of network.
    """
    folder = _find(name)
    if folder is not None:
        if _kind(folder) not in (kind.__name__, None):
            raise EgganError(f"{name} holds the weights of a {_kind(folder)}, not of a {kind.__name__}.")
        return folder
    raise EgganError(
        f'There is no model "{name}": give one of {", ".join(shipped(kind))}, or a folder with config.json and '
        "model.safetensors."
    )


def kind_of(name: str | Path) -> str | None:
    """Class of the network of a shipped name or a folder; None where there is none, or its `config.json` is broken."""
    folder = _find(name)
    return None if folder is None else _kind(folder)


def _find(name: str | Path) -> Path | None:
    for folder in (Path(name), Path(name) / "model", SHIPPED / name):
        if (folder / "model.safetensors").is_file() and (folder / "config.json").is_file():
            return folder
    return None


def _kind(folder: Path) -> str | None:
    """Class of the network that wrote the folder; None where `config.json` is broken, which `read_config` reports."""
    try:
        return json.loads((folder / "config.json").read_text())["kind"]
    except (ValueError, KeyError, TypeError):
        return None


def load_weights(name: str | Path, kind: Callable[[Config], Network], config: type[Config]) -> Network:
    """The network of a weights folder, by a shipped name or a path, in evaluation mode and float32.

    Args:
        name: as `find_weights` takes it.
        kind: the class of network, built from its configuration.
        config: the class of that configuration.

    Raises:
        EgganError: there is no such folder, or its files do not fit together.
    """
    assert isinstance(kind, type)
    folder = find_weights(name, kind)
    network = kind(read_config(folder, config))
    read_tensors(folder / "model.safetensors", network)
    return network.eval()


def read_config(folder: Path, kind: type[Config]) -> Config:
    """The configuration in `config.json`, checked."""
    try:
        return kind.model_validate(json.loads((folder / "config.json").read_text())["config"])
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().replace("\n", " ")
        raise EgganError(f"{folder / 'config.json'} does not describe a {kind.__name__} ({reason}).") from None


def read_tensors(path: Path, module: nn.Module, what: str = "the weights that its config.json describes") -> None:
    """Load a safetensors file into a module; every tensor must be there and fit, else a sentence says what was due."""
    try:
        tensors = load_file(path)
        module.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise EgganError(f"{path} does not hold {what} ({reason}).") from None


def read_given(path: Path, module: nn.Module, setting: str, what: str) -> None:
    """Load the safetensors file that a setting names into a module.

    Raises:
        EgganError: there is no such file, or it does not hold what is due there.
    """
    if not path.is_file():
        raise EgganError(f"There is no file {path}: set {setting} to another, or to null to begin anew.")
    read_tensors(path, module, what)


def official_vgg19(path: str, build: Callable[[Mapping[str, Tensor]], Network]) -> Network:
    """A network with the official VGG19 weights of a file, which the setting `losses.vgg19` names.

    Raises:
        EgganError: the file cannot be read, or does not hold what `build` takes of them.
    """
    try:
        return build(load_file(path) if path.endswith(".safetensors") else torch.load(path, weights_only=True))
    except Exception as error:  # a torn or foreign file fails in many ways
        raise EgganError(
            f"losses.vgg19: {path} does not hold the official VGG19 weights ({type(error).__name__}); give "
            "torchvision's vgg19 state dict as .pth or .safetensors, or leave it out."
        ) from None


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
