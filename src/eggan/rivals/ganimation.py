"""GANimation (Pumarola et al., ECCV 2018): Action Units to a colour image and an attention mask over the source.

Symbols are that paper's: I_o the source with AUs y_o, y_f the target, A the attention and C the colour. Here A is the
share of new colour, one minus the paper's: zeros keep the source.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss

from eggan.action_units import NUMBERS
from eggan.data import Batch
from eggan.losses import critic_loss, gradient_penalty
from eggan.method import ClassifierName, Rival, RunConfig, Settings, check_halvings
from eggan.networks import AttributeClassifier, AttributeCritic, ImageTranslator, channels_last
from eggan.objective import Terms, frozen, weighted
from eggan.weights import load_weights, write_weights

__all__ = ["RIVAL", "GANimation", "GANimationMethod", "GANimationRun", "attend"]


class GANimationNetwork(Settings):
    """G's shape, the paper's by default: StarGAN's backbone."""

    width: int = Field(64, ge=1)
    blocks: int = Field(6, ge=1)


class GANimationConfig(GANimationNetwork):
    """All that shapes a model's tensors; G itself serves every image size that 4 divides."""

    image_size: int = Field(128, ge=16)


class GANimationLosses(Settings):
    """The λ of Eq. 6, as the public code scales its terms."""

    regression: float = Field(160.0, ge=0)
    """4000 over the batch of 25, of a mean over images and AUs."""
    cycle: float = Field(10.0, ge=0)
    mask: float = Field(0.1, ge=0)
    smoothness: float = Field(2.5e-4, ge=0)
    """1e-5 of a sum over pixels and the batch of 25; here of a mean over images."""
    gradient_penalty: float = Field(10.0, ge=0)


class GANimationRun(RunConfig):
    """A run of GANimation; defaults as in Sec. 5 and the public code."""

    method: Literal["ganimation"] = "ganimation"
    batch_size: int = Field(25, ge=1)
    critic_steps: int = Field(5, ge=1)
    steps: int = Field(48_000, ge=1)
    decay_from: float = Field(2 / 3, ge=0, lt=1)
    ema: float = Field(0.0, ge=0, lt=1)
    target_jitter: float = Field(0.1, ge=0)
    """Targets are AUs / 5 of other images plus U(-jitter, jitter)."""
    network: GANimationNetwork = GANimationNetwork()
    critic_widths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    losses: GANimationLosses = GANimationLosses()

    @model_validator(mode="after")
    def _check(self) -> GANimationRun:
        check_halvings(self.image_size, self.critic_widths)
        return self


