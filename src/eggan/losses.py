"""Eq. 1 to 6, one pure function an equation, and the terms that the compose form adds.

Symbols are the paper's: source image I_i, edit Ĩ_i = G(l_i | u_t), self-reconstruction Î_i = G(l_i | u_i). Images are
(B, 3, S, S) in [-1, 1]. Every function returns a scalar, a mean over the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, l1_loss, logsigmoid
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from eggan.action_units import MAX_INTENSITY

__all__ = [
    "au_loss",
    "critic_loss",
    "gradient_penalty",
    "identity_loss",
    "intensity_levels",
    "latent_adversarial",
    "latent_deception",
    "latent_penalty",
    "mask_loss",
    "ms_ssim",
    "paint_loss",
    "paired_loss",
    "perceptual_loss",
    "reconstruction_loss",
    "shade_loss",
]

TYPICAL_CHANGE = 0.05
"""‖I_i - I_t‖₂ of a pair in facsynth, root of the mean square, for images in [-1, 1]."""
LEVELS = int(MAX_INTENSITY) + 1
"""m + 1, the intensity levels 0..5 of Eq. 3."""


def latent_adversarial(D_z_of_z: Tensor, D_z_of_l: Tensor) -> Tensor:
    """Eq. 1: L_adv^z = E[log D_z(z)] + E[log(1 - D_z(E(I_i)))], which D_z maximises; arguments are logits (B,)."""
    return logsigmoid(D_z_of_z).mean() + logsigmoid(-D_z_of_l).mean()


def latent_deception(D_z_of_l: Tensor) -> Tensor:
    """E's side of Eq. 1 in the non-saturating form of Goodfellow et al. 2014: E[-log D_z(E(I_i))]; logits (B,).

    It has the fixed point of Eq. 1 and a gradient where D_z wins, which Eq. 1 itself has not.
    """
    return -logsigmoid(D_z_of_l).mean()


def latent_penalty(D_z: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Not in the paper: ½E‖∇D_z(z)‖² of the logits at draws of the prior, R1 of Mescheder et al. 2018.

    Codes of E lie on a thin set of the latent space, which a free D_z tells from N(0, I) without fail; then Eq. 1
    pulls E ever further in a direction that means nothing. A D_z that is dear to make steep stays undecided.
    """
    z = z.detach().requires_grad_()
    (slope,) = torch.autograd.grad(D_z(z).sum(), z, create_graph=True)
    return slope.square().sum(dim=1).mean() / 2


def critic_loss(D_img_of_real: Tensor, D_img_of_edit: Tensor) -> Tensor:
    """First two terms of Eq. 2 as WGAN-GP, which it cites, has them: E[D_img(Ĩ_i)] - E[D_img(I_i)], minimised by D_img.

    Eq. 2 prints logarithms, but a Lipschitz critic has no sigmoid whose logarithm could be taken. Arguments are
    scores (B,). G minimises -E[D_img(Ĩ_i)].
    """
    return D_img_of_edit.mean() - D_img_of_real.mean()


