"""HomoInterpGAN (Chen et al., CVPR 2019): features of a source moved towards an exemplar's, attribute by attribute.

f = E(I); T(f₁, f₂, v) = f₁ + Σ_k v_k B_k(f₂ - f₁) over attribute groups k and a residual one; an image is Dec(f). All
but the gradient penalty weigh 1. The attribute groups are the regions of the face that Action Units move.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from eggan.action_units import ACTION_UNITS
from eggan.data import Batch
from eggan.losses import critic_loss, gradient_penalty
from eggan.method import ClassifierName, Exemplars, JudgedConfig, Rival, Settings
from eggan.networks import AttributeClassifier, Seen, VGG19Stage5, channels_last
from eggan.objective import Terms, frozen, weighted
from eggan.pixels import to_floats
from eggan.weights import load_weights, official_vgg19, write_weights

__all__ = ["RIVAL", "HomoInterpGAN", "HomoInterpGANMethod", "HomoInterpGANRun"]

REGIONS = tuple(dict.fromkeys(unit.region for unit in ACTION_UNITS))
GROUP = [REGIONS.index(unit.region) for unit in ACTION_UNITS]
"""The attribute group of each of the 17 AUs."""


class HomoInterpGANConfig(Settings):
    """All that shapes a model's tensors. Width 64 is VGG19's own, and needed for its official weights."""

    image_size: int = Field(128, ge=32)
    width: int = Field(64, ge=1)


class HomoInterpGANLosses(Settings):
    """Weights, the public code's by default."""

    gradient_penalty: float = Field(100.0, ge=0)
    vgg19: str | None = None
    """File with the official VGG19 weights for E's start and its teacher."""
    start: ClassifierName = "C_exp"
    """Who stands in for VGG19 where there is no such file. From C_id, which was taught to overlook what is to be
    edited, nothing was learned: D, who sees features, could not tell AUs in them."""


class HomoInterpGANRun(JudgedConfig):
    """A run of HomoInterpGAN; defaults as in the public code, but for `steps`, which it leaves open."""

    whole_batch: ClassVar[bool] = True
    method: Literal["homointerpgan"] = "homointerpgan"
    batch_size: int = Field(32, ge=2)
    critic_steps: int = Field(5, ge=1)
    steps: int = Field(40_000, ge=1)
    ema: float = Field(0.0, ge=0, lt=1)
    """The last weights, as in the paper: Dec's BatchNorm statistics are those of the moment and fit no average."""
    critic_width: int = Field(256, ge=1)
    losses: HomoInterpGANLosses = HomoInterpGANLosses()

    @model_validator(mode="after")
    def _check(self) -> HomoInterpGANRun:
        if self.image_size < 32 or self.image_size & (self.image_size - 1):
            raise ValueError(f"image_size {self.image_size} is not a power of two from 32")
        if self.losses.vgg19 is not None and self.classifiers.width != 64:
            raise ValueError("losses.vgg19 needs classifiers.width 64, which is VGG19's")
        return self


