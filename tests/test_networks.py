"""Layers as the paper lists them, shapes, gradients, and the known answers of the compose head."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, group_norm, interpolate, mse_loss

from eggan.layers import GroupNorm, UpConv, doubled
from eggan.networks import (
    AttributeClassifier,
    ComposeGenerator,
    Encoder,
    Fields,
    Generator,
    ImageDiscriminator,
    LatentDiscriminator,
    PyramidEncoder,
    VGG19Stage3,
    compose,
    resized,
)

VGG19 = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512)
"""Configuration E of Simonyan and Zisserman 2015: output channels of its 3×3 convolutions, and max pools."""


def of_kind(network: nn.Module, kind: type[nn.Module]) -> list:
    return [module for module in network.modules() if isinstance(module, kind)]


def images(batch: int = 2, size: int = 32) -> Tensor:
    return 2 * torch.rand(batch, 3, size, size) - 1


def small_compose() -> tuple[PyramidEncoder, ComposeGenerator]:
    """Both parts of the compose form; the last layer is drawn at random, for it starts at zero."""
    E, G = PyramidEncoder((8, 16, 16)), ComposeGenerator((8, 16, 16), conditioning=8)
    nn.init.normal_(G.to_fields.weight, std=0.1)
    return E, G


# --- Layers ----------------------------------------------------------------------------------------------------------


def test_encoder_has_the_papers_five_convolutions_and_one_fc() -> None:
    E = Encoder(128, (16, 32, 64, 128, 256), 256)
    convs = of_kind(E, nn.Conv2d)
    assert [conv.out_channels for conv in convs] == [16, 32, 64, 128, 256]
    assert all(conv.stride == (2, 2) for conv in convs)
    (fc,) = of_kind(E, nn.Linear)
    assert (fc.in_features, fc.out_features) == (256 * 4 * 4, 256)


def test_latent_discriminator_has_the_papers_six_layers() -> None:
    layers = of_kind(LatentDiscriminator(200), nn.Linear)
    assert [layer.in_features for layer in layers] == [200, 256, 128, 64, 32, 16]
    assert [layer.out_features for layer in layers] == [256, 128, 64, 32, 16, 1]


def test_generator_at_128_pixels_has_six_up_sampling_blocks() -> None:
    G = Generator(128, 16, (8, 8, 8, 8, 8, 8, 8))
    sides: list[int] = []
    for block in G.blocks:
        block.register_forward_hook(lambda module, inputs, output: sides.append(output.shape[-1]))
    G(torch.randn(2, 16), torch.rand(2, 17))
    assert sides == [4, 8, 16, 32, 64, 128]


def test_generator_normalises_by_instance_and_activates_by_prelu() -> None:
    G = Generator(32, 16, (8,) * 5)
    assert len(of_kind(G, nn.InstanceNorm2d)) == 2 * 4
    assert len(of_kind(G, nn.PReLU)) == 2 * 4 + 1
    assert not of_kind(G.to_image, nn.InstanceNorm2d)
    assert not of_kind(G, nn.BatchNorm2d)


def test_encoder_keeps_the_scale_of_its_images_at_the_start() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        codes = Encoder(64, (16, 32, 64, 128, 256), 256)(torch.randn(20, 3, 64, 64))
    assert 0.3 < codes.std() < 3


def test_image_discriminator_at_128_pixels_halves_six_times() -> None:
    D_img = ImageDiscriminator(128, (8,) * 6)
    convs = of_kind(D_img, nn.Conv2d)
    assert [conv.stride for conv in convs] == [(2, 2)] * 6
    assert D_img.convs(images(size=128)).shape == (2, 8, 2, 2)


@pytest.mark.parametrize("network", [Encoder(32, (8, 8), 4), ImageDiscriminator(32, (8, 8))])
def test_networks_under_eq_1_and_2_are_not_normalised(network: nn.Module) -> None:
    assert not of_kind(network, nn.modules.batchnorm._NormBase) + of_kind(network, nn.GroupNorm)


def test_classifier_has_sixteen_convolutions_and_one_fc() -> None:
    C = AttributeClassifier(2, 102)
    assert len(of_kind(C, nn.Conv2d)) == 16
    (fc,) = of_kind(C, nn.Linear)
    assert fc.out_features == 102


@pytest.mark.parametrize("size", [64, 128])
def test_classifier_weighs_every_feature_by_the_place_where_it_lies(size: int) -> None:
    C = AttributeClassifier(2, 7).eval()
    source = images(2, size)
    x = nn.Sequential(*C.stages)(source)
    places = x.unflatten(3, (4, -1)).unflatten(2, (4, -1)).mean(dim=(3, 5))
    expected = torch.einsum("bcyx,ocyx->bo", places, C.fc.weight.view(7, 16, 4, 4)) + C.fc.bias
    torch.testing.assert_close(C(source), expected)


def test_classifier_of_width_64_has_vgg19s_convolutions() -> None:
    with torch.device("meta"):
        convs = of_kind(AttributeClassifier(64, 102), nn.Conv2d)
    widths = [width for width in VGG19 if width != "M"]
    assert [conv.out_channels for conv in convs] == widths
    expected = sum(9 * before * width for before, width in zip([3, *widths], widths, strict=False))
    assert sum(conv.weight.numel() for conv in convs) == expected == 20_018_880


def test_classifier_pools_where_vgg19_does() -> None:
    order = [
        "M" if isinstance(module, nn.MaxPool2d) else 64 * module.out_channels
        for module in AttributeClassifier(1, 1).modules()
        if isinstance(module, nn.Conv2d | nn.MaxPool2d)
    ]
    assert order == list(VGG19)


# --- Shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 64])
def test_shapes_are_as_documented(size: int) -> None:
    source, u, halvings = images(3, size), torch.rand(3, 17), size.bit_length() - 2
    assert Encoder(size, (8, 8, 8), 20)(source).shape == (3, 20)
    assert LatentDiscriminator(20)(torch.randn(3, 20)).shape == (3,)
    assert Generator(size, 20, (8,) * (halvings + 1))(torch.randn(3, 20), u).shape == (3, 3, size, size)
    assert ImageDiscriminator(size, (8, 8))(source).shape == (3,)
    assert AttributeClassifier(2, 7)(source).shape == (3, 7)


def test_classifier_takes_images_from_16_pixels_up() -> None:
    C = AttributeClassifier(2, 7).eval()
    assert C(images(2, 16)).shape == C(images(2, 48)).shape == (2, 7)


def test_pyramid_has_one_level_a_width_each_half_the_one_before() -> None:
    shapes = [tuple(level.shape) for level in PyramidEncoder((8, 16, 24))(images())]
    assert shapes == [(2, 8, 32, 32), (2, 16, 16, 16), (2, 24, 8, 8)]
    assert [tuple(level.shape) for level in PyramidEncoder((8, 16), patch=2)(images())] == [
        (2, 8, 16, 16),
        (2, 16, 8, 8),
    ]


def test_fields_have_the_sources_side_and_stay_in_their_ranges() -> None:
    E, G = small_compose()
    nn.init.normal_(G.to_fields.weight, std=3.0)
    fields = G(E(images()), torch.rand(2, 17), torch.rand(2, 17))
    assert [tuple(field.shape) for field in fields] == [(2, n, 32, 32) for n in (2, 1, 1, 3)]
    assert fields.flow.abs().max() <= G.flow_range
    assert fields.shade.exp().max() <= 2 + 1e-6
    assert 0 <= fields.mask.min() <= fields.mask.max() <= 1
    assert fields.colour.abs().max() <= 1


def test_generated_images_are_in_range() -> None:
    G = Generator(32, 16, (8,) * 5)
    assert G(100 * torch.randn(2, 16), torch.rand(2, 17)).abs().max() <= 1


# --- Gradients -------------------------------------------------------------------------------------------------------


def encoder() -> tuple[nn.Module, Tensor]:
    E = Encoder(32, (8, 8, 8), 12)
    return E, E(images())


def latent_discriminator() -> tuple[nn.Module, Tensor]:
    D_z = LatentDiscriminator(12)
    return D_z, D_z(torch.randn(8, 12))


def test_a_classifier_with_a_side_of_its_own_sees_larger_pictures_at_it() -> None:
    C = AttributeClassifier(2, 7, 16).eval()
    plain = AttributeClassifier(2, 7).eval()
    plain.load_state_dict(C.state_dict())
    source = images()
    small = resized(source, 16)
    torch.testing.assert_close(C(source), plain(small))
    torch.testing.assert_close(C.relu3_1(source), plain.relu3_1(small))
    C.image_size = 64
    assert torch.equal(C(source), plain(source)), "smaller ones are seen as they are"


def paper_generator() -> tuple[nn.Module, Tensor]:
    G = Generator(32, 12, (8,) * 5)
    return G, G(torch.randn(2, 12), torch.rand(2, 17))


def image_discriminator() -> tuple[nn.Module, Tensor]:
    D_img = ImageDiscriminator(32, (8, 8, 8))
    return D_img, D_img(images())


def classifier() -> tuple[nn.Module, Tensor]:
    C = AttributeClassifier(4, 9)
    return C, C(images())


def compose_form() -> tuple[nn.Module, Tensor]:
    E, G = small_compose()
    source = images()
    return nn.ModuleList([E, G]), compose(source, G(E(source), torch.rand(2, 17), torch.rand(2, 17)))


@pytest.mark.parametrize(
    "case", [encoder, latent_discriminator, paper_generator, image_discriminator, classifier, compose_form]
)
def test_every_parameter_gets_a_finite_gradient(case: Callable[[], tuple[nn.Module, Tensor]]) -> None:
    network, output = case()
    mse_loss(output, torch.randn_like(output)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    weights = [parameter for name, parameter in network.named_parameters() if name.endswith("weight")]
    assert all(weight.grad.abs().max() > 0 for weight in weights)


def test_generator_depends_on_code_and_on_every_action_unit() -> None:
    G = Generator(32, 12, (8,) * 5)
    code, u = torch.randn(1, 12, requires_grad=True), torch.rand(1, 17, requires_grad=True)
    (G(code, u) * torch.randn(1, 3, 32, 32)).sum().backward()
    assert code.grad.abs().min() > 0
    assert u.grad.abs().min() > 0


def test_compose_generator_depends_on_source_and_target_action_units() -> None:
    E, G = small_compose()
    u_i, u_t = torch.rand(2, 2, 17).requires_grad_(True).unbind()
    u_i.retain_grad(), u_t.retain_grad()
    torch.cat([field.flatten() for field in G(E(images()), u_i, u_t)]).square().sum().backward()
    assert u_i.grad.abs().min() > 0
    assert u_t.grad.abs().min() > 0


@pytest.mark.parametrize("size", [(5, 6), (32, 33)])
@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
def test_modulated_group_norm_and_its_gradient_are_pytorchs(order: torch.memory_format, size: tuple[int, int]) -> None:
    norm = GroupNorm(4, 8).double()
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    x = (1 + torch.randn(3, 8, *size)).double().contiguous(memory_format=order)
    scale, shift, d_y = torch.randn(3, 8).double(), torch.randn(3, 8).double(), torch.randn_like(x)
    leaves = [x, scale, shift, norm.weight, norm.bias]
    for leaf in leaves:
        leaf.requires_grad_()
    ours = norm(x, scale, shift)
    theirs = group_norm(x, 4, norm.weight, norm.bias) * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
    with torch.no_grad():
        unlearned = norm(x, scale, shift)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(unlearned, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, leaves, d_y), torch.autograd.grad(theirs, leaves, d_y))


def test_the_gradient_of_group_norm_agrees_with_finite_differences() -> None:
    x = torch.randn(2, 4, 3, 2).double().contiguous(memory_format=torch.channels_last).requires_grad_()
    assert torch.autograd.gradcheck(GroupNorm(2, 4).double(), (x,))


def test_doubled_and_its_gradient_are_nearest_neighbours() -> None:
    x = torch.randn(2, 3, 4, 5).double().contiguous(memory_format=torch.channels_last).requires_grad_()
    d_y = torch.randn(2, 3, 8, 10).double()
    ours, theirs = doubled(x), interpolate(x, scale_factor=2.0)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, x, d_y), torch.autograd.grad(theirs, x, d_y))


@pytest.mark.parametrize("size", [(4, 6), (16, 18)])
def test_up_conv_and_its_gradients_are_a_convolution_of_the_doubled_image_beside_the_skip(
    size: tuple[int, int],
) -> None:
    high, wide = size
    x, skip = torch.randn(2, 3, high, wide).double(), torch.randn(2, 5, 2 * high, 2 * wide).double()
    conv = UpConv(3, 5, 4).double()
    inputs = [x.requires_grad_(), skip.requires_grad_(), conv.weight, conv.bias]
    d_y = torch.randn(2, 4, 2 * high, 2 * wide).double()
    ours = conv(x, skip)
    theirs = conv2d(torch.cat([interpolate(x, scale_factor=2.0), skip], dim=1), conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, inputs, d_y), torch.autograd.grad(theirs, inputs, d_y))


def test_items_of_a_batch_do_not_influence_each_other() -> None:
    """Statistics are the instance's or the running ones, so an edit does not depend on its neighbours.

    In double precision: a batch of one takes other routines, and rounds otherwise, than one of three.
    """
    E, G = (network.double() for network in small_compose())
    paper, C = Generator(32, 12, (8,) * 5).double(), AttributeClassifier(4, 9).double().eval()
    source, code, u = images(3).double(), torch.randn(3, 12).double(), torch.rand(3, 17).double()
    for network in (
        lambda rows: compose(source[rows].float(), G(E(source[rows]), u[rows], u[rows])),
        lambda rows: paper(code[rows], u[rows]),
        lambda rows: C(source[rows]),
    ):
        torch.testing.assert_close(network([0, 1, 2])[[1]], network([1]))


# --- φ₃ --------------------------------------------------------------------------------------------------------------


def test_relu3_1_is_the_activation_of_a_full_forward() -> None:
    C = AttributeClassifier(4, 9)
    C(images(8))  # statistics other than 0 and 1
    C.eval()
    captured: list[Tensor] = []
    activations = of_kind(C, nn.ReLU)
    activations[4].register_forward_hook(lambda module, inputs, output: captured.append(output))  # after 2 + 2
    source = images(2, 64)
    C(source)
    phi = C.relu3_1(source)
    assert phi.shape == (2, 16, 16, 16)
    assert torch.equal(phi, captured[0])
    assert phi.min() >= 0
    assert phi.max() > 0


def test_vgg19_stage_3_is_vgg19_up_to_relu3_1() -> None:
    reference = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Conv2d(128, 256, 3, padding=1), nn.ReLU(),
    )  # fmt: skip
    official = {f"features.{name}": tensor for name, tensor in reference.state_dict().items()}
    further = {"features.12.weight": torch.zeros(256, 256, 3, 3), "classifier.6.bias": torch.zeros(1000)}
    phi = VGG19Stage3(official | further)
    source = images()
    mean, std = (torch.tensor(c).view(1, 3, 1, 1) for c in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    torch.testing.assert_close(phi(source), reference((source / 2 + 0.5 - mean) / std))
    assert phi(source).shape == (2, 256, 8, 8)


# --- compose ---------------------------------------------------------------------------------------------------------


def still(batch: int, size: int) -> Fields:
    """Fields that change nothing."""
    flow, shade, mask = (torch.zeros(batch, channels, size, size) for channels in (2, 1, 1))
    return Fields(flow, shade, mask, torch.rand(batch, 3, size, size))


@pytest.mark.parametrize(("side", "fields_side"), [(32, 32), (64, 64), (96, 32), (40, 32)])
def test_zero_flow_and_zero_mask_return_the_source(side: int, fields_side: int) -> None:
    source = images(2, side)
    torch.testing.assert_close(compose(source, still(2, fields_side)), source, rtol=0, atol=2e-5)


def test_a_full_mask_returns_the_colour() -> None:
    fields = still(2, 32)._replace(mask=torch.ones(2, 1, 32, 32), flow=torch.rand(2, 2, 32, 32))
    assert torch.equal(compose(images(), fields), fields.colour)


def test_half_a_mask_returns_the_mean_of_source_and_colour() -> None:
    fields = still(2, 32)._replace(mask=torch.full((2, 1, 32, 32), 0.5))
    source = images()
    torch.testing.assert_close(compose(source, fields), (source + fields.colour) / 2, rtol=0, atol=2e-5)


@pytest.mark.parametrize("fields_side", [32, 16])
@pytest.mark.parametrize(("right", "down"), [(3, 0), (-2, 0), (0, 5), (0, -1), (4, -3)])
def test_a_flow_of_k_pixels_fetches_each_pixel_from_k_pixels_on(right: int, down: int, fields_side: int) -> None:
    """A flow is where a pixel comes from, in halves of the image side: a positive one moves the picture back."""
    source = images()
    fields = still(2, fields_side)
    fields.flow[:, 0], fields.flow[:, 1] = 2 * right / 32, 2 * down / 32
    out = compose(source, fields)
    y, x = (torch.arange(32) + down).clamp(0, 31), (torch.arange(32) + right).clamp(0, 31)  # the edge is repeated
    torch.testing.assert_close(out, source[:, :, y][:, :, :, x], rtol=0, atol=2e-5)


def test_half_a_pixel_of_a_finer_source_is_fetched_by_cubic_convolution() -> None:
    """Of Keys (1981) with a = -3/4; at the fields' own side the mean of two neighbours, with which G learned."""
    source, fields = 0.8 * images(2, 64), still(2, 32)
    fields.flow[:, 0] = 1 / 64
    out = compose(source, fields)
    columns = [source[..., k : k + 61] for k in range(4)]  # one before, the two that it lies between, one after
    cubic = sum(w * column for w, column in zip((-0.09375, 0.59375, 0.59375, -0.09375), columns, strict=True))
    torch.testing.assert_close(out[..., 1:62], cubic.clamp(-1, 1), rtol=0, atol=2e-5)
    out = compose(source, still(2, 64)._replace(flow=fields.flow[..., :1, :1].expand(2, 2, 64, 64)))
    torch.testing.assert_close(out[..., :-1], (source[..., :-1] + source[..., 1:]) / 2, rtol=0, atol=2e-5)


