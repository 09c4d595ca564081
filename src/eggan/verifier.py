"""The built-in face verifier: are these two pictures the same person?

It judges whether an edit keeps the person. It is trained apart from the editor (`eggan.training.verifier`): another
architecture and seed than C_id, and never used as a loss.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from eggan.networks import channels_last, resized
from eggan.pixels import middles
from eggan.weights import load_weights

__all__ = ["FaceVerifier", "VerifierConfig"]


class VerifierConfig(BaseModel):
    """Shape of the verifier, and where it draws the line.

    Attributes:
        image_size: input side in pixels, a multiple of 16.
        widths: channels after the stem and after each of the three stages.
        embedding: length D of an embedding.
        threshold: cosine similarity above which two faces are the same person; chosen on validation pairs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(64, gt=0, multiple_of=16)
    widths: tuple[int, int, int, int] = (32, 48, 64, 128)
    embedding: int = Field(128, gt=0)
    threshold: float = Field(0.5, ge=-1, le=1)


class FaceVerifier(nn.Module):
    """Inverted residuals from an aligned face to an embedding on the unit sphere.

    | part   | layers                                                            | output for S = 64 |
    |--------|-------------------------------------------------------------------|-------------------|
    | oval   | all outside the head's place to grey                              | 3 × 64 × 64       |
    | stem   | 3×3 conv stride 2, BatchNorm, ReLU                                | 32 × 32 × 32      |
    | stages | 3 × (inverted residual stride 2, 1 or 2 more of stride 1)         | 128 × 4 × 4       |
    | head   | 1×1 conv to 256, BatchNorm, ReLU, 4×4 depthwise conv, BatchNorm   | 256               |
    | sphere | FC, BatchNorm, division by the norm                               | D                 |

    An inverted residual widens (3×3 conv to twice the channels, BatchNorm, ReLU) and narrows again (1×1 conv,
    BatchNorm): MobileNetV2's, with widening and depthwise convolution fused into one as in EfficientNetV2. The
    depthwise head weighs each place of the face by itself (MobileFaceNet). Measured, training images a second of one
    CPU core in bfloat16: 606 in this form, 320 with depthwise blocks (495 in float32), 288 at 96 pixels.

    A source and its edit share the background, so a judge must not know people by it: hence the oval.
    """

    oval: Tensor

    def __init__(self, config: VerifierConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or VerifierConfig()
        w = config.widths
        layers: list[nn.Module] = [nn.Conv2d(3, w[0], 3, 2, 1, bias=False), nn.BatchNorm2d(w[0]), nn.ReLU()]
        for (before, width), more in zip(pairwise(w), (1, 2, 1), strict=True):
            layers += [_InvertedResidual(before, width, 2), *(_InvertedResidual(width, width, 1) for _ in range(more))]
        self.features = nn.Sequential(*layers)
        side = config.image_size // 16
        self.head = nn.Sequential(
            nn.Conv2d(w[-1], 256, 1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.Conv2d(256, 256, side, groups=256, bias=False),
            nn.BatchNorm2d(256),
            nn.Flatten(),
            nn.Linear(256, config.embedding, bias=False),
            nn.BatchNorm1d(config.embedding),
        )
        self.register_buffer("oval", _oval(config.image_size), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [-1, 1] of the configured size to embeddings (B, D) of norm 1."""
        return normalize(self.head(self.features(images * self.oval)).float())

    @torch.inference_mode()
    def embed(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """Embeddings (B, D) of norm 1 of aligned faces (B, 3, H, H) in [-1, 1] of any size."""
        embeddings = []
        for chunk in images.split(batch_size):
            chunk = resized(chunk, self.config.image_size)
            embeddings.append(self(chunk.contiguous(memory_format=torch.channels_last)))
        return torch.cat(embeddings)

    @classmethod
    def from_pretrained(cls, name: str | Path = "verifier") -> FaceVerifier:
        """The shipped verifier, or the one in a folder, in evaluation mode."""
        return channels_last(load_weights(name, cls, VerifierConfig))


class _InvertedResidual(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.adds = stride == 1 and before == width
        self.body = nn.Sequential(
            nn.Conv2d(before, 2 * before, 3, stride, 1, bias=False),
            nn.BatchNorm2d(2 * before),
            nn.ReLU(),
            nn.Conv2d(2 * before, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


def _oval(size: int) -> Tensor:
    """(size, size): 1 inside the ellipse that holds brows, cheeks and chin of an aligned face, 0 outside, soft edge."""
    axis = middles(size)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.sigmoid(20 * (1 - torch.hypot(x / 0.75, (y - 0.1) / 0.9)))
