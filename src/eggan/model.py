"""EGGAN as a model to use: encode, generate, interpolate (Eq. 8), save and load. Nothing of training is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from eggan.networks import ComposeGenerator, Encoder, Fields, Generator, PyramidEncoder, channels_last, compose, resized
from eggan.weights import load_weights, write_weights

__all__ = ["EGGAN", "Code", "ComposeForm", "LatentForm", "ModelConfig"]


class LatentForm(BaseModel):
    """The paper's form: the image passes through a latent vector, and G paints all of the picture (Sec. 3.2)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal["latent"] = "latent"
    latent_size: int = Field(256, ge=1)
    encoder_widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    generator_widths: tuple[int, ...] = (512, 512, 256, 128, 64, 32, 16)


class ComposeForm(BaseModel):
    """The compose head on a U-Net of the source: G moves and paints over the source (DESIGN, "Beyond the paper")."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal["compose"] = "compose"
    widths: tuple[int, ...] = (16, 48, 96, 192, 256)
    conditioning: int = Field(128, ge=1)
    flow_range: float = Field(0.25, gt=0, le=1)
    patch: int = Field(1, ge=1)
    """Side in pixels of the patches that E reads and G writes as one position."""

    @model_validator(mode="after")
    def _check(self) -> ComposeForm:
        if any(width % 8 for width in self.widths):
            raise ValueError("widths must be multiples of 8, the number of normalisation groups")
        return self


class ModelConfig(BaseModel):
    """All that shapes a model's tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(128, ge=16)
    network: Annotated[LatentForm | ComposeForm, Field(discriminator="form")] = LatentForm()

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.image_size & (self.image_size - 1):
            raise ValueError(f"image_size {self.image_size} is not a power of two")
        match self.network:
            case LatentForm(generator_widths=widths) if 2 ** len(widths) != self.image_size:
                raise ValueError(
                    f"generator_widths needs {self.image_size.bit_length() - 1} widths for {self.image_size} pixels"
                    f" (one for the 2×2 seed, one for each doubling), and has {len(widths)}"
                )
            case LatentForm(encoder_widths=widths) if 2 ** len(widths) > self.image_size:
                raise ValueError(f"{len(widths)} halvings are too many for {self.image_size} pixels")
            case ComposeForm(widths=widths, patch=patch) if self.image_size % (patch << (len(widths) - 1)):
                raise ValueError(
                    f"{self.image_size} pixels cannot be cut into patches of {patch} and halved {len(widths) - 1} times"
                )
        return self


class Code(NamedTuple):
    """What E keeps of a source, so that every further edit costs one pass of G.

    Attributes:
        latent: l_i of the paper's form, (B, latent size); else None.
        features: pyramid of the compose form, empty in the paper's.
        source: the image that the compose form is applied to, (B, 3, H, H).
        u_i: source AUs / 5, (B, 17).
    """

    latent: Tensor | None
    features: list[Tensor]
    source: Tensor
    u_i: Tensor


class EGGAN(nn.Module):
    """E and G, in the form that the configuration names.

    >>> model = EGGAN(ModelConfig(image_size=64, network=ComposeForm()))
    >>> I, u = torch.zeros(1, 3, 64, 64), torch.zeros(1, 17)
    >>> model.generate(model.encode(I, u), u).shape
    torch.Size([1, 3, 64, 64])
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        match config.network:
            case LatentForm() as n:
                self.E: nn.Module = Encoder(config.image_size, n.encoder_widths, n.latent_size)
                self.G: nn.Module = Generator(config.image_size, n.latent_size, n.generator_widths)
            case ComposeForm() as n:
                self.E = PyramidEncoder(n.widths, n.patch)
                self.G = ComposeGenerator(n.widths, n.conditioning, n.flow_range, n.patch)
        channels_last(self)

    def repatched(self, patch: int) -> EGGAN:
        """The same function in patches (compose form that has none): of averages of p×p pixels, at p times the side.

        From there, training finds what single pixels tell.
        """
        form = self.config.network
        assert isinstance(form, ComposeForm) and form.patch == 1, "only what has no patches can be cut into them"
        tensors = self.state_dict()
        reads, writes = "E.levels.0.0.weight", "G.to_fields."
        tensors[reads] = tensors[reads].repeat_interleave(patch**2, dim=1) / patch**2
        for name in (writes + "weight", writes + "bias"):
            tensors[name] = tensors[name].repeat_interleave(patch**2, dim=0)
        form = form.model_copy(update={"patch": patch})
        model = EGGAN(ModelConfig(image_size=self.config.image_size * patch, network=form))
        model.load_state_dict(tensors)
        return model

    @property
    def asked_by(self) -> Literal["action units"]:
        """What the model is asked by (`eggan.method.Model`)."""
        return "action units"

    @property
    def composes(self) -> bool:
        """Does G edit the source itself, at any resolution, instead of painting a picture of its own?"""
        return isinstance(self.config.network, ComposeForm)

    def encode(self, I_i: Tensor, u_i: Tensor) -> Code:
        """l_i = E(I_i), with what else G needs of the source.

        Args:
            I_i: square images (B, 3, H, H) in [-1, 1]. E sees them at the model's size; the compose form edits
                them at their own.
            u_i: source AUs / 5, (B, 17); the paper's form does not use them.
        """
        seen = resized(I_i, self.config.image_size).clamp(-1, 1)
        out = self.E(seen.contiguous(memory_format=torch.channels_last))
        return Code(None, out, I_i, u_i) if self.composes else Code(out, [], I_i, u_i)

    def generate(self, code: Code, u: Tensor) -> Tensor:
        """G(l_i | u): images in [-1, 1], at the source's side in the compose form, else at the model's."""
        if self.composes:
            return self.composed(code.source, self.fields(code, u))
        return self.G(code.latent, u).float()

    def fields(self, code: Code, u: Tensor) -> Fields:
        """Flow, shade, mask and colour of an edit (compose form only)."""
        return self.G(code.features, code.u_i, u)

    def composed(self, source: Tensor, fields: Fields) -> Tensor:
        """The edit by these fields, of a source of any side (compose form only)."""
        assert isinstance(self.config.network, ComposeForm)
        return compose(source, fields, self.config.network.patch)

    def edit(self, I_i: Tensor, u_i: Tensor, u_t: Tensor) -> Tensor:
        """Ĩ_i = G(E(I_i) | u_t): images (B, 3, H, H), source and target AUs / 5 (B, 17)."""
        return self.generate(self.encode(I_i, u_i), u_t)

    def interpolate(self, I_i: Tensor, u_i: Tensor, u_t: Tensor, alphas: Tensor) -> Tensor:
        """Eq. 8: G(l_i | u_i + α(u_t - u_i)) for each α of `alphas` (K,): images (B, K, 3, H, H)."""
        code = self.encode(I_i, u_i)
        return torch.stack([self.generate(code, torch.lerp(u_i, u_t, a)) for a in alphas], dim=1)

    def save_pretrained(self, folder: str | Path, card: str, dtype: torch.dtype = torch.float32) -> None:
        """Write `config.json`, `model.safetensors` and the card `README.md`, replacing the folder whole."""
        write_weights(Path(folder), self, self.config, card, dtype)

    @classmethod
    def from_pretrained(cls, name: str | Path = "portrait") -> EGGAN:
        """A shipped model, a folder of `save_pretrained` or a training run, in evaluation mode and float32.

        Raises:
            EgganError: no such model, or its files do not fit together.
        """
        return load_weights(name, cls, ModelConfig)