class GANimation(nn.Module):
    """G(I_o, y_f): the translator's trunk, then two 7×7 convolutions, sigmoid to A and tanh to C (Sec. 4.1).

    >>> model = GANimation(GANimationConfig(width=8, blocks=1))
    >>> I, u = torch.zeros(1, 3, 64, 64), torch.zeros(1, 17)
    >>> model.edit(I, u, u).shape
    torch.Size([1, 3, 64, 64])
    """

    def __init__(self, config: GANimationConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = ImageTranslator(len(NUMBERS), config.width, config.blocks)
        self.to_attention = nn.Sequential(nn.Conv2d(config.width, 1, 7, 1, 3, bias=False), nn.Sigmoid())
        self.to_colour = nn.Sequential(nn.Conv2d(config.width, 3, 7, 1, 3, bias=False), nn.Tanh())
        channels_last(self)

    @property
    def asked_by(self) -> Literal["action units"]:
        """Action Units."""
        return "action units"

    def forward(self, I_o: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, S, S) in [-1, 1] and AUs / 5 (B, 17) to A (B, 1, S, S) in (0, 1) and C in (-1, 1)."""
        features = self.trunk(I_o, y)
        return self.to_attention(features).float(), self.to_colour(features).float()

    def edit(self, I_i: Tensor, u_i: Tensor, u_t: Tensor) -> Tensor:
        """Images (B, 3, S, S), source AUs / 5 (not used) and target AUs / 5 (B, 17) to edits."""
        return attend(I_i, *self(I_i, u_t))

    def save_pretrained(self, folder: str | Path, card: str, dtype: torch.dtype = torch.float32) -> None:
        """Write `config.json`, `model.safetensors` and the card, replacing the folder whole."""
        write_weights(Path(folder), self, self.config, card, dtype)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> GANimation:
        """A folder of `save_pretrained` or a training run, in evaluation mode and float32."""
        return load_weights(name, cls, GANimationConfig)


def attend(I_o: Tensor, A: Tensor, C: Tensor) -> Tensor:
    """Eq. 1: A · C + (1 - A) · I_o. Zero attention returns the source itself."""
    return A * C + (1 - A) * I_o


def smoothness(A: Tensor) -> Tensor:
    """Total variation of Eq. 3: Σ |A_{i+1,j} - A_{i,j}| + |A_{i,j+1} - A_{i,j}|, the mean over images (B, 1, S, S)."""
    return (A.diff(dim=-1).abs().flatten(1).sum(dim=1) + A.diff(dim=-2).abs().flatten(1).sum(dim=1)).mean()


class Noise(NamedTuple):
    """Places of the penalty (B, 1, 1, 1), and what is added to the targets (B, 17)."""

    place: Tensor
    jitter: Tensor


class Animation(NamedTuple):
    """One pass: the target y_f (B, 17), attention A and the edit."""

    y_f: Tensor
    A: Tensor
    edit: Tensor


class GANimationMethod(nn.Module):
    """Eq. 6: adversarial, attention, conditional and identity (cycle) terms."""

    def __init__(self, config: GANimationRun, _: Callable[[ClassifierName], AttributeClassifier]) -> None:
        super().__init__()
        shape = GANimationConfig(image_size=config.image_size, **config.network.model_dump())
        self.model, self.weights, self.target_jitter = GANimation(shape), config.losses, config.target_jitter
        self.D = channels_last(AttributeCritic(config.image_size, config.critic_widths, len(NUMBERS)))

    @property
    def critics(self) -> list[nn.Module]:
        """D."""
        return [self.D]

    @property
    def learners(self) -> list[nn.Module]:
        """G."""
        return [self.model]

    def draw_noise(self, batch_size: int, generator: torch.Generator) -> Noise:
        """The penalty's places and the targets' jitter."""
        place = torch.rand(batch_size, 1, 1, 1, generator=generator)
        jitter = self.target_jitter * (2 * torch.rand(batch_size, len(NUMBERS), generator=generator) - 1)
        return Noise(place, jitter)

    def perform(self, batch: Batch, noise: Noise) -> Animation:
        """G(I_o | y_f); targets of other images of the data, jittered."""
        y_f = batch.u_t + noise.jitter.to(batch.u_t)
        A, C = self.model(batch.I_i, y_f)
        return Animation(y_f, A, attend(batch.I_i, A, C))

    def discriminator_loss(self, batch: Batch, out: Animation, noise: Noise) -> Terms:
        """Eq. 2 with its penalty, whose slope is that of the sum over patches, and the first half of Eq. 4."""
        I_o, edit, w = batch.I_i, out.edit.detach(), self.weights
        scores, shown = self.D(torch.cat([I_o, edit]))
        L = {"D": critic_loss(*scores.chunk(2)), "D_regression": mse_loss(shown[: len(I_o)].float(), batch.u_i)}
        with torch.autocast(I_o.device.type, enabled=False):
            L["gradient_penalty"] = gradient_penalty(lambda I: self.D(I)[0], I_o, edit, "interpolates", noise.place)
        return weighted({"D": 1.0, "D_regression": w.regression, "gradient_penalty": w.gradient_penalty}, L)

    def generator_loss(self, batch: Batch, out: Animation) -> Terms:
        """Eq. 6 for G. The mask terms (Eq. 3) are of both passes; what costs is the source that is kept.

        Without that cost attention saturates at the source and G has no effect (Sec. 4.2).
        """
        with frozen(self.D):
            score, shown = self.D(out.edit)
        A, C = self.model(out.edit, batch.u_i)
        L = {
            "adversarial": -score.mean(),
            "regression": mse_loss(shown.float(), out.y_f),
            "cycle": l1_loss(attend(out.edit, A, C), batch.I_i),
            "mask": (1 - out.A).mean() + (1 - A).mean(),
            "smoothness": smoothness(out.A) + smoothness(A),
        }
        return weighted({"adversarial": 1.0, **self.weights.model_dump()}, L)


def _about(_: GANimationRun) -> str:
    return "GANimation: paints over the source through an attention mask, asked by 17 Action Unit intensities."


RIVAL = Rival(GANimationRun, GANimation, GANimationMethod, _about)