def test_what_flow_differs_by_within_a_patch_does_not_ripple_a_finer_source() -> None:
    source, fields = images(2, 96), still(2, 32)
    fields.flow[..., ::2, ::2] = fields.flow[..., 1::2, 1::2] = 0.02  # as on a draught-board
    shifted = fields._replace(flow=torch.full((2, 2, 32, 32), 0.01))
    inner = (..., slice(6, -6), slice(6, -6))  # at the rim there is no neighbour to average with
    smooth = compose(source, shifted)[inner]
    torch.testing.assert_close(compose(source, fields, patch=2)[inner], smooth, rtol=0, atol=2e-5)
    assert (compose(source, fields)[inner] - smooth).abs().max() > 0.01  # without patches flow is as G wrote it


@pytest.mark.parametrize("gain", [0.5, 1.25, 2.0])
def test_shade_multiplies_the_light_keeps_it_warm_and_stops_at_white(gain: float) -> None:
    source = images()
    out = compose(source, still(2, 32)._replace(shade=torch.full((2, 1, 32, 32), gain).log()))
    gains = torch.tensor([gain**0.85, gain**1.04, gain**1.21]).view(3, 1, 1)
    torch.testing.assert_close((out + 1) / 2, ((source + 1) / 2 * gains).clamp(max=1), rtol=0, atol=2e-5)


