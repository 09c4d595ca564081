"""Layers of the compose form that are several times as fast as PyTorch's, in channels-last order on a CPU.

Their values are those of `torch.nn` (measured in docs/results/training.md, compared in tests/test_networks.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import avg_pool2d, conv2d, conv_transpose2d, group_norm, interpolate

__all__ = ["GroupNorm", "UpConv", "doubled"]

FEW_PIXELS = 1024
"""On maps of fewer PyTorch's GroupNorm goes group by group, at a quarter of its speed."""


class GroupNorm(nn.GroupNorm):
    """GroupNorm, whose scale and shift FiLM may change for each image."""

    def forward(self, x: Tensor, scale: Tensor | float = 0.0, shift: Tensor | float = 0.0) -> Tensor:
        """GroupNorm(x) · (1 + scale) + shift for x (B, C, H, W), and scale and shift (B, C)."""
        gamma, beta = (self.weight * (1 + scale)).to(x.dtype), (self.bias * (1 + scale) + shift).to(x.dtype)
        if torch.is_grad_enabled():
            gamma, beta = gamma.expand(len(x), -1), beta.expand(len(x), -1)
            return _Normalised.apply(x, self.num_groups, self.eps, gamma, beta)
        return group_norm(x, self.num_groups, eps=self.eps) * gamma[..., None, None] + beta[..., None, None]


class UpConv(nn.Conv2d):
    """3×3 convolution of a map that is doubled, beside a skip, without the doubled map where that pays.

    Doubling is a transposed convolution of stride 2 with a box of 2×2 ones, and the convolution after it folds into
    its kernel, box ⊛ weight: 4 products in the place of 9.
    """

    MANY_PIXELS = 256
    """From so many pixels of x on the folded kernel is worth its making, whatever the batch."""

    def __init__(self, below: int, skip: int, width: int) -> None:
        super().__init__(below + skip, width, 3, 1, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:  # type: ignore[override]
        """Conv2d(cat([doubled(x), skip])) for x (B, C, H, W) and skip (B, K, 2H, 2W)."""
        if x.shape[2] * x.shape[3] < self.MANY_PIXELS:
            return super().forward(torch.cat([doubled(x), skip], dim=1))
        of_x, of_skip = self.weight.tensor_split((x.shape[1],), dim=1)
        kernel = 4 * avg_pool2d(of_x.flip(2, 3), 2, stride=1, padding=1).transpose(0, 1)  # ONNX only knows means
        return conv_transpose2d(x, kernel, stride=2, padding=1) + conv2d(skip, of_skip, self.bias, padding=1)


def doubled(x: Tensor) -> Tensor:
    """Each pixel four times, (B, C, H, W) to (B, C, 2H, 2W): nearest neighbours."""
    return _Doubled.apply(x)


class _Normalised(torch.autograd.Function):
    """γ x̂ + β, x̂ = (x - mean) / deviation in each group of channels; x (B, C, H, W), γ and β (B, C)."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, groups: int, eps: float, gamma: Tensor, beta: Tensor) -> Tensor:
        C, W = x.shape[1], x.shape[3]
        x_hat, rstd = _standardised(x, groups, eps)
        ctx.save_for_backward(x_hat, rstd, gamma)
        return _from_rows(torch.addcmul(_row(beta, W), x_hat, _row(gamma, W)), C)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, d_y: Tensor) -> tuple[Tensor, None, None, Tensor, Tensor]:
        """∂x = (γ∂y - ⟨γ∂y⟩ - x̂ ⟨γ∂y x̂⟩) / deviation, ⟨⟩ the mean of a group; ∂γ = Σ ∂y x̂ and ∂β = Σ ∂y over pixels."""
        x_hat, rstd, gamma = ctx.saved_tensors  # type: ignore[attr-defined]
        _, C, H, W = d_y.shape
        groups = rstd.shape[1]
        d_gamma, d_beta = (d_y * _from_rows(x_hat, C)).sum((2, 3)), d_y.sum((2, 3))

        def group_mean(d: Tensor) -> Tensor:
            return _of_channels(_of_groups(gamma * d, groups) / (H * W), C)

        inverse = _of_channels(rstd, C)
        factors = (gamma * inverse, -group_mean(d_gamma) * inverse, -group_mean(d_beta) * inverse)
        a, b, c = (_row(factor.to(d_y.dtype), W) for factor in factors)
        d_x = torch.addcmul(c, _rows(d_y), a).addcmul_(x_hat, b)
        return _from_rows(d_x, C), None, None, d_gamma, d_beta


def _standardised(x: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """x̂ as rows, (B, H, W·C), and 1 / deviation of each group of channels, (B, groups), of x (B, C, H, W)."""
    B, C, H, W = x.shape
    if H * W >= FEW_PIXELS:
        x_hat, _, rstd = torch.native_group_norm(x, None, None, B, C, H * W, groups, eps)
        return _rows(x_hat), rstd
    dtype = torch.promote_types(x.dtype, torch.float32)
    mean, mean_square = (_of_groups(power.mean((2, 3), dtype=dtype), groups) for power in (x, x * x))
    rstd = ((mean_square - mean * mean).clamp(min=0) + eps).rsqrt()
    scale, shift = (_row(_of_channels(v, C).to(x.dtype), W) for v in (rstd, -mean * rstd))
    return torch.addcmul(shift, _rows(x), scale), rstd


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        return interpolate(x, scale_factor=2.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, d_y: Tensor) -> Tensor:
        return avg_pool2d(d_y, 2, divisor_override=1)


# An image and a vector are added row by row: a sum that repeats one value a channel along the pixels takes ten times as
# long, since its inner loop is only as long as there are channels.


def _rows(x: Tensor) -> Tensor:
    """(B, C, H, W), in memory channels last, as (B, H, W·C)."""
    return x.permute(0, 2, 3, 1).flatten(2)


def _from_rows(rows: Tensor, channels: int) -> Tensor:
    return rows.unflatten(2, (-1, channels)).permute(0, 3, 1, 2)


def _row(v: Tensor, width: int) -> Tensor:
    """(B, C) for every pixel of a row, (B, 1, W·C)."""
    return v.unsqueeze(1).expand(-1, width, -1).flatten(1).unsqueeze(1)


def _of_groups(v: Tensor, groups: int) -> Tensor:
    """Means of (B, C) over the channels of each group, (B, groups)."""
    return v.unflatten(1, (groups, -1)).mean(dim=2)


def _of_channels(v: Tensor, channels: int) -> Tensor:
    """(B, groups) for every channel of a group, (B, C)."""
    return v.unsqueeze(2).expand(-1, -1, channels // v.shape[1]).flatten(1)
