"""The networks of Sec. 3.2 and 3.3, and the compose head that stands beside the paper's generator.

Images are (B, 3, S, S) in [-1, 1]; AU vectors `u` are (B, 17) intensities / 5 in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    adaptive_avg_pool2d,
    avg_pool2d,
    grid_sample,
    interpolate,
    pad,
    pixel_shuffle,
    pixel_unshuffle,
)

from eggan.layers import GroupNorm, UpConv
from eggan.pixels import middles

__all__ = [
    "WARMTH_OF_SHADE",
    "AttributeClassifier",
    "AttributeCritic",
    "ComposeGenerator",
    "EditDiscriminator",
    "Encoder",
    "Fields",
    "Generator",
    "ImageDiscriminator",
    "ImageTranslator",
    "LatentDiscriminator",
    "PyramidEncoder",
    "Seen",
    "VGG19Stage3",
    "VGG19Stage5",
    "channels_last",
    "compose",
    "resized",
]

Network = TypeVar("Network", bound=nn.Module)
D = 17
"""d, the number of AUs."""
LOG_2 = math.log(2)
WARMTH_OF_SHADE = (0.85, 1.04, 1.21)
"""How much of a shade R, G and B take. Folds of skin darken to brown and not to grey: where the smiles of facsynth are
in shade, log R falls by 0.82 and log B by 1.17 of what log G does. Their mean as Rec. 601 weighs them is 1."""


# --- Sec. 3.2, adversarial autoencoder -------------------------------------------------------------------------------


class Encoder(nn.Module):
    """E: an image to its structured latent code l (Sec. 3.2; layers in Sec. 4.1).

    | layer                                   | output, S = 128    |
    |-----------------------------------------|--------------------|
    | 5 × (4×4 conv stride 2, LeakyReLU 0.2)  | 16…256 × 4 × 4     |
    | FC                                      | latent size        |

    No normalisation: the code must keep light and colour. So the weights start as He et al. 2015 have them for
    LeakyReLU, which keeps the scale from layer to layer: codes start at a quarter of the scale of N(0, I), to which
    D_z draws them, where G cannot overlook them; with PyTorch's own start it is a fiftieth.
    """

    def __init__(self, image_size: int, widths: Sequence[int], latent_size: int) -> None:
        super().__init__()
        self.convs = _halving_convs(widths)
        self.fc = nn.Linear(widths[-1] * _side(image_size, len(widths)) ** 2, latent_size)
        for layer in (*self.convs, self.fc):
            if not isinstance(layer, nn.LeakyReLU):
                nn.init.kaiming_normal_(layer.weight, a=1.0 if layer is self.fc else 0.2)
                nn.init.zeros_(layer.bias)

    def forward(self, I: Tensor) -> Tensor:
        """Images (B, 3, S, S) to codes (B, latent size)."""
        return self.fc(self.convs(I).flatten(1))


class LatentDiscriminator(nn.Module):
    """D_z: is a code drawn from N(0, I) or encoded? FC 256-128-64-32-16-1 (Sec. 4.1), LeakyReLU 0.2 between."""

    def __init__(self, latent_size: int, widths: Sequence[int] = (256, 128, 64, 32, 16)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((latent_size, *widths), widths, strict=False):
            layers += [nn.Linear(before, width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, l: Tensor) -> Tensor:
        """Codes (B, latent size) to logits (B,); the D_z of Eq. 1 is their sigmoid."""
        return self.layers(l).squeeze(1)


# --- Sec. 3.2, conditional GAN ---------------------------------------------------------------------------------------


class Generator(nn.Module):
    """G: a code and target AUs to an image, G(l | u) (Sec. 3.2; layers in Sec. 4.1).

    | layer                                                       | output, S = 128   |
    |-------------------------------------------------------------|-------------------|
    | [l, u] → FC                                                 | w₀ × 2 × 2        |
    | 6 up-sampling residual blocks (InstanceNorm, PReLU, 3×3 conv; twice) | w₆ × 128 × 128 |
    | PReLU, 3×3 conv, tanh                                       | 3 × 128 × 128     |

    Each block doubles the side, so there are log₂(S) - 1 of them and one more width than blocks. There is no
    InstanceNorm after the last block: it would take the picture's mean brightness and colour away.
    """

    def __init__(self, image_size: int, latent_size: int, widths: Sequence[int]) -> None:
        super().__init__()
        assert image_size == 2 ** len(widths), "one width for the 2×2 seed and one for each doubling"
        self.seed = nn.Linear(latent_size + D, widths[0] * 4)
        self.blocks = nn.Sequential(*(_UpResidual(a, b) for a, b in pairwise(widths)))
        self.to_image = nn.Sequential(nn.PReLU(), nn.Conv2d(widths[-1], 3, 3, 1, 1), nn.Tanh())

    def forward(self, l: Tensor, u: Tensor) -> Tensor:
        """Codes (B, latent size) and AUs (B, 17) to images (B, 3, S, S) in (-1, 1)."""
        seed = self.seed(torch.cat([l, u], dim=1)).unflatten(1, (-1, 2, 2))
        return self.to_image(self.blocks(seed.contiguous(memory_format=torch.channels_last)))


class ImageDiscriminator(nn.Module):
    """D_img: WGAN critic of images, 6 × (4×4 conv stride 2, LeakyReLU 0.2), then one linear unit (Sec. 4.1).

    No normalisation: the gradient penalty of Eq. 2 is a statement about each image by itself.
    """

    def __init__(self, image_size: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.convs = _halving_convs(widths)
        self.score = nn.Linear(widths[-1] * _side(image_size, len(widths)) ** 2, 1)

    def forward(self, I: Tensor) -> Tensor:
        """Images (B, 3, S, S) to scores (B,), higher for real."""
        return self.score(self.convs(I).flatten(1)).squeeze(1)


class EditDiscriminator(nn.Module):
    """D_img that knows what was asked for, which is not in the paper: is this image the one that I_i becomes by u_t?

    As `ImageDiscriminator`, but it sees the source beside the image (pix2pix, Isola et al. 2017), and [u_i, u_t] add to
    the weights of its linear unit, place by place (a projection, Miyato and Koyama 2018): a face that was to frown and
    does not is as easily told as one with smeared teeth.
    """

    def __init__(self, image_size: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.convs = _halving_convs(widths, channels=6)
        features = widths[-1] * _side(image_size, len(widths)) ** 2
        self.score = nn.Linear(features, 1)
        self.asked = nn.Linear(2 * D, features, bias=False)
        nn.init.zeros_(self.asked.weight)

    def forward(self, I: Tensor, I_i: Tensor, u_i: Tensor, u_t: Tensor) -> Tensor:
        """Images and their sources (B, 3, S, S), AUs of source and target (B, 17), to scores (B,), higher for real."""
        h = self.convs(torch.cat([I, I_i], dim=1)).flatten(1)
        return self.score(h).squeeze(1) + (self.asked(torch.cat([u_i, u_t], dim=1)) * h).sum(dim=1)


# --- Sec. 3.3, attribute constraint ----------------------------------------------------------------------------------


class AttributeClassifier(nn.Module):
    """C_exp and C_id: VGG19's sixteen 3×3 convolutions in five stages (Sec. 3.3), each with BatchNorm and ReLU.

    | stage   | convolutions | width |
    |---------|--------------|-------|
    | 1       | 2            | w     |
    | 2       | 2            | 2w    |
    | 3       | 4            | 4w    |
    | 4, 5    | 4, 4         | 8w    |

    A 2×2 max pool stands between stages; then the means over 4×4 parts of the picture and one FC to the outputs:
    17 × 6 levels for C_exp, n people for C_id. An AU is a place as much as a shape, so the FC must see where. VGG19
    itself has w = 64, 7×7 parts, three FC and no BatchNorm, which is here so that it trains from scratch on little
    data.

    Args:
        width: w.
        outputs: number of logits.
        image_size: side in pixels to which larger pictures are shrunk first; None leaves all as they are.
    """

    STAGES = ((1, 2), (2, 2), (4, 4), (8, 4), (8, 4))
    GRID = 4

    def __init__(self, width: int, outputs: int, image_size: int | None = None) -> None:
        super().__init__()
        self.image_size = image_size
        stages: list[nn.Sequential] = []
        channels = 3
        for factor, convolutions in self.STAGES:
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if stages else []
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, factor * width, 3, 1, 1, bias=False)]
                layers += [nn.BatchNorm2d(factor * width), nn.ReLU()]
                channels = factor * width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.fc = nn.Linear(channels * self.GRID**2, outputs)

    def forward(self, I: Tensor) -> Tensor:
        """Images (B, 3, S, S), S ≥ 16, to logits (B, outputs)."""
        x = self._seen(I)
        for stage in self.stages:
            x = stage(x)
        return self.fc(adaptive_avg_pool2d(x, self.GRID).flatten(1))

    def relu3_1(self, I: Tensor) -> Tensor:
        """φ₃: the first activation of the third stage, (B, 4w, S/4, S/4), S being `image_size` if there is one."""
        first, second, third = self.stages[:3]
        return third[:4](second(first(self._seen(I))))  # type: ignore[index]

    def _seen(self, I: Tensor) -> Tensor:
        return I if self.image_size is None or I.shape[-1] <= self.image_size else resized(I, self.image_size)


class VGG19Stage3(nn.Module):
    """φ₃ of Eq. 5: VGG19 (Simonyan and Zisserman 2015) up to relu3_1, with the official ImageNet weights.

    Args:
        weights: the official state dict, of which `features.{0,2,5,7,10}.{weight,bias}` are used.
    """

    LAYERS = ((0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256))

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, 1, 1) for _, i, o in self.LAYERS)
        for conv, (n, _, _) in zip(self.convs, self.LAYERS, strict=True):
            conv.load_state_dict({part: weights[f"features.{n}.{part}"] for part in ("weight", "bias")})
        self.mean = nn.Buffer(torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.std = nn.Buffer(torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, I: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [-1, 1] to activations (B, 256, S/4, S/4)."""
        x = ((I + 1) / 2 - self.mean) / self.std
        for n, conv in enumerate(self.convs):
            x = torch.relu(conv(x))
            if n in (1, 3):
                x = torch.max_pool2d(x, 2)
        return x


