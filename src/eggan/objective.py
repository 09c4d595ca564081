"""Eq. 7: what the critics and what E and G minimise in one step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal, NamedTuple, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from eggan.data import Batch
from eggan.losses import (
    au_loss,
    critic_loss,
    gradient_penalty,
    identity_loss,
    latent_adversarial,
    latent_deception,
    latent_penalty,
    mask_loss,
    paint_loss,
    paired_loss,
    perceptual_loss,
    reconstruction_loss,
    shade_loss,
)
from eggan.model import EGGAN, LatentForm
from eggan.networks import (
    AttributeClassifier,
    EditDiscriminator,
    Fields,
    ImageDiscriminator,
    LatentDiscriminator,
    VGG19Stage3,
)

__all__ = ["Edit", "Judges", "LossConfig", "Noise", "Objective", "Terms", "frozen", "weighted"]

T = TypeVar("T")


class LossConfig(BaseModel):
    """The λ of Eq. 7, defaults as in Sec. 4.1. A weight of 0 leaves the term and its network out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latent: float = Field(1.0, ge=0)
    adversarial: float = Field(1.0, ge=0)
    au: float = Field(100.0, ge=0)
    identity: float = Field(60.0, ge=0)
    perceptual: float = Field(20.0, ge=0)
    reconstruction: float = Field(100.0, ge=0)
    ms_ssim: float = Field(1.0, ge=0)
    gradient_penalty: float = Field(20.0, ge=0)
    latent_penalty: float = Field(0.0, ge=0)
    penalty_at: Literal["data", "interpolates"] = "data"
    paired: float = Field(0.0, ge=0)
    relative: bool = False
    """Whether `paired` counts each pair by the inverse of how much it changes."""
    mask: float = Field(0.0, ge=0)
    paint: float = Field(0.0, ge=0)
    shade: float = Field(0.0, ge=0)
    """Of edits whose true image is unknown."""
    vgg19: str | None = None
    """File with the official VGG19 weights for Eq. 5; without it φ₃ is the same layer of C_id."""


class Edit(NamedTuple):
    """One pass of E and G: the code l_i, the edit Ĩ_i, its fields (compose form), the self-reconstruction Î_i."""

    latent: Tensor | None
    edit: Tensor
    fields: Fields | None
    reconstruction: Tensor | None


class Noise(NamedTuple):
    """What a step of the critics draws at random, one row an image; None where no term needs it.

    Attributes:
        z: draws of N(0, I) for Eq. 1, (B, latent size).
        place: where on the line from I_i to Ĩ_i the penalty of Eq. 2 is taken, uniform, (B, 1, 1, 1).
    """

    z: Tensor | None
    place: Tensor | None


class Terms(NamedTuple):
    """The weighted sum to minimise, and every term by name, unweighted, for the log."""

    total: Tensor
    terms: dict[str, Tensor]


class Judges(NamedTuple):
    """Frozen networks of Sec. 3.3 and Eq. 5: C_exp, C_id, φ₃; None where the weights need none."""

    C_exp: AttributeClassifier | None
    C_id: AttributeClassifier | None
    phi: VGG19Stage3 | None


