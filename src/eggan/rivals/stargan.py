"""StarGAN (Choi et al., CVPR 2018): one generator translates an image to the domain that a label names.

Two forms, by `network.labels`: `emotions`, the paper's own on RaFD, eight expressions as one-hot labels; and
`action_units`, 17 intensities, for which the class head is a regression.

Symbols are that paper's: x the image, c' its label, c the target, G(x, c) the edit, D_src and D_cls the two heads of D.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss, mse_loss, normalize, one_hot

from eggan.action_units import EMOTIONS, NUMBERS
from eggan.data import Batch
from eggan.losses import critic_loss, gradient_penalty
from eggan.method import ClassifierName, Rival, RunConfig, Settings, check_halvings, prototypes
from eggan.networks import AttributeClassifier, AttributeCritic, ImageTranslator, channels_last
from eggan.objective import Terms, frozen, weighted
from eggan.weights import load_weights, write_weights

__all__ = ["RIVAL", "StarGAN", "StarGANMethod", "StarGANRun"]


class StarGANNetwork(Settings):
    """G's shape, the paper's by default (Table 4)."""

    labels: Literal["emotions", "action_units"] = "emotions"
    width: int = Field(64, ge=1)
    blocks: int = Field(6, ge=1)


class StarGANConfig(StarGANNetwork):
    """All that shapes a model's tensors; G itself serves every image size that 4 divides."""

    image_size: int = Field(128, ge=16)


class StarGANLosses(Settings):
    """The λ of Eq. 5 and 6, and of the WGAN-GP in Eq. 8."""

    classification: float = Field(1.0, ge=0)
    """λ_cls of `emotions`, a cross-entropy."""
    regression: float = Field(46.0, ge=0)
    """λ_cls of `action_units`, a squared error. Ours: what weighs it as the other before anything is learned, ln 8 of
    the cross-entropy over 0.045, the variance of AUs / 5 in facsynth."""
    cycle: float = Field(10.0, ge=0)
    gradient_penalty: float = Field(10.0, ge=0)


class StarGANRun(RunConfig):
    """A run of StarGAN; defaults as in Sec. 5.2 and the public code."""

    method: Literal["stargan"] = "stargan"
    batch_size: int = Field(16, ge=1)
    critic_steps: int = Field(5, ge=1)
    steps: int = Field(40_000, ge=1)
    ema: float = Field(0.0, ge=0, lt=1)
    network: StarGANNetwork = StarGANNetwork()
    critic_widths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    losses: StarGANLosses = StarGANLosses()

    @model_validator(mode="after")
    def _check(self) -> StarGANRun:
        check_halvings(self.image_size, self.critic_widths)
        return self


class StarGAN(nn.Module):
    """G(x, c) (Table 4): the translator's trunk, then a 7×7 convolution and tanh.

    >>> model = StarGAN(StarGANConfig(labels="action_units", width=8, blocks=1))
    >>> I, u = torch.zeros(1, 3, 64, 64), torch.zeros(1, 17)
    >>> model.edit(I, u, u).shape
    torch.Size([1, 3, 64, 64])
    """

    def __init__(self, config: StarGANConfig) -> None:
        super().__init__()
        self.config = config
        labels = len(EMOTIONS) if config.labels == "emotions" else len(NUMBERS)
        self.trunk = ImageTranslator(labels, config.width, config.blocks)
        self.to_image = nn.Sequential(nn.Conv2d(config.width, 3, 7, 1, 3, bias=False), nn.Tanh())
        channels_last(self)

    @property
    def asked_by(self) -> Literal["action units", "word"]:
        """Words in the form of eight expressions: no strength, no single AU."""
        return "word" if self.config.labels == "emotions" else "action units"

    def label(self, u: Tensor) -> Tensor:
        """AUs / 5 (B, 17) to c: themselves, or the nearest of the eight expressions as one-hot (B, 8)."""
        return one_hot(nearest_emotion(u), len(EMOTIONS)).to(u) if self.config.labels == "emotions" else u

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [-1, 1] and labels (B, 8 or 17) to images in (-1, 1)."""
        return self.to_image(self.trunk(x, c)).float()

    def edit(self, I_i: Tensor, u_i: Tensor, u_t: Tensor) -> Tensor:
        """Images (B, 3, S, S), source AUs / 5 (not used) and target AUs / 5 (B, 17) to edits."""
        return self(I_i, self.label(u_t))

    def save_pretrained(self, folder: str | Path, card: str, dtype: torch.dtype = torch.float32) -> None:
        """Write `config.json`, `model.safetensors` and the card, replacing the folder whole."""
        write_weights(Path(folder), self, self.config, card, dtype)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> StarGAN:
        """A folder of `save_pretrained` or a training run, in evaluation mode and float32."""
        return load_weights(name, cls, StarGANConfig)


def nearest_emotion(u: Tensor) -> Tensor:
    """AUs / 5 (B, 17) to the position in `EMOTIONS` of the prototype in the nearest direction, int64 (B,).

    A word names a direction, not a strength. Neutral has none: it is the nearest of what shares no AU with any other.
    """
    return (u @ normalize(prototypes().to(u), dim=1).T).argmax(dim=1)


class Noise(NamedTuple):
    """Where on the line from x to G(x, c) the penalty is taken, uniform, (B, 1, 1, 1)."""

    place: Tensor


class Translation(NamedTuple):
    """One pass: labels c' and c, (B, 8 or 17), and the edit G(x, c), (B, 3, S, S)."""

    c_source: Tensor
    c: Tensor
    edit: Tensor


