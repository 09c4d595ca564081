"""Each equation against an independent reference or a closed form."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.signal import convolve2d
from torch import Tensor, nn
from torchmetrics.image import MultiScaleStructuralSimilarityIndexMeasure

from eggan.losses import (
    au_loss,
    critic_loss,
    gradient_penalty,
    identity_loss,
    intensity_levels,
    latent_adversarial,
    latent_deception,
    latent_penalty,
    mask_loss,
    ms_ssim,
    ms_ssim_shape,
    paint_loss,
    paired_loss,
    perceptual_loss,
    reconstruction_loss,
    shade_loss,
)

AT = ("data", "interpolates")
SIZES = (32, 64, 128, 256)


def smooth_images(size: int, batch: int = 2, seed: int = 0) -> Tensor:
    """Images (B, 3, S, S) in [-1, 1] of a few random waves, every channel its own."""
    random = np.random.default_rng(seed)
    y, x = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing="ij")
    waves = random.uniform(-6, 6, (3, batch, 3, 2, 1, 1))
    return torch.from_numpy(np.sin(waves[..., 0, :, :] * x + waves[..., 1, :, :] * y).mean(axis=0)).float()


def noisy(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    return (images + strength * torch.randn(images.shape, generator=generator)).clamp(-1, 1)


# --- Eq. 1 -----------------------------------------------------------------------------------------------------------


def test_latent_adversarial_is_eq_1(generator: torch.Generator) -> None:
    of_z, of_l = 3 * torch.randn(2, 50, generator=generator)
    D_z, D_l = (1 / (1 + np.exp(-logits.double().numpy())) for logits in (of_z, of_l))
    assert_allclose(latent_adversarial(of_z, of_l), np.log(D_z).mean() + np.log(1 - D_l).mean(), rtol=1e-5)


def test_latent_adversarial_of_an_undecided_critic_is_minus_two_log_two() -> None:
    assert_allclose(latent_adversarial(torch.zeros(4), torch.zeros(4)), -2 * math.log(2), rtol=1e-6)


def test_latent_adversarial_is_highest_where_the_critic_is_right() -> None:
    right, wrong = torch.full((4,), 9.0), torch.full((4,), -9.0)
    assert latent_adversarial(right, wrong) > latent_adversarial(right, right)
    assert latent_adversarial(right, wrong) > latent_adversarial(wrong, wrong)
    assert_allclose(latent_adversarial(right, wrong), 0, atol=1e-3)


def test_latent_deception_is_minus_log_of_the_verdict(generator: torch.Generator) -> None:
    logits = 3 * torch.randn(50, generator=generator)
    assert_allclose(latent_deception(logits), -np.log(1 / (1 + np.exp(-logits.double().numpy()))).mean(), rtol=1e-5)


def test_latent_deception_has_a_gradient_where_the_critic_wins_and_eq_1_has_none() -> None:
    logits = torch.full((4,), -30.0, requires_grad=True)
    (deception,) = torch.autograd.grad(latent_deception(logits), logits)
    (printed,) = torch.autograd.grad(latent_adversarial(torch.zeros(4), logits), logits)
    assert_allclose(deception, -0.25, rtol=1e-6)
    assert printed.abs().max() < 1e-6


@pytest.mark.parametrize("loss", [latent_deception, lambda logits: latent_adversarial(logits, -logits)])
def test_latent_losses_are_finite_for_extreme_logits(loss: Callable[[Tensor], Tensor]) -> None:
    logits = torch.tensor([-1e4, 1e4], requires_grad=True)
    value = loss(logits)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


def test_latent_penalty_of_a_plane_is_half_its_squared_slope(generator: torch.Generator) -> None:
    slope = torch.randn(8, generator=generator)
    assert_allclose(
        latent_penalty(lambda z: z @ slope, torch.randn(5, 8, generator=generator)), slope @ slope / 2, rtol=1e-5
    )


def test_latent_penalty_reaches_the_critic_as_finite_differences_say(generator: torch.Generator) -> None:
    z = torch.randn(5, 3, generator=generator, dtype=torch.double)
    weight = torch.randn(3, 3, generator=generator, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: latent_penalty(lambda x: (x @ w).tanh().sum(dim=1), z), weight)


# --- Eq. 2 -----------------------------------------------------------------------------------------------------------


def test_critic_loss_is_the_mean_of_edits_less_that_of_real_images() -> None:
    assert critic_loss(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0.0, 1.0, 0.5])) == 0.5 - 3.0


def linear_critic(slope: float, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    w = torch.randn(3 * 4 * 4, generator=generator, dtype=torch.float64)
    w *= slope / w.norm()
    return lambda x: x.flatten(1) @ w.to(x.dtype) + 7


def images_of(generator: torch.Generator, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return tuple((2 * torch.rand(2, 5, 3, 4, 4, generator=generator) - 1).to(dtype))


def places(generator: torch.Generator) -> Tensor:
    return torch.rand(5, 1, 1, 1, generator=generator)


@pytest.mark.parametrize("at", AT)
def test_gradient_penalty_is_zero_for_a_unit_slope_critic(at: str, generator: torch.Generator) -> None:
    real, edit = images_of(generator)
    assert_allclose(gradient_penalty(linear_critic(1, generator), real, edit, at, places(generator)), 0, atol=1e-6)


@pytest.mark.parametrize("at", AT)
@pytest.mark.parametrize("slope", [0.25, 3.0, 10.0])
def test_gradient_penalty_is_the_squared_excess_of_the_slope(at: str, slope: float, generator: torch.Generator) -> None:
    real, edit = images_of(generator)
    penalty = gradient_penalty(linear_critic(slope, generator), real, edit, at, places(generator))
    assert_allclose(penalty, (slope - 1) ** 2, rtol=1e-5)


def quadratic_critic(x: Tensor) -> Tensor:
    """½‖x‖², whose slope at x is ‖x‖."""
    return x.flatten(1).square().sum(1) / 2


def test_gradient_penalty_at_data_is_taken_at_the_real_images(generator: torch.Generator) -> None:
    real, edit = images_of(generator)
    expected = ((real.flatten(1).norm(dim=1) - 1) ** 2).mean()
    assert_allclose(gradient_penalty(quadratic_critic, real, edit, "data").detach(), expected, rtol=1e-5)


def test_gradient_penalty_at_interpolates_is_taken_on_the_line_to_the_edit(generator: torch.Generator) -> None:
    real, edit = images_of(generator)
    seen: list[Tensor] = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return quadratic_critic(x)

    penalty = gradient_penalty(critic, real, edit, "interpolates", places(generator))
    (x,) = seen
    share = ((x - real) / (edit - real)).flatten(1).median(dim=1).values
    assert 0 <= share.min() < share.max() <= 1
    torch.testing.assert_close(x, real + share.view(-1, 1, 1, 1) * (edit - real), rtol=0, atol=1e-5)
    assert_allclose(penalty.detach(), ((x.flatten(1).norm(dim=1) - 1) ** 2).mean(), rtol=1e-5)


@pytest.mark.parametrize("at", AT)
def test_gradient_penalty_reaches_the_critic_as_finite_differences_say(at: str) -> None:
    generator = torch.Generator().manual_seed(0)
    real, edit = images_of(generator, torch.float64)
    critic = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 1), nn.Flatten(0)).double()
    critic.requires_grad_(True)

    def penalty() -> Tensor:
        return gradient_penalty(critic, real, edit, at, places(torch.Generator().manual_seed(1)))

    penalty().backward()
    h = 1e-6
    for parameter in critic.parameters():
        if parameter.grad is None:  # the last bias, which no slope depends on
            assert parameter is critic[3].bias
            continue
        values, expected = parameter.data.view(-1), torch.zeros(parameter.numel(), dtype=torch.float64)
        for i, value in enumerate(values.tolist()):
            values[i] = value + h
            above = penalty().item()
            values[i] = value - h
            expected[i] = (above - penalty().item()) / (2 * h)
            values[i] = value
        torch.testing.assert_close(parameter.grad.view(-1), expected, rtol=1e-5, atol=1e-7)


def test_gradient_penalty_leaves_the_images_without_gradient(generator: torch.Generator) -> None:
    real, edit = images_of(generator)
    edit.requires_grad_(True)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(48, 1))
    gradient_penalty(critic, real, edit, "interpolates", places(generator)).backward()
    assert edit.grad is None
    assert not real.requires_grad


@pytest.mark.parametrize("at", AT)
def test_gradient_penalty_of_a_flat_critic_has_a_finite_gradient(at: str, generator: torch.Generator) -> None:
    real, edit = images_of(generator)
    critic = nn.Linear(48, 1)
    nn.init.zeros_(critic.weight)
    penalty = gradient_penalty(lambda x: critic(x.flatten(1)).squeeze(1), real, edit, at, places(generator))
    penalty.backward()
    assert penalty == 1
    assert critic.weight.grad.isfinite().all()


# --- Eq. 3 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("intensity", "level"),
    [(0.0, 0), (0.49, 0), (0.5, 1), (1.0, 1), (1.49, 1), (1.5, 2), (2.4, 2), (2.5, 3), (2.6, 3),
     (3.5, 4), (4.0, 4), (4.49, 4), (4.5, 5), (5.0, 5)],
)  # fmt: skip
def test_intensity_levels_are_the_nearest_integer_and_halves_go_up(intensity: float, level: int) -> None:
    levels = intensity_levels(torch.tensor([intensity]) / 5)
    assert (levels.dtype, levels.tolist()) == (torch.int64, [level])


def test_intensity_levels_keep_shape_and_range() -> None:
    levels = intensity_levels(torch.linspace(-0.2, 1.2, 34).view(2, 17))
    assert levels.shape == (2, 17)
    assert (levels.min(), levels.max()) == (0, 5)


def test_au_loss_is_the_double_sum_of_eq_3(generator: torch.Generator) -> None:
    logits = 2 * torch.randn(3, 17 * 6, generator=generator)
    u = torch.rand(3, 17, generator=generator)
    expected = []
    for b in range(3):
        outer = 0.0
        for j in range(17):
            scores = logits[b, 6 * j : 6 * j + 6].double().numpy()
            C = np.exp(scores) / np.exp(scores).sum()
            nearest = math.floor(5 * u[b, j].item() + 0.5)
            for q in range(6):
                outer += (q == nearest) * np.log(C[q])
        expected.append(-outer / 17)
    assert_allclose(au_loss(logits, u), np.mean(expected), rtol=1e-5)


def test_au_loss_of_an_undecided_classifier_is_log_six(generator: torch.Generator) -> None:
    assert_allclose(au_loss(torch.zeros(2, 102), torch.rand(2, 17, generator=generator)), math.log(6), rtol=1e-6)


def test_au_loss_is_zero_for_a_certain_and_right_classifier(generator: torch.Generator) -> None:
    u = torch.rand(2, 17, generator=generator)
    right = nn.functional.one_hot((5 * u + 0.5).floor().long(), 6).flatten(1)
    assert au_loss(50.0 * right, u) < 1e-6
    assert au_loss(-50.0 * right, u) > 10


# --- Eq. 4 -----------------------------------------------------------------------------------------------------------


def test_identity_loss_is_eq_4(generator: torch.Generator) -> None:
    logits, people = 2 * torch.randn(4, 7, generator=generator), [3, 0, 6, 3]
    C = np.exp(logits.double().numpy())
    C /= C.sum(axis=1, keepdims=True)
    expected = np.mean([-sum((k == people[b]) * np.log(C[b, k]) for k in range(7)) for b in range(4)])
    assert_allclose(identity_loss(logits, torch.tensor(people)), expected, rtol=1e-5)


# --- Eq. 5 -----------------------------------------------------------------------------------------------------------


def test_perceptual_loss_is_eq_5(generator: torch.Generator) -> None:
    source, edit, again = torch.randn(3, 2, 8, 4, 5, generator=generator)
    norms = [
        [np.sqrt(((source[b] - other[b]).double().numpy() ** 2).sum()) for b in range(2)] for other in (edit, again)
    ]
    assert_allclose(perceptual_loss(source, edit, again), np.mean(np.sum(norms, axis=0)) / (8 * 4 * 5), rtol=1e-5)


def test_perceptual_loss_of_a_constant_offset_has_a_closed_form() -> None:
    """‖c‖₂ over N activations is c √N, so that Eq. 5 gives (c₁ + c₂) / √N."""
    source = torch.zeros(3, 4, 5, 5)
    assert_allclose(perceptual_loss(source, source + 2, source - 3), 5 / math.sqrt(100), rtol=1e-6)


def test_perceptual_loss_of_equal_activations_is_zero_with_a_finite_gradient(generator: torch.Generator) -> None:
    source = torch.rand(2, 4, 5, 5, generator=generator)
    edit = source.clone().requires_grad_(True)
    loss = perceptual_loss(source, edit, source)
    loss.backward()
    assert loss == 0
    assert edit.grad.isfinite().all()


# --- Eq. 6 -----------------------------------------------------------------------------------------------------------


def reference_ms_ssim(x: np.ndarray, y: np.ndarray, window: int, sigma: float, betas: tuple[float, ...]) -> float:
    """MS-SSIM of two images (3, S, S) in [-1, 1] as Wang et al. 2003 define it, in float64.

    Windows lie inside the picture; at the coarsest scale, where they leave least, the picture is mirrored at its rim.
    """
    place = np.arange(window) - window // 2
    line = np.exp(-(place**2) / (2 * sigma**2))
    kernel = np.outer(line, line) / line.sum() ** 2
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2

    def smooth(image: np.ndarray) -> np.ndarray:
        return np.stack([convolve2d(channel, kernel, mode="valid") for channel in image])

    product = 1.0
    for scale, beta in enumerate(betas):
        if scale == len(betas) - 1:
            rim = ((0, 0), (window // 2,) * 2, (window // 2,) * 2)
            x, y = (np.pad(image, rim, mode="reflect") for image in (x, y))
        mx, my = smooth(x), smooth(y)
        vx, vy, cov = smooth(x * x) - mx**2, smooth(y * y) - my**2, smooth(x * y) - mx * my
        similarity = (2 * cov + c2) / (vx + vy + c2)
        if scale == len(betas) - 1:
            similarity = similarity * (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        else:
            x, y = (image.reshape(3, len(image[0]) // 2, 2, -1, 2).mean(axis=(2, 4)) for image in (x, y))
        product *= max(similarity.mean(), 0) ** beta
    return product


@pytest.mark.parametrize("size", SIZES)
def test_ms_ssim_of_equal_images_is_one(size: int, generator: torch.Generator) -> None:
    for images in (smooth_images(size), noisy(smooth_images(size), 0.3, generator)):
        assert_allclose(ms_ssim(images, images), 1, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_ms_ssim_falls_with_noise(size: int, generator: torch.Generator) -> None:
    images = smooth_images(size)
    scores = [ms_ssim(noisy(images, strength, generator), images).item() for strength in (0, 0.05, 0.2, 0.8)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] - scores[-1] > 0.2
    assert 0 <= scores[-1] < scores[1] < 1


@pytest.mark.parametrize("size", SIZES)
def test_ms_ssim_has_a_finite_gradient_that_is_not_zero(size: int, generator: torch.Generator) -> None:
    images = smooth_images(size)
    other = noisy(images, 0.2, generator).requires_grad_(True)
    ms_ssim(other, images).backward()
    assert other.grad.isfinite().all()
    assert other.grad.abs().max() > 0


def test_ms_ssim_at_256_pixels_is_the_standard_one(generator: torch.Generator) -> None:
    images = smooth_images(256)
    other = noisy(images, 0.2, generator)
    standard = MultiScaleStructuralSimilarityIndexMeasure(data_range=2.0)
    assert_allclose(ms_ssim(other, images), standard(other, images), rtol=1e-6)


@pytest.mark.parametrize("size", SIZES[:3])
def test_ms_ssim_agrees_with_an_independent_one(size: int, generator: torch.Generator) -> None:
    images = smooth_images(size)
    other = noisy(images, 0.2, generator)
    shape = ms_ssim_shape(size)
    pairs = zip(other.double().numpy(), images.double().numpy(), strict=True)
    assert_allclose(ms_ssim(other, images), np.mean([reference_ms_ssim(*pair, *shape) for pair in pairs]), rtol=1e-4)


@pytest.mark.parametrize(("size", "window", "scales"), [(32, 7, 3), (64, 7, 4), (128, 7, 5), (256, 11, 5)])
def test_ms_ssim_keeps_as_many_scales_as_the_window_fits(size: int, window: int, scales: int) -> None:
    shape = ms_ssim_shape(size)
    assert (shape.window, len(shape.betas)) == (window, scales)
    assert size >> (scales - 1) >= window
    assert_allclose(sum(shape.betas), 1, atol=1e-3)


def test_ms_ssim_of_equal_images_is_one_under_bfloat16_autocast() -> None:
    """A variance is a small difference of large numbers: eight bits of mantissa leave nothing of it."""
    images = 0.6 + 0.1 * smooth_images(64)
    with torch.autocast("cpu", torch.bfloat16):
        score = ms_ssim(images, images)
    assert_allclose(score.float(), 1, atol=1e-3)


def test_reconstruction_loss_without_ms_ssim_is_the_mean_absolute_error(generator: torch.Generator) -> None:
    one, other = 2 * torch.rand(2, 3, 3, 8, 8, generator=generator) - 1
    loss = reconstruction_loss(one, other, ms_ssim_weight=0)
    assert_allclose(loss, np.abs(one.double().numpy() - other.double().numpy()).mean(), rtol=1e-6)


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_reconstruction_loss_is_eq_6(weight: float, generator: torch.Generator) -> None:
    images = smooth_images(64)
    other = noisy(images, 0.2, generator)
    expected = (other - images).abs().mean() + weight * (1 - ms_ssim(other, images))
    assert_allclose(reconstruction_loss(other, images, weight), expected, rtol=1e-6)


def test_reconstruction_loss_has_the_second_term_by_default(generator: torch.Generator) -> None:
    images = smooth_images(32)
    other = noisy(images, 0.2, generator)
    assert reconstruction_loss(other, images) == reconstruction_loss(other, images, 1.0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", ["black and black", "black and white", "inverted"])
def test_reconstruction_loss_has_a_finite_gradient_for_extreme_images(case: str, size: int) -> None:
    black = torch.full((2, 3, size, size), -1.0)
    images = smooth_images(size) if case == "inverted" else black
    other = (images if case == "black and black" else -images).clone().requires_grad_(True)
    loss = reconstruction_loss(other, images)
    loss.backward()
    assert loss.isfinite()
    assert other.grad.isfinite().all()


# --- Beyond the paper ------------------------------------------------------------------------------------------------


def test_paired_loss_of_a_constant_offset_has_a_closed_form(generator: torch.Generator) -> None:
    """|c| + 2c² for an offset of c."""
    truth = torch.rand(2, 3, 8, 8, generator=generator)
    assert_allclose(paired_loss(truth - 0.3, truth), 0.3 + 2 * 0.09, rtol=1e-5)
    assert paired_loss(truth, truth) == 0


def test_paired_loss_is_l1_and_twice_the_square(generator: torch.Generator) -> None:
    edit, truth = 2 * torch.rand(2, 3, 3, 8, 8, generator=generator) - 1
    error = np.abs((edit - truth).double().numpy())
    assert_allclose(paired_loss(edit, truth), error.mean() + 2 * (error**2).mean(), rtol=1e-5)


def test_a_relative_paired_loss_counts_a_faint_change_more() -> None:
    """Two pairs that miss by the same 0.1; one changes by 0.05, the other by 0.3."""
    source = torch.zeros(2, 3, 8, 8)
    truth = torch.tensor([0.05, 0.3]).view(2, 1, 1, 1).expand_as(source)
    miss = 0.1 + 2 * 0.1**2
    expected = miss * (0.05 / (0.05 + 0.01) + 0.05 / (0.3 + 0.01)) / 2
    assert_allclose(paired_loss(truth + 0.1, truth, source), expected, rtol=1e-5)


def test_a_relative_paired_loss_bears_a_pair_that_does_not_change() -> None:
    source = torch.rand(2, 3, 8, 8)
    edit = source.clone().requires_grad_(True)
    loss = paired_loss(edit, source, source)
    loss.backward()
    assert loss == 0
    assert edit.grad is not None
    assert edit.grad.isfinite().all()


def test_mask_loss_is_the_painted_share() -> None:
    mask = torch.zeros(2, 1, 4, 4)
    mask[0, :, :2] = 1
    mask[1, :, :, 0] = 0.5
    assert mask_loss(mask) == (8 + 2) / 32


def test_paint_loss_tells_a_thin_coat_of_an_untrue_colour_from_a_thick_one_of_the_true() -> None:
    lips, teeth = (torch.tensor(rgb).view(1, 3, 1, 1) for rgb in ([0.6, -0.2, -0.2], [0.5, 0.4, 0.4]))
    cyan = 2 * teeth - lips  # half of it over the lips gives the same edit
    thin, thick = torch.full((1, 1, 1, 1), 0.5), torch.ones(1, 1, 1, 1)
    torch.testing.assert_close(thin * cyan + (1 - thin) * lips, teeth)
    assert paint_loss(thick, teeth, teeth) == 0
    assert paint_loss(thin, cyan, teeth).item() == pytest.approx(0.5 * (0.1 + 0.6 + 0.6) / 3)
    assert paint_loss(torch.zeros_like(thin), cyan, teeth) == 0


def test_paint_loss_teaches_the_colour_alone() -> None:
    mask, colour = (torch.rand(2, channels, 4, 4).requires_grad_(True) for channels in (1, 3))
    paint_loss(mask, colour, torch.full((2, 3, 4, 4), 2.0)).backward()
    assert mask.grad is None
    torch.testing.assert_close(colour.grad, (-mask / 96).expand(2, 3, 4, 4))


def test_shade_loss_prices_light_and_dark_alike() -> None:
    shade = torch.tensor([0.5, -0.3, 0.0, 0.0]).view(2, 1, 1, 2).requires_grad_(True)
    loss = shade_loss(shade)
    assert loss.item() == pytest.approx(0.8 / 4)
    loss.backward()
    torch.testing.assert_close(shade.grad, torch.tensor([0.25, -0.25, 0.0, 0.0]).view(2, 1, 1, 2))
