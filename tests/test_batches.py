"""Which rows a batch draws, and what augmentation may do to them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from eggan.action_units import NUMBERS
from eggan.data import Faces, augment, batches, draw_batch, read_faces, relight
from eggan.data.appearance import (
    AS_IT_IS_LIT,
    AS_IT_STANDS,
    draw_setting,
    draw_shadow,
    with_light,
    with_place,
    with_setting,
    with_shadow,
    with_teeth,
)
from eggan.data.batches import Photographs, TrainingRows
from eggan.pixels import middles

MakeFile = Callable[..., Path]


@pytest.fixture
def faces(make_faces_file: MakeFile) -> Faces:
    """24 rows of three people, the row's number / 10 written into AU 45."""
    return read_faces(make_faces_file(people=("cyd", "ann", "bob"), AU45_r=[i / 10 for i in range(24)]), 32)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches without augmentation."""
    monkeypatch.setattr(batches, "with_look", lambda images, look: images.float() / 127.5 - 1)


def rows_of(u: torch.Tensor) -> list[int]:
    """The rows that AU vectors come from."""
    return (u[:, NUMBERS.index(45)] * 50).round().int().tolist()


def test_paired_targets_are_of_the_sources_identity_and_session(faces: Faces, generator: torch.Generator) -> None:
    batch = draw_batch(TrainingRows(faces), 500, paired=True, generator=generator)
    sources, targets = rows_of(batch.u_i), rows_of(batch.u_t)
    assert faces.identity[sources].tolist() == faces.identity[targets].tolist()
    assert faces.session[sources].tolist() == faces.session[targets].tolist()


def test_paired_targets_are_all_rows_of_a_shot_alike(faces: Faces, generator: torch.Generator) -> None:
    batch = draw_batch(TrainingRows(faces), 4000, paired=True, generator=generator)
    pairs = list(zip(rows_of(batch.u_i), rows_of(batch.u_t), strict=True))
    counts = torch.tensor([[pairs.count((4 * s + i, 4 * s + j)) for i in range(4) for j in range(4)] for s in range(6)])
    assert counts.min() > 15  # 4000 / 96 = 42 expected
    assert counts.max() < 80


def test_pairs_are_found_in_shuffled_rows(faces: Faces, generator: torch.Generator) -> None:
    shuffled = faces.select(torch.randperm(24, generator=generator).numpy())
    batch = draw_batch(TrainingRows(shuffled), 500, paired=True, generator=generator)
    shot_of = dict(zip(rows_of(shuffled.action_units / 5), shuffled.shots.tolist(), strict=True))
    assert [shot_of[row] for row in rows_of(batch.u_i)] == [shot_of[row] for row in rows_of(batch.u_t)]


def test_shots_of_any_size_are_drawn_from_whole(faces: Faces, generator: torch.Generator) -> None:
    uneven = faces.select([0, 1, 2, 4])  # a shot of three rows, and one of one
    batch = draw_batch(TrainingRows(uneven), 200, paired=True, generator=generator)
    pairs = set(zip(rows_of(batch.u_i), rows_of(batch.u_t), strict=True))
    assert pairs == {(i, j) for i in range(3) for j in range(3)} | {(4, 4)}


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_pairs_begins_at_the_neutral_image_of_its_shot(
    faces: Faces, generator: torch.Generator, share: float
) -> None:
    emotion = np.array([["mixed", "neutral", "happy", "neutral"]] * 6).ravel()
    emotion[:4] = "mixed"  # a shot without a neutral image
    rows = TrainingRows(replace(faces, emotion=emotion))
    batch = draw_batch(rows, 4000, paired=True, generator=generator, from_neutral=share)
    sources, targets = (np.array(rows_of(u)) for u in (batch.u_i, batch.u_t))
    assert (sources // 4 == targets // 4).all()
    placed = [np.bincount(of[of >= 4] % 4, minlength=4) / (of >= 4).sum() for of in (sources, targets)]
    expected = (1 - share) / 4 + share * np.array([0, 1, 0, 0])
    np.testing.assert_allclose(placed[0], expected, atol=0.05)
    np.testing.assert_allclose(placed[1], 0.25, atol=0.05)
    np.testing.assert_allclose(np.bincount(sources[sources < 4]) / (sources < 4).sum(), 0.25, atol=0.08)


def test_unpaired_targets_are_any_rows_and_have_no_image(faces: Faces, generator: torch.Generator) -> None:
    batch = draw_batch(TrainingRows(faces), 500, paired=False, generator=generator)
    assert batch.I_t is None
    assert set(rows_of(batch.u_i)) == set(rows_of(batch.u_t)) == set(range(24))
    strangers = faces.identity[rows_of(batch.u_i)] != faces.identity[rows_of(batch.u_t)]
    assert 0.5 < strangers.mean() < 0.8  # two of three people


@pytest.mark.usefixtures("plain")
def test_images_belong_to_their_action_units(faces: Faces, generator: torch.Generator) -> None:
    batch = draw_batch(TrainingRows(faces), 100, paired=True, generator=generator)
    images = faces.images.float() / 127.5 - 1
    assert torch.equal(batch.I_i, images[rows_of(batch.u_i)])
    assert torch.equal(batch.I_t, images[rows_of(batch.u_t)])


def test_action_units_are_a_fifth_of_the_files(faces: Faces, generator: torch.Generator) -> None:
    batch = draw_batch(TrainingRows(faces), 100, paired=True, generator=generator)
    torch.testing.assert_close(batch.u_i, faces.action_units[rows_of(batch.u_i)] / 5)
    assert batch.u_i.min() >= 0
    assert batch.u_i.max() <= 1


@pytest.mark.parametrize("paired", [False, True])
def test_classes_are_places_in_the_sorted_people(faces: Faces, paired: bool, generator: torch.Generator) -> None:
    batch = draw_batch(TrainingRows(faces), 100, paired=paired, generator=generator)
    assert faces.people == ["ann", "bob", "cyd"]
    assert batch.c_i.dtype == torch.int64
    assert [faces.people[c] for c in batch.c_i] == faces.identity[rows_of(batch.u_i)].tolist()


def test_contempt_which_is_of_one_side_is_not_mirrored(
    faces: Faces, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[torch.Tensor] = []
    monkeypatch.setattr(batches, "with_look", lambda images, look: looks.append(look) or images / 127.5 - 1)
    emotion = faces.emotion.copy()
    emotion[::4] = "contemptuous"
    batch = draw_batch(TrainingRows(replace(faces, emotion=emotion)), 1000, paired=True, generator=generator)
    pairs = zip(rows_of(batch.u_i), rows_of(batch.u_t), strict=True)
    one_sided = torch.tensor([source % 4 == 0 or target % 4 == 0 for source, target in pairs])
    mirrored = looks[0][:, 0]
    assert mirrored[one_sided].sum() == 0
    assert mirrored[~one_sided].mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("paired", [False, True])
def test_the_same_seed_draws_the_same_batch(faces: Faces, paired: bool) -> None:
    one, other, third = (
        draw_batch(TrainingRows(faces), 16, paired=paired, generator=torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    )
    for name, value in vars(one).items():
        assert value is None if value is None else torch.equal(value, vars(other)[name])
    assert not torch.equal(one.I_i, third.I_i)


def test_a_batch_does_not_touch_the_global_generator(faces: Faces, generator: torch.Generator) -> None:
    before = torch.get_rng_state()
    draw_batch(TrainingRows(faces), 16, paired=True, generator=generator)
    assert torch.equal(torch.get_rng_state(), before)


def test_batch_images_are_float32_in_range(faces: Faces, generator: torch.Generator) -> None:
    batch = draw_batch(TrainingRows(faces), 64, paired=True, generator=generator)
    for images in (batch.I_i, batch.I_t):
        assert (images.dtype, images.shape) == (torch.float32, (64, 3, 32, 32))
        assert images.min() >= -1
        assert images.max() <= 1


def random_images(b: int, k: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 256, (b, k, 3, 8, 8), dtype=torch.uint8, generator=generator)


def test_augmentation_treats_the_images_of_an_item_alike(generator: torch.Generator) -> None:
    images = random_images(32, 1, generator).expand(-1, 3, -1, -1, -1)
    out = augment(images, generator)
    assert torch.equal(out[:, 0], out[:, 1])
    assert torch.equal(out[:, 0], out[:, 2])


def test_augmentation_treats_items_differently(generator: torch.Generator) -> None:
    out = augment(random_images(1, 1, generator).expand(32, -1, -1, -1, -1), generator)
    assert len({tuple(item.flatten()[:64].tolist()) for item in out}) > 25


def test_augmented_images_are_float32_in_range(generator: torch.Generator) -> None:
    extremes = torch.cat([random_images(32, 2, generator), torch.full((8, 2, 3, 8, 8), 255).byte()])
    out = augment(torch.cat([extremes, torch.zeros_like(extremes)]), generator)
    assert out.dtype == torch.float32
    assert out.min() >= -1
    assert out.max() <= 1


def test_augmentation_leaves_its_input_unchanged(generator: torch.Generator) -> None:
    images = random_images(16, 2, generator)
    before = images.clone()
    augment(images, generator)
    assert torch.equal(images, before)


def test_about_half_of_the_items_are_mirrored(generator: torch.Generator) -> None:
    images = torch.full((200, 1, 3, 8, 8), 100, dtype=torch.uint8)
    images[..., :4] = 150
    out = augment(images, generator)
    mirrored = out[..., 4:].mean(dim=(1, 2, 3, 4)) > out[..., :4].mean(dim=(1, 2, 3, 4))
    assert 70 < mirrored.sum() < 130


def test_a_picture_is_never_turned_upside_down(generator: torch.Generator) -> None:
    images = torch.full((50, 1, 3, 8, 8), 100, dtype=torch.uint8)
    images[..., :4, :] = 150
    out = augment(images, generator)
    assert (out[..., :4, :].mean(dim=(1, 2, 3, 4)) > out[..., 4:, :].mean(dim=(1, 2, 3, 4))).all()


def test_a_flat_grey_changes_in_brightness_alone_by_a_tenth_at_most(generator: torch.Generator) -> None:
    out = (augment(torch.full((200, 1, 3, 8, 8), 120, dtype=torch.uint8), generator) + 1) * 127.5
    assert (out.amax(dim=(1, 2, 3, 4)) - out.amin(dim=(1, 2, 3, 4)) < 1e-3).all()
    gain = out[:, 0, 0, 0, 0] / 120
    assert 0.9 <= gain.min() < 0.95
    assert 1.05 < gain.max() <= 1.1


# --- Other light -----------------------------------------------------------------------------------------------------


def test_relighting_keeps_the_range_and_changes_every_picture(generator: torch.Generator) -> None:
    x = torch.rand(6, 3, 8, 8, generator=generator) * 2 - 1
    lit = relight(x, generator)
    assert lit.shape == x.shape
    assert lit.abs().max() <= 1
    assert (lit - x).abs().mean(dim=(1, 2, 3)).min() > 0.01


def test_the_images_of_one_item_are_relit_alike_and_items_differently(generator: torch.Generator) -> None:
    x = (torch.rand(1, 1, 3, 8, 8, generator=generator) * 2 - 1).expand(6, 2, -1, -1, -1)
    lit = relight(x, generator)
    assert torch.equal(lit[:, 0], lit[:, 1])
    assert (lit[0] - lit[1:]).abs().mean(dim=(1, 2, 3, 4)).min() > 0.01


def test_relighting_reaches_from_shade_to_sun(generator: torch.Generator) -> None:
    brightness = relight(torch.zeros(500, 3, 8, 8), generator).mean(dim=(1, 2, 3))
    assert brightness.min() < -0.6
    assert brightness.max() > 0.5


# --- Randomised ------------------------------------------------------------------------------------------------------


def test_the_choices_that_change_nothing_change_nothing(generator: torch.Generator) -> None:
    x = torch.rand(3, 2, 3, 16, 16, generator=generator) * 2 - 1
    torch.testing.assert_close(with_place(x, torch.tensor(AS_IT_STANDS).expand(3, -1)), x, rtol=0, atol=1e-5)
    lit = with_light(x, torch.tensor(AS_IT_IS_LIT).expand(3, -1))
    torch.testing.assert_close(lit, x, rtol=0, atol=0.005)  # black is kept from 0, where gamma has no slope


def test_a_shift_by_half_a_side_brings_the_edge_to_the_middle() -> None:
    x = torch.zeros(1, 1, 3, 16, 16)
    x[..., -2:] = 1
    moved = with_place(x, torch.tensor([[0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]]))
    assert moved[..., 6:10].min() == 1  # the edge and its mirror image
    assert moved[..., :5].max() == 0


@pytest.mark.parametrize(("name", "point"), [("eye", (0.3, -0.21)), ("mouth", (0.0, 0.44)), ("ear", (-0.8, 0.0))])
def test_a_turned_head_shows_each_point_where_its_depth_carries_it(name: str, point: tuple[float, float]) -> None:
    axis = middles(128)
    spot = (-((axis - point[0]) ** 2 + (axis[:, None] - point[1]) ** 2) / 0.0005).exp()
    across, down = 0.4, 0.1
    shown = with_place(spot.expand(1, 2, 3, -1, -1), torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0, across, down]]))
    assert torch.equal(shown[:, 0], shown[:, 1])
    weights = shown[0, 0, 0] / shown[0, 0, 0].sum()
    x, y = (weights.sum(0) * axis).sum(), (weights.sum(1) * axis).sum()
    bump = [0.9 * math.exp(-2 * (px**2 + (py - 0.1) ** 2)) for px, py in (point, (0.3, -0.21))]
    nearer = bump[0] - bump[1]
    assert {"eye": abs(nearer) < 1e-6, "mouth": nearer > 0.05, "ear": nearer < -0.2}[name]
    assert x.item() == pytest.approx(point[0] + across * nearer, abs=0.01)
    assert y.item() == pytest.approx(point[1] + down * nearer, abs=0.01)


def test_a_shadow_darkens_one_side_of_its_edge_alike_in_all_images_of_an_item() -> None:
    x = torch.full((3, 2, 3, 64, 64), 0.6)
    upright, lying = [1.2, 0.0, 0.1, 0.05, 0.0, 0.0], [1.2, math.pi / 2, 0.1, 0.05, 0.0, 0.0]
    shown = with_shadow(x, torch.tensor([upright, lying, [0.0, *upright[1:]]])) + 1
    assert torch.equal(shown[:, 0], shown[:, 1])
    torch.testing.assert_close(shown[0, ..., 48:], torch.full((2, 3, 64, 16), 1.6 * math.exp(-1.2)))
    torch.testing.assert_close(shown[0, ..., :20], torch.full((2, 3, 64, 20), 1.6))
    torch.testing.assert_close(shown[1], shown[0].mT)
    assert torch.equal(shown[2], x[2] + 1)


def test_a_third_of_the_items_lies_in_a_shadow(generator: torch.Generator) -> None:
    depth = draw_shadow(3000, generator)[:, 0]
    assert (depth > 0).float().mean() == pytest.approx(1 / 3, abs=0.03)
    assert depth[depth > 0].min() >= 0.3


def test_a_setting_leaves_the_face_or_takes_it_to_the_tone_of_the_photograph(generator: torch.Generator) -> None:
    x = (torch.rand(1, 1, 3, 32, 32, generator=generator) - 0.5).expand(1, 2, -1, -1, -1)
    photo = 0.3 * torch.rand(1, 3, 32, 32, generator=generator) + 0.4
    before = with_setting(x, photo, torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(before[..., 16, 16], x[..., 16, 16], rtol=0, atol=0.01)
    torch.testing.assert_close(before[0, 0, :, 0, 0], photo[0, :, 0, 0], rtol=0, atol=0.01)
    toned = with_setting(x, photo, torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(toned[0].mean(dim=(2, 3)), photo.mean(dim=(2, 3)).expand(2, -1), rtol=0, atol=0.01)
    assert torch.equal(with_setting(x, photo, torch.zeros(1, 2)), x)


def test_teeth_become_redder_by_the_choice_and_nothing_else_changes() -> None:
    x = torch.tensor([0.8, 0.6, 0.5]).view(3, 1, 1).expand(2, 1, 3, 64, 64).clone()  # skin
    x[..., :, :4] = torch.tensor([0.7, 0.7, 0.7]).view(3, 1, 1)  # background, as grey as teeth
    x[..., 40:54, 22:42] = torch.tensor([0.7, 0.3, 0.3]).view(3, 1, 1)  # lips
    x[..., 44:52, 24:40] = torch.tensor([0.1, 0.1, 0.1]).view(3, 1, 1)  # the dark between them
    teeth = (..., slice(44, 48), slice(24, 40))
    x[teeth] = torch.tensor([0.7, 0.7, 0.62]).view(3, 1, 1)
    redder = (with_teeth(2 * x - 1, torch.tensor([[1.0], [1.1]])) + 1) / 2
    torch.testing.assert_close(redder[0], x[0])
    x[1][teeth] *= torch.tensor([1.1, 1, 1]).view(3, 1, 1)
    torch.testing.assert_close(redder[1], x[1])


def test_teeth_of_photographs_stay_as_they_are(make_faces_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(batches, "with_teeth", lambda x, redder: seen.append(redder) or x)
    photos = Photographs(torch.zeros(5, 3, 32, 32, dtype=torch.uint8), torch.ones(5, 17))
    draw = partial(draw_batch, paired=True, generator=torch.Generator(), photos=photos, unpaired=3, randomised=True)
    draw(TrainingRows(read_faces(make_faces_file(), 32)), 30)
    third = torch.arange(30) % 3 == 0
    (redder,) = seen
    assert (redder[third] == 1).all()
    assert (redder[~third] > 1).all()


def test_choices_of_settings_are_even(generator: torch.Generator) -> None:
    surroundings, tone = draw_setting(2000, generator).unbind(1)
    assert surroundings.mean() == pytest.approx(0.5, abs=0.05)
    assert (tone == 0).float().mean() == pytest.approx(0.5, abs=0.05)
    assert tone.max() <= 1


@pytest.mark.parametrize("randomised", [False, True])
@pytest.mark.parametrize("photographed", [False, True])
def test_a_batch_is_randomised_where_asked_for(
    make_faces_file: Callable[..., Path], randomised: bool, photographed: bool
) -> None:
    rows = TrainingRows(read_faces(make_faces_file(), 32))
    photos = Photographs(torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8), torch.zeros(5, 17))
    plain, drawn = (
        draw_batch(rows, 32, paired=True, generator=torch.Generator().manual_seed(2), randomised=r, photos=p)
        for r, p in ((False, None), (randomised, photos if photographed else None))
    )
    assert torch.equal(plain.u_t, drawn.u_t)
    assert torch.equal(plain.I_i, drawn.I_i) is not (randomised or photographed)
    assert torch.equal(plain.u_i, drawn.u_i) is not randomised
    assert drawn.u_i.min() >= 0
    assert drawn.I_i.abs().max() <= 1


def test_of_three_sources_one_is_a_photograph_and_one_a_render_asked_for_its_own_action_units_but_one(
    plain: None, make_faces_file: MakeFile
) -> None:
    rows = TrainingRows(read_faces(make_faces_file(), 32))
    photos = Photographs(
        torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 32, 32),
        torch.arange(5.0).view(5, 1) / 10 + torch.zeros(17),
    )
    seeded = partial(torch.Generator().manual_seed, 2)
    batch = draw_batch(rows, 32, paired=True, generator=seeded(), photos=photos, unpaired=3)
    alone = draw_batch(rows, 32, paired=True, generator=seeded())
    third, next_to_it, pairs = (torch.arange(32) % 3 == k for k in range(3))
    assert batch.unpaired is not None
    assert torch.equal(batch.unpaired, ~pairs)
    assert alone.unpaired is None
    assert batch.I_t is not None
    assert torch.equal(batch.I_i[third], batch.I_t[third])
    shown = (batch.I_i[third][:, 0, 0, 0] + 1) * 127.5
    torch.testing.assert_close(batch.u_i[third, 3] * 10, shown)
    assert (batch.c_i[third] < 0).all()
    assert torch.equal(batch.c_i[~third], alone.c_i[~third])
    assert torch.equal(batch.u_i[~third], alone.u_i[~third])
    assert torch.equal(batch.u_t[pairs], alone.u_t[pairs])
    whole = (batch.u_t[third] == alone.u_t[third]).all(dim=1)
    assert whole.any()
    assert not whole.all()
    changed = batch.u_t != batch.u_i
    jaw, lips = NUMBERS.index(26), NUMBERS.index(25)
    parted = changed[:, lips] & (changed.sum(dim=1) > 1) & (batch.u_t[:, lips] == 0.6 * batch.u_t[:, jaw])
    one = next_to_it | third.masked_scatter(third, ~whole)
    assert ((changed.sum(dim=1) - parted.long())[one] == 1).all(), "one of their own is set anew"
    assert (batch.u_t[one, lips] >= 0.6 * batch.u_t[one, jaw]).all()
    part = draw_batch(rows, 32, paired=True, generator=seeded(), photos=photos, unpaired=3, part=slice(8, 24))
    for name, value in vars(batch[8:24]).items():
        assert torch.equal(vars(part)[name], value), name
    for name, value in vars(batch[third]).items():
        assert torch.equal(value, vars(batch)[name][::3]), name


def test_a_pair_that_is_the_same_image_twice_stays_it_when_randomised(make_faces_file: Callable[..., Path]) -> None:
    rows = TrainingRows(read_faces(make_faces_file(), 32))
    photos = Photographs(torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8), torch.zeros(5, 17))
    batch = draw_batch(
        rows, 200, paired=True, generator=torch.Generator().manual_seed(2), randomised=True, photos=photos
    )
    clean = draw_batch(rows, 200, paired=True, generator=torch.Generator().manual_seed(2))
    assert batch.I_t is not None
    assert clean.I_t is not None
    same = (clean.I_i == clean.I_t).all(dim=(1, 2, 3))
    assert same.any()
    assert torch.equal(batch.I_i[same], batch.I_t[same])