class StarGANMethod(nn.Module):
    """Eq. 5 and 6 with the adversarial loss of Eq. 8."""

    def __init__(self, config: StarGANRun, _: Callable[[ClassifierName], AttributeClassifier]) -> None:
        super().__init__()
        shape = StarGANConfig(image_size=config.image_size, **config.network.model_dump())
        self.model, self.weights = StarGAN(shape), config.losses
        self.words = shape.labels == "emotions"
        labels = len(EMOTIONS) if self.words else len(NUMBERS)
        self.D = channels_last(AttributeCritic(config.image_size, config.critic_widths, labels))

    @property
    def critics(self) -> list[nn.Module]:
        """D."""
        return [self.D]

    @property
    def learners(self) -> list[nn.Module]:
        """G."""
        return [self.model]

    def draw_noise(self, batch_size: int, generator: torch.Generator) -> Noise:
        """The penalty's places."""
        return Noise(torch.rand(batch_size, 1, 1, 1, generator=generator))

    def perform(self, batch: Batch, noise: Noise) -> Translation:
        """G(x, c); the targets are labels of other images of the data, as in the paper."""
        c = self.model.label(batch.u_t)
        return Translation(self.model.label(batch.u_i), c, self.model(batch.I_i, c))

    def discriminator_loss(self, batch: Batch, out: Translation, noise: Noise) -> Terms:
        """Eq. 5: -L_adv + λ_cls L_cls^r; the penalty's slope is that of the sum over patches, as in the public code."""
        x, edit = batch.I_i, out.edit.detach()
        scores, shown = self.D(torch.cat([x, edit]))
        L = {"D": critic_loss(*scores.chunk(2)), **self._class_loss("D_", shown[: len(x)], out.c_source)}
        with torch.autocast(x.device.type, enabled=False):
            L["gradient_penalty"] = gradient_penalty(lambda I: self.D(I)[0], x, edit, "interpolates", noise.place)
        return weighted({"D": 1.0, **self._class_weights("D_"), "gradient_penalty": self.weights.gradient_penalty}, L)

    def generator_loss(self, batch: Batch, out: Translation) -> Terms:
        """Eq. 6: L_adv + λ_cls L_cls^f + λ_rec E‖x - G(G(x, c), c')‖₁, the norm as a mean over the pixels."""
        with frozen(self.D):
            score, shown = self.D(out.edit)
        L = {"adversarial": -score.mean(), **self._class_loss("", shown, out.c)}
        L["cycle"] = l1_loss(self.model(out.edit, out.c_source), batch.I_i)
        return weighted({"adversarial": 1.0, **self._class_weights(""), "cycle": self.weights.cycle}, L)

    def _class_loss(self, prefix: str, shown: Tensor, c: Tensor) -> dict[str, Tensor]:
        """L_cls (Eq. 2 and 3): cross-entropy of eight classes, or squared error of 17 AUs / 5."""
        if self.words:
            return {f"{prefix}classification": cross_entropy(shown.float(), c.argmax(dim=1))}
        return {f"{prefix}regression": mse_loss(shown.float(), c)}

    def _class_weights(self, prefix: str) -> dict[str, float]:
        return {f"{prefix}{name}": getattr(self.weights, name) for name in ("classification", "regression")}


def _about(config: StarGANRun) -> str:
    if config.network.labels == "emotions":
        return f"StarGAN asked by word, one of {', '.join(EMOTIONS)}; learned from images of these expressions only."
    return "StarGAN asked by 17 Action Unit intensities, its class head a regression."


RIVAL = Rival(StarGANRun, StarGAN, StarGANMethod, _about)