def gradient_penalty(
    D_img: Callable[[Tensor], Tensor],
    I_i: Tensor,
    edit: Tensor,
    at: Literal["data", "interpolates"],
    place: Tensor | None = None,
) -> Tensor:
    """Third term of Eq. 2 without λ_gp: E[(‖∇_x D_img(x)‖₂ - 1)²].

    Args:
        D_img: the critic, images to scores (B,).
        I_i: real images.
        edit: generated images of the same shape; used at `interpolates` only.
        at: `data`, x = I_i, as Eq. 2 prints; `interpolates`, x uniform on the line from I_i to Ĩ_i, as in WGAN-GP.
        place: uniform draws (B, 1, 1, 1), the place on that line; used at `interpolates` only.
    """
    x = I_i.detach()
    if at == "interpolates":
        assert place is not None, "interpolates without a place on the line"
        x = torch.lerp(x, edit.detach(), place.to(x))
    x = x.requires_grad_()
    (slope,) = torch.autograd.grad(D_img(x).sum(), x, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


def intensity_levels(u: Tensor) -> Tensor:
    """⌊5u⌉ of Eq. 3: intensities / 5 (…,) to levels 0..5 (int64), nearest, halves upwards."""
    return (MAX_INTENSITY * u + 0.5).floor().long().clamp(0, LEVELS - 1)


def au_loss(C_exp_of_edit: Tensor, u_t: Tensor) -> Tensor:
    """Eq. 3: -1/d Σ_j Σ_q 1[q = ⌊5 u_t^j⌉] log C_exp^(j,q)(Ĩ_i).

    Args:
        C_exp_of_edit: logits (B, 17·6), AU by AU; C_exp^(j,q) is their softmax over the six levels q.
        u_t: target intensities / 5, (B, 17).
    """
    return cross_entropy(C_exp_of_edit.unflatten(1, (-1, LEVELS)).transpose(1, 2), intensity_levels(u_t))


def identity_loss(C_id_of_edit: Tensor, c_i: Tensor) -> Tensor:
    """Eq. 4: -Σ_k 1[k = c_i] log C_id^(k)(Ĩ_i); logits (B, n) and classes (B,)."""
    return cross_entropy(C_id_of_edit, c_i)


def perceptual_loss(phi_of_source: Tensor, phi_of_edit: Tensor, phi_of_reconstruction: Tensor) -> Tensor:
    """Eq. 5: (‖φ₃(I_i) - φ₃(Ĩ_i)‖₂ + ‖φ₃(I_i) - φ₃(Î_i)‖₂) / (C₃H₃W₃); activations (B, C₃, H₃, W₃).

    The norm is not squared, as printed.
    """
    size = phi_of_source[0].numel()
    distances = [(phi_of_source - other).flatten(1).norm(dim=1) for other in (phi_of_edit, phi_of_reconstruction)]
    return (distances[0] + distances[1]).mean() / size


class MSSSIMShape(NamedTuple):
    """Window side in pixels, its Gaussian's sigma, and the weights of the scales, for MS-SSIM."""

    window: int
    sigma: float
    betas: tuple[float, ...]


def ms_ssim_shape(image_size: int) -> MSSSIMShape:
    """The five scales and 11-pixel window of Wang et al. 2003 where they fit, that is above 160 pixels.

    Below, the window has 7 pixels, and as many scales are kept as leave 7 pixels on the coarsest: five at 128 px,
    four at 64, three at 32. Weights are those of the paper, scaled to sum to 1.
    """
    betas: tuple[float, ...] = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    if image_size > 160:
        return MSSSIMShape(11, 1.5, betas)
    betas = betas[: max(1, (image_size // 7).bit_length())]
    return MSSSIMShape(7, 0.8, tuple(beta / sum(betas) for beta in betas))


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Multi-scale structural similarity of images in [-1, 1], 1 for equal ones; settings by `ms_ssim_shape`."""
    window, sigma, betas = ms_ssim_shape(x.shape[-1])
    with torch.autocast(x.device.type, enabled=False):  # differences of variances: bfloat16 has not the digits
        return multiscale_structural_similarity_index_measure(
            x.float(), y.float(), data_range=2.0, kernel_size=window, sigma=sigma, betas=betas, normalize="relu"
        )


def reconstruction_loss(reconstruction: Tensor, I_i: Tensor, ms_ssim_weight: float = 1.0) -> Tensor:
    """Eq. 6: E‖Î_i - I_i‖₁ + (1 - MS-SSIM(Î_i, I_i)), the L1 norm as a mean over the pixels.

    Args:
        reconstruction: Î_i.
        I_i: source images.
        ms_ssim_weight: factor of the second term; 0 is the ablation E_wtS of Sec. 4.4.
    """
    loss = l1_loss(reconstruction, I_i)
    if ms_ssim_weight:
        loss = loss + ms_ssim_weight * (1 - ms_ssim(reconstruction, I_i))
    return loss


def paired_loss(edit: Tensor, I_t: Tensor, I_i: Tensor | None = None) -> Tensor:
    """Not in the paper: ‖Ĩ_i - I_t‖₁ + 2‖Ĩ_i - I_t‖₂² (means over pixels), I_t the true image of the target.

    The square makes the few pixels that change much count beside the many that change little.

    Args:
        edit: Ĩ_i.
        I_t: the true image.
        I_i: the source image; where given, each pair counts by c / (‖I_i - I_t‖₂ + c/5), the norm being the root of
            the mean square and c `TYPICAL_CHANGE`, so that a faint expression matters as much as a broad one.
    """
    off = edit - I_t
    loss = (off.abs() + 2 * off.square()).mean(dim=(1, 2, 3))
    if I_i is not None:
        change = (I_i - I_t).square().mean(dim=(1, 2, 3)).sqrt()
        loss = loss * TYPICAL_CHANGE / (change + TYPICAL_CHANGE / 5)
    return loss.mean()


def mask_loss(mask: Tensor) -> Tensor:
    """Not in the paper: the mean of the compose head's mask (B, 1, S, S), so that what can be warped is not painted."""
    return mask.mean()


def paint_loss(mask: Tensor, colour: Tensor, I_t: Tensor) -> Tensor:
    """Not in the paper: the mean of m |C - I_t| over pixels, which teaches the colour alone: what is painted is true.

    The edit is a mixture of paint and warped source, and a thin coat of an untrue colour can make it right: cyan over
    red lips for teeth, black over a cheek for a fold. On a photograph, where lips and cheeks differ, it shows.

    Args:
        mask: m, (B, 1, S, S); gets no gradient.
        colour: C, (B, 3, S, S).
        I_t: the true image of the target, (B, 3, S, S).
    """
    return (mask.detach() * (colour - I_t).abs()).mean()


def shade_loss(shade: Tensor) -> Tensor:
    """Not in the paper: the mean of |s|, s the compose head's shade (B, 1, S, S), of edits whose true image is unknown.

    There Eq. 3 alone says how light falls, and light can please C_exp where no expression is.
    """
    return shade.abs().mean()