class Seen(NamedTuple):
    """Activations of VGG19: relu3_1, (B, 4w, S/4, S/4), and relu5_1, (B, 8w, S/16, S/16)."""

    relu3_1: Tensor
    relu5_1: Tensor


class VGG19Stage5(nn.Module):
    """VGG19's thirteen 3×3 convolutions up to relu5_1 (E of HomoInterpGAN), stage widths w, 2w, 4w, 8w, 8w."""

    STAGES = ((1, 2), (2, 2), (4, 4), (8, 4), (8, 1))
    FEATURES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)
    """Where the convolutions stand in the official `features`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [factor * width for factor, count in self.STAGES for _ in range(count)]
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, 1, 1) for i, o in zip((3, *widths), widths, strict=False))
        self.mean, self.std = (nn.Buffer(torch.full((1, 3, 1, 1), 0.5)) for _ in range(2))

    def forward(self, I: Tensor) -> Seen:
        """Images (B, 3, S, S) in [-1, 1] to the two activations; a 2×2 max pool stands between stages."""
        x, seen = ((I + 1) / 2 - self.mean) / self.std, []
        for k, conv in enumerate(self.convs):
            x = torch.relu(conv(torch.max_pool2d(x, 2) if k in (2, 4, 8, 12) else x))
            seen.append(x)
        return Seen(seen[4].float(), seen[12].float())

    @classmethod
    def official(cls, weights: Mapping[str, Tensor]) -> VGG19Stage5:
        """With the official ImageNet weights, and the mean and deviation of colours that they expect."""
        network = cls(64)
        for n, conv in zip(cls.FEATURES, network.convs, strict=True):
            conv.load_state_dict({part: weights[f"features.{n}.{part}"] for part in ("weight", "bias")})
        network.mean.copy_(torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        network.std.copy_(torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        return network

    @classmethod
    @torch.no_grad()
    def folded(cls, classifier: AttributeClassifier) -> VGG19Stage5:
        """C_exp or C_id up to relu5_1, each BatchNorm folded into its convolution: what evaluation mode computes."""
        convs = [layer for layer in classifier.modules() if isinstance(layer, nn.Conv2d)]
        norms = [layer for layer in classifier.modules() if isinstance(layer, nn.BatchNorm2d)]
        network = cls(convs[0].out_channels)
        for own, conv, norm in zip(network.convs, convs, norms, strict=False):
            assert norm.running_mean is not None and norm.running_var is not None
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            weight = conv.weight * scale[:, None, None, None]
            own.load_state_dict({"weight": weight, "bias": norm.bias - norm.running_mean * scale})
        return network


# --- Beyond the paper: the compose head ------------------------------------------------------------------------------


class Fields(NamedTuple):
    """What the compose head predicts at its own resolution, to be applied to a source of any.

    Attributes:
        flow: (B, 2, S, S), where each pixel comes from, as an offset (x, y) in units of half the image side.
        shade: (B, 1, S, S) in (-log 2, log 2), the logarithm of how much brighter it becomes, as luma.
        mask: (B, 1, S, S) in (0, 1), how much of the pixel is new colour.
        colour: (B, 3, S, S) in (-1, 1).
    """

    flow: Tensor
    shade: Tensor
    mask: Tensor
    colour: Tensor


class PyramidEncoder(nn.Module):
    """E of the compose form: an image to features at full, half, quarter, … resolution (a U-Net's way down).

    Each level is twice (3×3 conv, GroupNorm, SiLU), the first convolution of all but the first with stride 2. What it
    reads are patches of p×p pixels, their colours side by side: p = 2 sees 128 pixels at the price of 64.
    """

    def __init__(self, widths: Sequence[int], patch: int = 1) -> None:
        super().__init__()
        self.patch = patch
        self.levels = nn.ModuleList(
            nn.Sequential(*_conv_norm_silu(before, width, stride), *_conv_norm_silu(width, width))
            for before, width, stride in zip((3 * patch**2, *widths), widths, (1, *[2] * len(widths)), strict=False)
        )

    def forward(self, I: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S) to one tensor a level, (B, widths[k], S / 2ᵏp, S / 2ᵏp)."""
        I = pixel_unshuffle(I, self.patch) if self.patch > 1 else I
        features = []
        for level in self.levels:
            I = level(I)
            features.append(I)
        return features


class ComposeGenerator(nn.Module):
    """G of the compose form: features of the source, its AUs and the target's to flow, shade, mask and colour.

    A U-Net's way up; each block takes the level below up-sampled, beside the level's own features, and is modulated
    (FiLM, Perez et al. 2018) by [u_i, u_t, mean of the deepest features] through one hidden layer. The last
    convolution gives each pixel of a p×p patch its own fields; it starts at zero and the mask's bias at -2, so that
    training starts from the source itself.
    """

    def __init__(
        self, widths: Sequence[int], conditioning: int = 128, flow_range: float = 0.25, patch: int = 1
    ) -> None:
        super().__init__()
        self.flow_range, self.patch = flow_range, patch
        self.condition = nn.Sequential(nn.Linear(2 * D + widths[-1], conditioning), nn.SiLU())
        down = list(widths[::-1])
        self.blocks = nn.ModuleList(_FiLMBlock(below, width, conditioning) for below, width in pairwise(down))
        self.to_fields = nn.Conv2d(widths[0], 7 * patch**2, 3, 1, 1)
        nn.init.zeros_(self.to_fields.weight)
        bias = torch.tensor([0.0, 0.0, 0.0, -2.0, 0.0, 0.0, 0.0])
        self.to_fields.bias = nn.Parameter(bias.repeat_interleave(patch**2))

    @property
    def conditioning(self) -> list[nn.Linear]:
        """The fully connected layers, from AUs to FiLM's scales and shifts: how much of what G can draw is drawn."""
        return [layer for layer in self.modules() if isinstance(layer, nn.Linear)]

    def forward(self, features: Sequence[Tensor], u_i: Tensor, u_t: Tensor) -> Fields:
        """Features of `PyramidEncoder`, source AUs (B, 17) and target AUs (B, 17) to fields at (S, S)."""
        *skips, x = features
        c = self.condition(torch.cat([u_i, u_t, x.mean(dim=(2, 3))], dim=1))
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            x = block(x, skip, c)
        fields = self.to_fields(x).float()
        fields = (pixel_shuffle(fields, self.patch) if self.patch > 1 else fields).contiguous()
        flow, shade, mask, colour = fields.split([2, 1, 1, 3], dim=1)
        return Fields(self.flow_range * flow.tanh(), LOG_2 * shade.tanh(), mask.sigmoid(), colour.tanh())


def compose(source: Tensor, fields: Fields, patch: int = 1) -> Tensor:
    """The edit: what moves is warped, what folds is shaded, what appears is painted; at the source's resolution.

    mask · colour + (1 - mask) · (eˢʰᵃᵈᵉ · warp(source, flow)), black being 0 in the inner product, and each channel
    taking its share of the shade (`WARMTH_OF_SHADE`). Light that is multiplied keeps the skin's own texture, which
    paint covers.

    Args:
        source: images (B, 3, H, H) in [-1, 1]; H may exceed the fields' side.
        fields: flow, shade, mask and colour, resampled bilinearly to H. Where that is not their own side, the source is
            warped by bicubic interpolation, which spares fine detail. At their own side fields are used as they are,
            and the warp is bilinear, as G learned.
        patch: side of the patches that the fields were written in. Where it is above 1 and H not their own side, the
            flow is averaged over neighbours before: what differs within a patch would be ripples on a larger skin.

    Returns:
        Images (B, 3, H, H) in [-1, 1]. Zero flow, shade and mask give the source itself.
    """
    h, w = source.shape[-2:]
    as_learned = fields.mask.shape[-2:] == (h, w)
    if not as_learned:
        fields = fields._replace(flow=_averaged(fields.flow)) if patch > 1 else fields
        fields = Fields(*(interpolate(field, (h, w), mode="bilinear", align_corners=False) for field in fields))
    x, y = (middles(side, source.device) for side in (w, h))
    still = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)  # `affine_grid`, which autocast would round
    there = still + fields.flow.permute(0, 2, 3, 1)
    mode = "bilinear" if as_learned else "bicubic"  # which overshoots
    warped = grid_sample(source, there, mode, padding_mode="border", align_corners=False).clamp(-1, 1)
    shade = fields.shade * torch.tensor(WARMTH_OF_SHADE, device=source.device).view(3, 1, 1)
    shaded = ((warped + 1) * shade.exp() - 1).clamp(max=1)
    return fields.mask * fields.colour + (1 - fields.mask) * shaded


