"""The configuration of a run: presets in YAML, changes by `key.sub=value`, checked and frozen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from eggan.errors import EgganError
from eggan.model import ComposeForm, LatentForm, ModelConfig
from eggan.objective import LossConfig

__all__ = ["ClassifierConfig", "TrainConfig", "load_config", "presets"]

PRESETS = Path(__file__).parent / "presets"


class ClassifierConfig(BaseModel):
    """C_exp and C_id: VGG19 with stage widths w, 2w, 4w, 8w, 8w, trained before the rest (Sec. 3.3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(64, ge=1)
    steps: int = Field(4000, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(2e-4, gt=0)


class TrainConfig(BaseModel):
    """All that a run depends on; saved resolved as `config.yaml` in its folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path = Path("data/facsynth/train.parquet")
    val: Path = Path("data/facsynth/val.parquet")
    init: str | None = None
    """Model whose E and G the run starts from: a shipped name, a run or a folder of weights."""
    image_size: int = 128
    steps: int = Field(241_200, ge=1)
    batch_size: int = Field(8, ge=1)
    """Images a step, over all processes."""
    accumulate: int = Field(1, ge=1)
    """Pieces that a process cuts its part of the batch into, so that it fits into memory; changes nothing else."""
    critic_steps: int = Field(1, ge=1)
    """Updates of the critics, each on a batch of its own, for one of E and G."""
    seed: int = 0
    relit: bool = False
    """Whether images are shown in other light, from deep shade to sun; source and target of a pair in the same."""
    learning_rate: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    decay_from: float = Field(0.5, ge=0, lt=1)
    """Share of the steps after which the learning rate falls linearly to 0."""
    ema: float = Field(0.999, ge=0, lt=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpoint_every: int = Field(1000, ge=1)
    sample_every: int = Field(1000, ge=1)
    log_every: int = Field(50, ge=1)
    network: Annotated[LatentForm | ComposeForm, Field(discriminator="form")] = LatentForm()
    critic_widths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    classifiers: ClassifierConfig = ClassifierConfig()
    losses: LossConfig = LossConfig()

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        _ = self.model
        w = self.losses
        if not any((w.adversarial, w.au, w.identity, w.perceptual, w.reconstruction, w.paired)):
            raise ValueError(
                "nothing would be learned: one of losses.adversarial, .au, .identity, .perceptual, .reconstruction and "
                ".paired must be above 0"
            )
        if self.image_size % 2 ** len(self.critic_widths):
            raise ValueError(
                f"{self.image_size} pixels cannot be halved {len(self.critic_widths)} times by critic_widths"
            )
        return self

    @property
    def model(self) -> ModelConfig:
        """Configuration of the model that the run trains."""
        return ModelConfig(image_size=self.image_size, network=self.network)

    def to_yaml(self) -> str:
        """The resolved configuration as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def presets() -> list[str]:
    """Names of the shipped presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_config(preset: str, changes: Sequence[str] = ()) -> TrainConfig:
    """A preset with changes such as `losses.identity=0`.

    Raises:
        EgganError: no such preset, an unknown key or a value that does not fit.
    """
    if preset not in presets():
        raise EgganError(f'There is no preset "{preset}": choose one of {", ".join(presets())}.')
    for change in changes:
        if "=" not in change:
            raise EgganError(f'"{change}" is no setting: write KEY=VALUE, for example steps=1000.')
    try:
        merged = OmegaConf.merge(OmegaConf.load(PRESETS / f"{preset}.yaml"), OmegaConf.from_dotlist(list(changes)))
        return TrainConfig.model_validate(OmegaConf.to_container(merged, resolve=True))
    except ValidationError as error:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"]]
        if place[:1] == ["network"]:
            del place[1:2]  # the form, by which pydantic tells the two kinds of network apart
        unknown = first["type"] == "extra_forbidden"
        reason = "is not a known key" if unknown else first["msg"].removeprefix("Value error, ")
        raise EgganError(f"Setting {'.'.join(place)}: {reason}." if place else f"Settings: {reason}.") from None
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise EgganError(f"The settings {' '.join(changes)} cannot be read: {str(error).splitlines()[0]}.") from None
