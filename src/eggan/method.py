"""What a training run and an evaluation ask of a method: EGGAN and each rival in `eggan.rivals`.

A run owns batches, optimisers, moving average, checkpoints, log and sample grids; a `Method` owns networks and losses;
a `Model` is what the run leaves: it edits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from eggan.action_units import EMOTIONS, MAX_INTENSITY, NUMBERS
from eggan.data import Batch, Faces
from eggan.errors import EgganError
from eggan.networks import AttributeClassifier
from eggan.objective import Terms

__all__ = [
    "ClassifierConfig", "ClassifierName", "Exemplars", "JudgedConfig", "Method", "Model", "Rival", "RunConfig",
    "Settings", "as_asked", "as_taught", "check_halvings", "prototypes", "show_exemplars",
]  # fmt: skip

ClassifierName = Literal["C_exp", "C_id"]


class Settings(BaseModel):
    """Frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunConfig(Settings):
    """What every run depends on, whatever its method; saved resolved as `config.yaml` in its folder."""

    whole_batch: ClassVar[bool] = False
    """Whether the images of a batch meet one another, so that it can be neither shared nor cut into pieces."""
    method: str
    data: Path = Path("data/facsynth/train.parquet")
    val: Path = Path("data/facsynth/val.parquet")
    image_size: int = 128
    steps: int = Field(241_200, ge=1)
    """Updates of the generator's side; each takes `critic_steps` batches."""
    batch_size: int = Field(8, ge=1)
    """Images of a batch, over all processes."""
    accumulate: int = Field(1, ge=1)
    """Pieces that a process cuts its part of the batch into, so that it fits into memory; changes nothing else."""
    critic_steps: int = Field(1, ge=1)
    """Updates of the critics, each on a batch of its own, for one of the generator's side."""
    seed: int = 0
    from_neutral: float = Field(0.0, ge=0, le=1)
    """Share of the pairs that begin at the neutral image of their session, as most photographs that are edited do."""
    randomised: bool = False
    """For renders: whether they are placed and lit as photographs may be, from deep shade to sun, with teeth as warm as
    people's, with beards where landmarks are known, and the source's AUs are as inexact as where they are read; source
    and target of a pair alike."""
    photos: Path | None = None
    """Folder of photographs of faces, any people's, that lend rendered faces their surroundings and tone."""
    unpaired: int = Field(0, ge=0)
    """Where n > 2, two of every n sources are asked for what no image shows, and C_exp (Eq. 3) alone says whether their
    edits have it: one of `photos`, and a rendered face of which one AU is to change."""
    learning_rate: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    decay_from: float = Field(0.5, ge=0, lt=1)
    """Share of the steps after which the learning rate falls linearly to 0."""
    ema: float = Field(0.999, ge=0, lt=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 where the device computes in it; on a CPU without AVX-512, which only imitates it, float32."""
    compile: bool = False
    """Whether the model's networks are compiled (`torch.compile`): for a GPU, which otherwise waits for each kernel's
    launch. It takes a C++ compiler and minutes at the start; on a CPU nothing is gained."""
    checkpoint_every: int = Field(1000, ge=1)
    sample_every: int = Field(1000, ge=1)
    log_every: int = Field(50, ge=1)

    @model_validator(mode="after")
    def _check_pairs(self) -> RunConfig:
        if self.from_neutral and not self.paired:
            raise ValueError("from_neutral needs a method that learns from pairs: set losses.paired")
        if self.unpaired and not (self.photos and self.paired and self.unpaired > 2):
            raise ValueError(
                "unpaired needs photos, the folder, and pairs beside them: set losses.paired, and n above 2"
            )
        return self

    @property
    def paired(self) -> bool:
        """Does the method learn from the true image of the target?"""
        return False

    def to_yaml(self) -> str:
        """The resolved configuration as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def check_halvings(image_size: int, critic_widths: Sequence[int]) -> None:
    """Raise ValueError where a critic with a halving for each width does not fit the image."""
    if image_size % 2 ** len(critic_widths):
        raise ValueError(f"{image_size} pixels cannot be halved {len(critic_widths)} times by critic_widths")


class ClassifierConfig(Settings):
    """C_exp and C_id: VGG19 with stage widths w, 2w, 4w, 8w, 8w, trained before the rest (Sec. 3.3)."""

    width: int = Field(64, ge=1)
    image_size: int | None = Field(None, ge=16)
    """Side in pixels at which they see pictures; the run's own where it is None."""
    init: Path | None = None
    """Safetensors file of a C_exp to go on from. One that comes with eggan is in `data/teachers`."""
    steps: int = Field(4000, ge=0)
    """With 0, the C_exp of `init` is taken as it is."""
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(2e-4, gt=0)

    @model_validator(mode="after")
    def _check(self) -> ClassifierConfig:
        if not self.steps and self.init is None:
            raise ValueError("classifiers.steps=0 needs classifiers.init, the file of a trained C_exp")
        return self


class JudgedConfig(RunConfig):
    """A run whose method learns from C_exp or C_id."""

    classifiers: ClassifierConfig = ClassifierConfig()


class _Sized(Protocol):
    @property
    def image_size(self) -> int: ...


class Model(Protocol):
    """A trained method: an `nn.Module` that edits.

    `asked_by` says what the method understands. All are asked by AUs here: a `word` by the AUs of its prototype (see
    `as_asked`), an `exemplar` by the AUs that it should show (see `show_exemplars`).
    """

    training: bool

    @property
    def asked_by(self) -> Literal["action units", "word", "exemplar"]:
        """What the method understands."""
        ...

    @property
    def config(self) -> _Sized:
        """What `config.json` holds."""
        ...

    def edit(self, I_i: Tensor, u_i: Tensor, u_t: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [-1, 1], source and target AUs / 5 (B, 17), to edits (B, 3, S, S)."""
        ...

    def save_pretrained(self, folder: str | Path, card: str, dtype: torch.dtype = torch.float32) -> None:
        """Write `config.json`, `model.safetensors` and the card `README.md`, replacing the folder whole."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Of `nn.Module`, as are the next two."""
        ...

    def train(self, mode: bool = True) -> Any: ...  # noqa: ANN401, D102

    def eval(self) -> Any: ...  # noqa: ANN401, D102


class Method(Protocol):
    """Networks and losses of one step: an `nn.Module` with the model inside.

    A step of a run is `critic_steps` times (perform, `discriminator_loss`, update the critics), each on a batch and
    noise of its own, then `generator_loss` on the last pass, and update the learners. Noise is a named tuple of tensors
    with one row an image, or None. Every term is a mean over images.
    """

    @property
    def model(self) -> Any:  # noqa: ANN401 - a Model that is an nn.Module, which a Protocol cannot say
        """What the run leaves."""
        ...

    @property
    def critics(self) -> Sequence[nn.Module]:
        """What `discriminator_loss` teaches."""
        ...

    @property
    def learners(self) -> Sequence[nn.Module]:
        """What `generator_loss` teaches."""
        ...

    def draw_noise(self, batch_size: int, generator: torch.Generator) -> Any:  # noqa: ANN401
        """Random numbers of one pass and one step of the critics, for the whole of a batch."""
        ...

    def perform(self, batch: Batch, noise: Any) -> Any:  # noqa: ANN401
        """One pass of the learners, which both losses are taken on."""
        ...

    def discriminator_loss(self, batch: Batch, out: Any, noise: Any) -> Terms:  # noqa: ANN401
        """What the critics minimise; the learners get no gradient."""
        ...

    def generator_loss(self, batch: Batch, out: Any) -> Terms:  # noqa: ANN401
        """What the learners minimise; the critics get no gradient."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Of `nn.Module`, as are the next two."""
        ...

    def to(self, device: torch.device, /) -> Any: ...  # noqa: ANN401, D102

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...  # noqa: ANN401, D102


class Rival(NamedTuple):
    """What the file of a rival ends with.

    Attributes:
        config: of a run; its defaults are the rival's paper.
        model: the class whose name a weights folder has as its `kind`; `model.from_pretrained(folder)` loads it.
        method: makes networks and losses of a configuration; its second argument trains C_exp or C_id on demand.
        about: a sentence for the model card.
    """

    config: type[RunConfig]
    model: Any
    method: Callable[[Any, Callable[[ClassifierName], AttributeClassifier]], Any]
    about: Callable[[Any], str]


# --- Methods that are not asked by Action Units ----------------------------------------------------------------------


def prototypes() -> Tensor:
    """AUs / 5 of the eight expressions in the order of `EMOTIONS`, neutral first: (8, 17)."""
    return torch.tensor([[of.get(number, 0.0) for number in NUMBERS] for of in EMOTIONS.values()]) / MAX_INTENSITY


def as_asked(model: Model, faces: Faces) -> Faces:
    """The faces with the AUs by which the model is asked for each row.

    A method that is asked by word is asked by the prototype of a row's emotion word. Rows with another word (`mixed`,
    `single`) it cannot be asked for: they keep their AUs, of which the method takes the nearest of the eight words, as
    who used it would have to.
    """
    if model.asked_by != "word":
        return faces
    units = faces.action_units.clone()
    for word, prototype in zip(EMOTIONS, MAX_INTENSITY * prototypes(), strict=True):
        units[torch.from_numpy(faces.emotion == word)] = prototype
    return replace(faces, action_units=units)


def as_taught(model: Model, faces: Faces) -> Faces:
    """The rows that the model can learn from, as it is asked for them.

    Raises:
        EgganError: it learns from words, and no row has one of the eight.
    """
    if model.asked_by != "word":
        return faces
    known = np.isin(faces.emotion.astype(str), list(EMOTIONS))
    if not known.any():
        raise EgganError(f"{faces.path} has no row whose emotion is one of {', '.join(EMOTIONS)}: set network.labels.")
    return as_asked(model, faces.select(known))


class Exemplars(NamedTuple):
    """Images to choose an exemplar from, uint8 (N, 3, S, S), and their AUs / 5, (N, 17)."""

    images: Tensor
    u: Tensor


def show_exemplars(model: Any, faces: Faces) -> None:  # noqa: ANN401
    """Give a method that is asked by exemplar the training faces, of which it takes the one with the nearest AUs.

    Not the true target: that shows the source's own person, light and background, and a method that mixes features
    could copy it. The training faces show other people with known AUs, which is what a user of such a method has.
    """
    if model.asked_by == "exemplar":
        model.exemplars = Exemplars(faces.images, faces.action_units / MAX_INTENSITY)