class Interpolator(nn.Module):
    """T: three 3×3 convolutions with ReLU between for each attribute group, and for the residual, last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, 1, 1),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, 1, 1),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, 1, 1),
            )
            for _ in range(len(REGIONS) + 1)
        )

    def forward(self, f_1: Tensor, f_2: Tensor, v: Tensor) -> Tensor:
        """Features (B, 8w, S/16, S/16) and shares v (B, groups + 1) in [0, 1] to features."""
        moves = torch.stack([branch(f_2 - f_1) for branch in self.branches], dim=1)
        return f_1 + (v[:, :, None, None, None] * moves).sum(dim=1)


class HomoInterpGAN(nn.Module):
    """E, T and Dec. Dec: 3×3 convolutions with BatchNorm and ReLU, nearest ×2 four times, the last convolution bare.

    Attributes:
        exemplars: images to choose from for `edit`, given by `eggan.method.show_exemplars`; not saved.
    """

    def __init__(self, config: HomoInterpGANConfig) -> None:
        super().__init__()
        self.config, w = config, config.width
        self.exemplars: Exemplars | None = None
        self.E = VGG19Stage5(w)
        self.T = Interpolator(8 * w)
        layers: list[nn.Module] = []
        before = 8 * w
        for level in ([8 * w], [4 * w] * 4, [2 * w] * 4, [w, w], [w]):
            layers += [nn.Upsample(scale_factor=2)] if layers else []
            for width in level:
                layers += [nn.Conv2d(before, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU()]
                before = width
        self.Dec = nn.Sequential(*layers, nn.Conv2d(w, 3, 3, 1, 1))
        channels_last(self)

    @property
    def asked_by(self) -> Literal["exemplar"]:
        """An image that shows the expression."""
        return "exemplar"

    def towards(self, I_1: Tensor, I_2: Tensor, v: float = 1.0) -> Tensor:
        """I_1 with the expression of I_2, (B, 3, S, S): all attribute groups at v, the residual (who it is) at 0."""
        f_1, f_2 = self.E(I_1).relu5_1, self.E(I_2).relu5_1
        shares = torch.full((len(I_1), len(REGIONS) + 1), v, device=I_1.device)
        shares[:, -1] = 0
        return self.Dec(self.T(f_1, f_2, shares)).float()

    def edit(self, I_i: Tensor, u_i: Tensor, u_t: Tensor) -> Tensor:
        """Images (B, 3, S, S) towards the exemplars with the AUs nearest to u_t (B, 17); u_i is not used."""
        assert self.exemplars is not None, "show_exemplars comes first"
        images, u = self.exemplars
        nearest = torch.cdist(u_t.cpu(), u, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
        return self.towards(I_i, to_floats(images[nearest].to(I_i.device)))

    def save_pretrained(self, folder: str | Path, card: str, dtype: torch.dtype = torch.float32) -> None:
        """Write `config.json`, `model.safetensors` and the card, replacing the folder whole."""
        write_weights(Path(folder), self, self.config, card, dtype)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> HomoInterpGAN:
        """A folder of `save_pretrained` or a training run, in evaluation mode and float32."""
        return load_weights(name, cls, HomoInterpGANConfig)


class FeatureCritic(nn.Module):
    """D on features: 1×1 conv, then 4×4 stride 2 down to 2×2, InstanceNorm and LeakyReLU 0.2 after each, 2×2 conv.

    Two 1×1 heads: a score (the public code averages 256 of them, which is one linear score too) and 17 AU logits.
    """

    def __init__(self, side: int, channels: int, width: int) -> None:
        super().__init__()
        convs = [nn.Conv2d(channels, width, 1)]
        convs += [nn.Conv2d(width, width, 4, 2, 1) for _ in range(side.bit_length() - 2)]
        blocks = [nn.Sequential(conv, nn.InstanceNorm2d(width, affine=True), nn.LeakyReLU(0.2)) for conv in convs]
        self.layers = nn.Sequential(*blocks, nn.Conv2d(width, width, 2))
        self.source, self.attributes = nn.Conv2d(width, 1, 1), nn.Conv2d(width, len(GROUP), 1)

    def forward(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, channels, side, side) to scores (B,), higher for real, and AU logits (B, 17)."""
        h = self.layers(f)
        return self.source(h).flatten(), self.attributes(h).flatten(1).float()


class Noise(NamedTuple):
    """Shares v ~ U(0, 1), (B, groups + 1), and places of the penalty, (B, 1, 1, 1)."""

    v: Tensor
    place: Tensor


class Route(NamedTuple):
    """One pass: features f of the batch, f₂ of each row's partner, T(f, f₂, v), and the AUs expected there."""

    f: Tensor
    f_2: Tensor
    f_v: Tensor
    u_v: Tensor