def test_shade_leaves_a_grey_as_bright_as_it_says() -> None:
    """By the luma of Rec. 601, to first order in the shade."""
    shade = torch.full((1, 1, 8, 8), -0.02)
    out = (compose(torch.zeros(1, 3, 8, 8), still(1, 8)._replace(shade=shade)) + 1) / 2
    luma = (out * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=1)
    torch.testing.assert_close(luma, 0.5 * shade[:, 0].exp(), rtol=0, atol=1e-4)


def test_a_flow_moves_every_item_by_its_own() -> None:
    source = images(1).expand(2, -1, -1, -1)
    fields = still(2, 32)
    fields.flow[1, 0] = 2 * 2 / 32
    out = compose(source, fields)
    torch.testing.assert_close(out[0], source[0], rtol=0, atol=2e-5)
    torch.testing.assert_close(out[1, :, :, :-2], source[1, :, :, 2:], rtol=0, atol=2e-5)


def test_fields_below_the_sources_resolution_are_up_sampled_linearly() -> None:
    """A ramp stays the same ramp, seen at the finer pixels' centres (the rim repeats the outermost value)."""

    def ramp(side: int) -> Tensor:
        return ((2 * torch.arange(side) + 1) / side - 1).expand(1, 3, side, side)

    fields = still(1, 16)._replace(mask=torch.ones(1, 1, 16, 16), colour=ramp(16))
    out = compose(images(1, 64), fields)
    inner = slice(2, -2)
    torch.testing.assert_close(out[..., inner], ramp(64)[..., inner], rtol=0, atol=1e-5)


