"""The configuration of a run: presets in YAML, changes by `key.sub=value`, checked and frozen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, ValidationError, model_validator

from eggan.errors import EgganError
from eggan.method import ClassifierConfig, JudgedConfig, RunConfig, check_halvings
from eggan.model import ComposeForm, LatentForm, ModelConfig
from eggan.objective import LossConfig
from eggan.rivals import rival, rivals

__all__ = ["ClassifierConfig", "TrainConfig", "load_config", "load_rival_config", "presets"]

PRESETS = Path(__file__).parent / "presets"
Config = TypeVar("Config", bound=RunConfig)


class TrainConfig(JudgedConfig):
    """All that a run of EGGAN depends on."""

    method: Literal["eggan"] = "eggan"
    init: str | None = None
    """Model whose E and G the run starts from: a shipped name, a run or a folder of weights."""
    learn: Literal["all", "conditioning"] = "all"
    """Of E and G, all; or of a compose head only what turns AUs into FiLM's scales and shifts.

    Pairs alone leave edits milder than asked for, a mean of what may be true. C_exp asks for the rest, and where the
    conditioning alone listens, it is given by more of what G paints already and never by patterns that please C_exp.
    """
    network: Annotated[LatentForm | ComposeForm, Field(discriminator="form")] = LatentForm()
    critic_widths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    critic_is_told: bool = False
    """Whether D_img sees the source and both AU vectors beside the image; needs pairs."""
    critic_init: Path | None = None
    """Safetensors file of a D_img to start from: a critic needs a thousand steps before it tells edits from images."""
    losses: LossConfig = LossConfig()

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        _ = self.model
        w = self.losses
        latent = w.latent if self.network.form == "latent" else 0
        if not any((latent, w.adversarial, w.au, w.identity, w.perceptual, w.reconstruction, w.paired)):
            raise ValueError("nothing would be learned: the weights under losses. are 0, and one must be above")
        check_halvings(self.image_size, self.critic_widths)
        if self.critic_is_told and not w.paired:
            raise ValueError("critic_is_told needs losses.paired above 0: real is the true image of what was asked for")
        if self.learn == "conditioning" and not (self.init and self.network.form == "compose"):
            raise ValueError("learn=conditioning needs init, weights of the compose form, of which the rest stays")
        if self.critic_init and not w.adversarial:
            raise ValueError("critic_init needs losses.adversarial above 0: nothing else listens to D_img")
        if self.unpaired and w.identity:
            raise ValueError("unpaired needs losses.identity=0: nobody says who is on photographs")
        if self.unpaired and not w.au:
            raise ValueError("unpaired needs losses.au above 0: nothing else says what those edits are to show")
        if w.shade and not self.unpaired:
            raise ValueError("losses.shade needs unpaired above 2: pairs say themselves how light falls")
        return self

    @property
    def model(self) -> ModelConfig:
        """Configuration of the model that the run trains."""
        return ModelConfig(image_size=self.image_size, network=self.network)

    @property
    def paired(self) -> bool:
        """Do batches need the true image of the target?"""
        return self.losses.paired > 0


def presets(method: str = "eggan") -> list[str]:
    """Names of the shipped presets of a method."""
    return sorted(path.stem for path in _folder(method).glob("*.yaml"))


def load_config(preset: str, changes: Sequence[str] = ()) -> TrainConfig:
    """A preset of EGGAN with changes such as `losses.identity=0`.

    Raises:
        EgganError: no such preset, an unknown key or a value that does not fit.
    """
    return _load("eggan", preset, changes, TrainConfig)


def load_rival_config(method: str, preset: str, changes: Sequence[str] = ()) -> RunConfig:
    """A preset of a rival with changes such as `losses.cycle=5`.

    Raises:
        EgganError: no such method or preset, an unknown key or a value that does not fit.
    """
    if method not in rivals():
        raise EgganError(f'There is no method "{method}": choose one of {", ".join(["eggan", *rivals()])}.')
    return _load(method, preset, changes, rival(method).config)


def _folder(method: str) -> Path:
    return PRESETS if method == "eggan" else PRESETS / method


def _load(method: str, preset: str, changes: Sequence[str], kind: type[Config]) -> Config:
    if preset not in presets(method):
        raise EgganError(f'There is no preset "{preset}": choose one of {", ".join(presets(method))}.')
    for change in changes:
        if "=" not in change:
            raise EgganError(f'"{change}" is no setting: write KEY=VALUE, for example steps=1000.')
    try:
        base = OmegaConf.load(_folder(method) / f"{preset}.yaml")
        merged = OmegaConf.merge(base, OmegaConf.from_dotlist(list(changes)))
        return kind.model_validate(OmegaConf.to_container(merged, resolve=True))
    except ValidationError as error:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"]]
        if place[:1] == ["network"] and method == "eggan":
            del place[1:2]  # the form, by which pydantic tells the two kinds of network apart
        unknown = first["type"] == "extra_forbidden"
        reason = "is not a known key" if unknown else first["msg"].removeprefix("Value error, ")
        raise EgganError(f"Setting {'.'.join(place)}: {reason}." if place else f"Settings: {reason}.") from None
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise EgganError(f"The settings {' '.join(changes)} cannot be read: {str(error).splitlines()[0]}.") from None