def _averaged(field: Tensor) -> Tensor:
    """A field (B, C, S, S) with each value averaged with its neighbours by 1 2 1 both ways; the rim is repeated."""
    twice = avg_pool2d(pad(field, (1, 1, 1, 1), mode="replicate"), 2, stride=1)
    return avg_pool2d(twice, 2, stride=1)


def resized(images: Tensor, side: int) -> Tensor:
    """Square images (B, 3, H, H) resampled to this side, low-passed where they shrink."""
    if images.shape[-1] == side:
        return images
    return interpolate(images, (side, side), mode="bicubic", align_corners=False, antialias=True)


def channels_last(network: Network) -> Network:
    """The network with its weights in channels-last order, in which CPU and GPU convolutions are fastest."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


# --- The backbone of StarGAN and GANimation --------------------------------------------------------------------------


class ImageTranslator(nn.Module):
    """G of StarGAN (Choi et al. 2018, Table 4) and of GANimation, all but the last convolution.

    | layer                                                     | output, S = 128, w = 64 |
    |-----------------------------------------------------------|-------------------------|
    | [I, labels as constant planes] → 7×7 conv                 | w × 128 × 128           |
    | 2 × (4×4 conv stride 2)                                   | 4w × 32 × 32            |
    | `blocks` residual blocks of two 3×3 convs                 | 4w × 32 × 32            |
    | 2 × (4×4 transposed conv stride 2)                        | w × 128 × 128           |

    Each convolution is followed by InstanceNorm (affine, the statistics of the image itself in testing too) and ReLU.
    Padding is with zeros: with reflection nothing tells constant planes apart once they are normalised.
    """

    def __init__(self, labels: int, width: int, blocks: int) -> None:
        super().__init__()
        w = width
        self.layers = nn.Sequential(
            *_norm_relu(nn.Conv2d(3 + labels, w, 7, 1, 3, bias=False)),
            *_norm_relu(nn.Conv2d(w, 2 * w, 4, 2, 1, bias=False)),
            *_norm_relu(nn.Conv2d(2 * w, 4 * w, 4, 2, 1, bias=False)),
            *(_SameResidual(4 * w) for _ in range(blocks)),
            *_norm_relu(nn.ConvTranspose2d(4 * w, 2 * w, 4, 2, 1, bias=False)),
            *_norm_relu(nn.ConvTranspose2d(2 * w, w, 4, 2, 1, bias=False)),
        )

    def forward(self, I: Tensor, labels: Tensor) -> Tensor:
        """Images (B, 3, S, S) and labels (B, k) to features (B, w, S, S)."""
        planes = labels[:, :, None, None].expand(-1, -1, *I.shape[-2:])
        return self.layers(torch.cat([I, planes.to(I.dtype)], dim=1))


class AttributeCritic(nn.Module):
    """D of StarGAN (Choi et al. 2018, Table 5) and of GANimation: is each patch real, and what does the image show?

    A 4×4 convolution of stride 2 with LeakyReLU 0.01 for each width (64 to 2048 in the papers), then two heads without
    bias: 3×3 to a score a patch, and one as large as what is left of the image to the attributes.
    """

    def __init__(self, image_size: int, widths: Sequence[int], attributes: int) -> None:
        super().__init__()
        self.convs = _halving_convs(widths, slope=0.01)
        self.source = nn.Conv2d(widths[-1], 1, 3, 1, 1, bias=False)
        self.attributes = nn.Conv2d(widths[-1], attributes, _side(image_size, len(widths)), bias=False)

    def forward(self, I: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, S, S) to patch scores (B, S / 2ⁿ, S / 2ⁿ), higher for real, and attributes (B, k)."""
        h = self.convs(I)
        return self.source(h).squeeze(1), self.attributes(h).flatten(1)