def test_a_mask_below_the_sources_resolution_paints_the_same_place() -> None:
    fields = still(1, 16)
    fields.mask[..., :8] = 1
    source = images(1, 64)
    out = compose(source, fields._replace(colour=torch.full((1, 3, 16, 16), 0.25)))
    torch.testing.assert_close(out[..., :29], torch.full((1, 3, 64, 29), 0.25), rtol=0, atol=1e-6)
    torch.testing.assert_close(out[..., 35:], source[..., 35:], rtol=0, atol=2e-5)


def test_a_compose_stays_in_the_range_of_images() -> None:
    flow, shade = torch.rand(2, 2, 32, 32) - 0.5, 2 * torch.rand(2, 1, 32, 32) - 1
    fields = Fields(flow, shade, torch.rand(2, 1, 32, 32), images())
    assert compose(images(), fields).abs().max() <= 1 + 1e-6


def test_the_gradient_of_compose_is_finite_and_reaches_every_field() -> None:
    source = images()
    fields = Fields(*(field.requires_grad_(True) for field in still(2, 32)._replace(colour=images())))
    out = compose(source, fields._replace(mask=fields.mask + 0.5))
    (out * torch.randn_like(out)).sum().backward()
    for field in fields:
        assert field.grad.isfinite().all()
        assert field.grad.abs().mean() > 0