class HomoInterpGANMethod(nn.Module):
    """Sec. 3: D, Dec and the 1×1 conv K learn on every batch, E and T on every fifth.

    `phi` is the frozen teacher: relu3_1 of it for the perceptual loss, relu5_1 for knowledge guidance.
    """

    def __init__(self, config: HomoInterpGANRun, classifier: Callable[[ClassifierName], AttributeClassifier]) -> None:
        super().__init__()
        w, side = config.classifiers.width, config.image_size // 16
        self.weights = config.losses
        self.model = HomoInterpGAN(HomoInterpGANConfig(image_size=config.image_size, width=w))
        self.D = channels_last(FeatureCritic(side, 8 * w, config.critic_width))
        self.K = nn.Conv2d(8 * w, 8 * w, 1)
        self.phi = channels_last(
            official_vgg19(config.losses.vgg19, VGG19Stage5.official)
            if config.losses.vgg19
            else VGG19Stage5.folded(classifier(config.losses.start))
        )
        self.phi.requires_grad_(False)
        self.model.E.load_state_dict(self.phi.state_dict())

    @property
    def critics(self) -> list[nn.Module]:
        """D, Dec and K."""
        return [self.D, self.model.Dec, self.K]

    @property
    def learners(self) -> list[nn.Module]:
        """E and T."""
        return [self.model.E, self.model.T]

    def draw_noise(self, batch_size: int, generator: torch.Generator) -> Noise:
        """Shares and places."""
        v = torch.rand(batch_size, len(REGIONS) + 1, generator=generator)
        return Noise(v, torch.rand(batch_size, 1, 1, 1, generator=generator))

    def perform(self, batch: Batch, noise: Noise) -> Route:
        """T(f, f₂, v) towards the next image of the batch, whose rows are drawn at random; AUs as their groups."""
        f, v = self.model.E(batch.I_i).relu5_1, noise.v.to(batch.u_i)
        f_2, u_2 = f.roll(1, dims=0), batch.u_i.roll(1, dims=0)
        return Route(f, f_2, self.model.T(f, f_2, v).float(), torch.lerp(batch.u_i, u_2, v[:, GROUP]))

    def discriminator_loss(self, batch: Batch, out: Route, noise: Noise) -> Terms:
        """Critic with its penalty, AUs of real features; Dec's reconstruction; K's guess of the teacher's features."""
        f, f_v = out.f.detach(), out.f_v.detach()
        scores, shown = self.D(torch.cat([f, f_v]))
        L = {"D": critic_loss(*scores.chunk(2)), "D_attributes": _attribute_loss(shown[: len(f)], batch.u_i)}
        with torch.autocast(f.device.type, enabled=False):
            L["gradient_penalty"] = gradient_penalty(lambda x: self.D(x)[0], f, f_v, "interpolates", noise.place)
        seen = self.phi(batch.I_i)
        L |= {f"Dec_{name}": term for name, term in self._reconstruction(f, batch.I_i, seen).items()}
        L["K"] = mse_loss(self.K(f).float(), seen.relu5_1)
        return weighted(dict.fromkeys(L, 1.0) | {"gradient_penalty": self.weights.gradient_penalty}, L)

    def generator_loss(self, batch: Batch, out: Route) -> Terms:
        """What E and T minimise; `whole` asks that all shares at 1, the residual's too, arrive at the exemplar."""
        f, f_2 = out.f.detach(), out.f_2.detach()
        seen = self.phi(batch.I_i)
        with frozen(self.D, self.model.Dec, self.K):
            score, shown = self.D(out.f_v)
            L = {"adversarial": -score.mean(), "attributes": _attribute_loss(shown, out.u_v)}
            L |= self._reconstruction(out.f, batch.I_i, seen)
            L["guidance"] = mse_loss(self.K(out.f).float(), seen.relu5_1)
        L["whole"] = mse_loss(self.model.T(f, f_2, torch.ones(len(f), len(REGIONS) + 1, device=f.device)).float(), f_2)
        return weighted(dict.fromkeys(L, 1.0), L)

    def _reconstruction(self, f: Tensor, I: Tensor, seen: Seen) -> dict[str, Tensor]:
        again = self.model.Dec(f)
        return {"pixels": mse_loss(again.float(), I), "perceptual": mse_loss(self.phi(again).relu3_1, seen.relu3_1)}


def _attribute_loss(logits: Tensor, u: Tensor) -> Tensor:
    """Cross-entropy of soft labels u = AUs / 5, the sum over 17 attributes, the mean over images."""
    return binary_cross_entropy_with_logits(logits, u, reduction="sum") / len(u)


def _about(config: HomoInterpGANRun) -> str:
    w = config.losses
    start = f"VGG19 with the weights in {w.vgg19}" if w.vgg19 else f"{w.start}, no VGG19 was given"
    return f"HomoInterpGAN: edits towards an exemplar image. Its encoder and its teacher started as {start}."


RIVAL = Rival(HomoInterpGANRun, HomoInterpGAN, HomoInterpGANMethod, _about)