# --- Blocks ----------------------------------------------------------------------------------------------------------


class _UpResidual(nn.Module):
    """Up-sampling residual block: (norm, PReLU, ×2, conv), (norm, PReLU, conv), plus a 1×1 of the input up-sampled."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.InstanceNorm2d(before, affine=True), nn.PReLU())
        self.body = nn.Sequential(
            nn.Conv2d(before, width, 3, 1, 1),
            nn.InstanceNorm2d(width, affine=True),
            nn.PReLU(),
            nn.Conv2d(width, width, 3, 1, 1),
        )
        self.skip = nn.Conv2d(before, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(interpolate(self.enter(x), scale_factor=2.0)) + interpolate(self.skip(x), scale_factor=2.0)


class _SameResidual(nn.Module):
    """Residual block of one width and side: (conv, norm, ReLU), (conv, norm), plus the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(width, width, 3, 1, 1, bias=False) for _ in range(2))
        self.body = nn.Sequential(*_norm_relu(first), *_norm_relu(second)[:2])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _FiLMBlock(nn.Module):
    """Twice (3×3 conv, GroupNorm, FiLM, SiLU), first of the level below, doubled, beside the level's own features."""

    def __init__(self, below: int, width: int, conditioning: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([UpConv(below, width, width), nn.Conv2d(width, width, 3, 1, 1)])
        self.norms = nn.ModuleList(GroupNorm(8, width) for _ in range(2))
        self.films = nn.ModuleList(nn.Linear(conditioning, 2 * width) for _ in range(2))
        self.act = nn.SiLU()

    def forward(self, x: Tensor, skip: Tensor, c: Tensor) -> Tensor:
        x = self._modulated(0, self.convs[0](x, skip), c)
        return self._modulated(1, self.convs[1](x), c)

    def _modulated(self, k: int, x: Tensor, c: Tensor) -> Tensor:
        return self.act(self.norms[k](x, *self.films[k](c).chunk(2, dim=1)))


def _conv_norm_silu(before: int, width: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(before, width, 3, stride, 1), GroupNorm(8, width), nn.SiLU()]


def _norm_relu(conv: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [conv, nn.InstanceNorm2d(conv.out_channels, affine=True), nn.ReLU()]


def _halving_convs(widths: Sequence[int], slope: float = 0.2, channels: int = 3) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, width in zip((channels, *widths), widths, strict=False):
        layers += [nn.Conv2d(before, width, 4, 2, 1), nn.LeakyReLU(slope)]
    return nn.Sequential(*layers)


def _side(image_size: int, halvings: int) -> int:
    assert image_size % 2**halvings == 0, f"{image_size} pixels cannot be halved {halvings} times"
    return image_size >> halvings