def test_the_gradient_of_compose_agrees_with_finite_differences() -> None:
    source = nn.functional.interpolate(torch.rand(1, 3, 4, 4, dtype=torch.float64), 8, mode="bicubic")
    flow = (0.07 + 0.01 * torch.rand(1, 2, 8, 8, dtype=torch.float64)).requires_grad_(True)  # between pixel centres
    shade = (-torch.rand(1, 1, 8, 8, dtype=torch.float64)).requires_grad_(True)  # below the clamp at white
    mask = torch.rand(1, 1, 8, 8, dtype=torch.float64).requires_grad_(True)
    colour = torch.rand(1, 3, 8, 8, dtype=torch.float64).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda *fields: compose(source, Fields(*fields)), (flow, shade, mask, colour))


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_an_untrained_compose_form_starts_from_the_source(patch: int) -> None:
    E, G = PyramidEncoder((8, 16), patch), ComposeGenerator((8, 16), conditioning=8, patch=patch)
    fields = G(E(images()), torch.rand(2, 17), torch.rand(2, 17))
    assert [tuple(field.shape) for field in fields] == [(2, n, 32, 32) for n in (2, 1, 1, 3)]
    assert fields.flow.abs().max() == 0
    assert fields.shade.abs().max() == 0
    assert fields.mask.max() < 0.15