class Objective(nn.Module):
    """min over E, G, max over D_z, D_img of Eq. 7, as two losses on one pass of E and G.

    C_exp is trained before, on real images, and frozen here: Eq. 7 read literally would train it on edits, where it
    could agree with G on anything.
    """

    def __init__(
        self,
        model: EGGAN,
        weights: LossConfig,
        judges: Judges,
        D_z: LatentDiscriminator | None,
        D_img: ImageDiscriminator | EditDiscriminator | None,
    ) -> None:
        super().__init__()
        self.model, self.weights = model, weights
        self.D_z, self.D_img = D_z, D_img
        self.C_exp, self.C_id, self.phi = judges
        for judge in judges:
            if judge is not None:
                judge.eval().requires_grad_(False)

    @property
    def critics(self) -> list[nn.Module]:
        """What `discriminator_loss` teaches."""
        return [network for network in (self.D_z, self.D_img) if network is not None]

    @property
    def learners(self) -> list[nn.Module]:
        """What `generator_loss` teaches, of which what requires no gradient stays as it is."""
        return [self.model]

    def perform(self, batch: Batch, noise: Noise | None = None) -> Edit:
        """l_i = E(I_i), Ĩ_i = G(l_i | u_t) and, where a term needs it, Î_i = G(l_i | u_i). No noise is used."""
        w = self.weights
        code = self.model.encode(batch.I_i, batch.u_i)
        fields = self.model.fields(code, batch.u_t) if self.model.composes else None
        edit = self.model.composed(code.source, fields) if fields is not None else self.model.generate(code, batch.u_t)
        reconstruction = self.model.generate(code, batch.u_i) if w.reconstruction or w.perceptual else None
        return Edit(code.latent, edit, fields, reconstruction)

    def score(self, images: Tensor, batch: Batch) -> Tensor:
        """D_img of images (n·B, 3, S, S), n for each row of the batch, which it sees where it may; scores (n·B,)."""
        if isinstance(self.D_img, EditDiscriminator):
            n = len(images) // len(batch.I_i)
            return self.D_img(images, *(x.repeat(n, *[1] * (x.ndim - 1)) for x in (batch.I_i, batch.u_i, batch.u_t)))
        return _present(self.D_img)(images)

    def draw_noise(self, batch_size: int, generator: torch.Generator) -> Noise:
        """Random numbers of one step of the critics, for the whole of a batch."""
        w, form = self.weights, self.model.config.network
        z = place = None
        if self.D_z is not None and isinstance(form, LatentForm):
            z = torch.randn(batch_size, form.latent_size, generator=generator)
        if self.D_img is not None and w.gradient_penalty and w.penalty_at == "interpolates":
            place = torch.rand(batch_size, 1, 1, 1, generator=generator)
        return Noise(z, place)

    def discriminator_loss(self, batch: Batch, out: Edit, noise: Noise) -> Terms:
        """What D_z and D_img minimise: -L_adv^z (Eq. 1) and L_adv^img (Eq. 2). E and G get no gradient.

        Real to D_img are the sources, as in Eq. 2, or with pairs the true images of the targets.
        """
        w, L = self.weights, {}
        if self.D_z is not None and out.latent is not None:
            l = out.latent.detach().float()
            z = _present(noise.z)
            L["D_z"] = -latent_adversarial(self.D_z(z), self.D_z(l))
            if w.latent_penalty:
                with torch.autocast(l.device.type, enabled=False):
                    L["latent_penalty"] = latent_penalty(self.D_z, z)
        if self.D_img is not None:
            known = _pairs(batch)
            pairs, edit = batch[known], out.edit.detach()[known]
            real = pairs.I_i if pairs.I_t is None else pairs.I_t
            L["D_img"] = critic_loss(*self.score(torch.cat([real, edit]), pairs).chunk(2))
            if w.gradient_penalty:
                place = None if noise.place is None else noise.place[known]
                with torch.autocast(real.device.type, enabled=False):
                    D_img = partial(self.score, batch=pairs)
                    L["gradient_penalty"] = gradient_penalty(D_img, real, edit, w.penalty_at, place)
        return weighted({"D_z": 1.0, "D_img": 1.0, **w.model_dump(include={"gradient_penalty", "latent_penalty"})}, L)

    def generator_loss(self, batch: Batch, out: Edit) -> Terms:
        """What E and G minimise. D_z, D_img, C_exp, C_id and φ₃ get no gradient."""
        w, L = self.weights, {}
        known = _pairs(batch)
        pairs, edit = batch[known], out.edit[known]
        with frozen(self.D_z, self.D_img):
            if self.D_z is not None and out.latent is not None:
                L["latent"] = latent_deception(self.D_z(out.latent.float()))
            if self.D_img is not None:
                L["adversarial"] = -self.score(edit, pairs).mean()
        if w.au:
            L["au"] = au_loss(_present(self.C_exp)(out.edit).float(), batch.u_t)
        if w.identity:
            L["identity"] = identity_loss(_present(self.C_id)(out.edit).float(), batch.c_i)
        if w.perceptual:
            phi = self.phi if self.phi is not None else _present(self.C_id).relu3_1
            L["perceptual"] = perceptual_loss(
                *(phi(x).float() for x in (batch.I_i, out.edit, _present(out.reconstruction)))
            )
        if w.reconstruction:
            L["reconstruction"] = reconstruction_loss(_present(out.reconstruction), batch.I_i, w.ms_ssim)
        if w.paired:
            L["paired"] = paired_loss(edit, _present(pairs.I_t), pairs.I_i if w.relative else None)
        if w.mask and out.fields is not None:
            L["mask"] = mask_loss(out.fields.mask)
        if w.paint and out.fields is not None:
            L["paint"] = paint_loss(out.fields.mask[known], out.fields.colour[known], _present(pairs.I_t))
        if w.shade and out.fields is not None and batch.unpaired is not None:
            L["shade"] = shade_loss(out.fields.shade[batch.unpaired])
        return weighted(w.model_dump(), L)


def _pairs(batch: Batch) -> slice | Tensor:
    """The rows of which the true image is known, or may be."""
    return slice(None) if batch.unpaired is None else ~batch.unpaired


def weighted(weights: dict[str, float], terms: dict[str, Tensor]) -> Terms:
    """Σ λ·L over the named terms."""
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum() if terms else torch.zeros(())
    return Terms(total, {name: term.detach() for name, term in terms.items()})


@contextmanager
def frozen(*networks: nn.Module | None) -> Iterator[None]:
    """Within, gradients pass through the networks but do not reach their parameters."""
    present = [network for network in networks if network is not None]
    for network in present:
        network.requires_grad_(False)
    try:
        yield
    finally:
        for network in present:
            network.requires_grad_(True)


def _present(value: T | None) -> T:
    assert value is not None, "a weighted term without its network or image: the trainer built the objective wrong"
    return value
