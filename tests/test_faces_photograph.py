"""Every common kind of photograph opens upright and in RGB; what cannot be opened is refused in one sentence."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from malformed import ENDINGS, encoded, png, smooth
from PIL import Image, ImageCms

from eggan.errors import EgganError
from eggan.faces import MAX_PIXELS, Photograph, open_photograph, to_photograph


def is_one_sentence(message: str) -> bool:
    return (
        "\n" not in message and message.endswith(".") and not re.search(r"[.!?] [A-Z]", message) and len(message) < 250
    )


def opened(tmp_path: Path, data: bytes, name: str = "a.bin") -> Photograph:
    (tmp_path / name).write_bytes(data)
    return open_photograph(tmp_path / name)


@pytest.mark.parametrize("ending", ENDINGS)
def test_each_kind_of_file_opens_in_its_colours(ending: str, tmp_path: Path) -> None:
    photo = opened(tmp_path, encoded(ENDINGS[ending]), f"a.{ending}")
    assert photo.pixels.dtype == np.uint8
    assert photo.pixels.shape == (60, 80, 3)
    assert np.abs(photo.pixels.astype(int) - np.asarray(smooth())).mean() < 8
    assert (photo.alpha, photo.grey, photo.profile, photo.notes) == (None, False, None, ())
    assert photo.name.endswith(f"a.{ending}")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, tmp_path: Path) -> None:
    upright = smooth()
    inverse = {
        2: 0,
        3: 3,
        4: 1,
        5: 5,
        6: 2,
        7: 6,
        8: 4,
    }  # FLIP_LEFT_RIGHT, ROTATE_180, ... that make the stored picture
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(inverse[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = opened(tmp_path, encoded("PNG", stored, exif=exif))
    np.testing.assert_array_equal(photo.pixels, np.asarray(upright))
    assert photo.notes == (() if orientation == 1 else ("turned upright by its EXIF orientation",))


def test_alpha_is_kept_aside_and_comes_back(tmp_path: Path) -> None:
    alpha = Image.linear_gradient("L").resize((80, 60))
    image = smooth()
    image.putalpha(alpha)
    photo = opened(tmp_path, encoded("PNG", image))
    np.testing.assert_array_equal(photo.pixels, np.asarray(smooth()))
    np.testing.assert_array_equal(photo.alpha, np.asarray(alpha))
    np.testing.assert_array_equal(np.asarray(photo.picture()), np.asarray(image))


def test_alpha_that_is_opaque_everywhere_is_none(tmp_path: Path) -> None:
    assert opened(tmp_path, encoded("PNG", smooth().convert("RGBA"))).alpha is None


def test_alpha_turns_with_the_picture(tmp_path: Path) -> None:
    image = smooth()
    image.putalpha(Image.linear_gradient("L").resize((80, 60)))
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = opened(tmp_path, encoded("PNG", image, exif=exif))
    assert photo.alpha is not None
    assert photo.alpha.shape == photo.pixels.shape[:2] == (80, 60)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_a_grey_photograph_becomes_rgb_and_grey_again(mode: str, tmp_path: Path) -> None:
    image = smooth().convert("L").convert(mode)
    photo = opened(tmp_path, encoded("PNG", image))
    assert photo.grey
    assert photo.pixels.shape == (60, 80, 3)
    np.testing.assert_array_equal(photo.pixels[..., 0], np.asarray(image.convert("L")))
    np.testing.assert_array_equal(np.asarray(photo.picture()), np.asarray(image.convert("L")))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_greys_are_scaled_and_not_clipped(form: str, tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 80).astype(np.uint16)[None].repeat(60, 0)
    photo = opened(tmp_path, encoded(form, Image.fromarray(values)))
    np.testing.assert_allclose(photo.pixels[0, :, 1], values[0] / 257, atol=0.51)
    assert photo.notes == ("8 of its 16 or more bits a channel",)
    assert photo.grey


def test_16_bit_colours_are_read_and_said(tmp_path: Path) -> None:
    photo = opened(tmp_path, deep_png())
    assert photo.pixels.shape == (16, 16, 3)
    assert (photo.pixels == [255, 128, 0]).all()
    assert photo.notes == ("8 of its 16 or more bits a channel",)


@pytest.mark.parametrize(("white", "dtype"), [(1, np.float32), (255, np.float32), (65535, np.float32), (255, np.int32)])
def test_floating_and_32_bit_greys_are_taken_by_their_range(white: float, dtype: type, tmp_path: Path) -> None:
    values = (np.linspace(0, white, 80)[None].repeat(60, 0)).astype(dtype)
    photo = opened(tmp_path, encoded("TIFF", Image.fromarray(values)))
    np.testing.assert_allclose(photo.pixels[0, :, 0], values[0] * (255 / white), atol=0.51)


@pytest.mark.parametrize("values", [np.nan, -1.0, 1e9, np.inf])
def test_greys_outside_any_range_are_refused(values: float, tmp_path: Path) -> None:
    with pytest.raises(EgganError, match=r"a\.bin has grey values outside 0\.\.65535: .*\.$"):
        opened(tmp_path, encoded("TIFF", Image.fromarray(np.full((60, 80), values, np.float32))))


def test_cmyk_is_converted_and_said(tmp_path: Path) -> None:
    photo = opened(tmp_path, encoded("JPEG", smooth().convert("CMYK"), quality=95))
    assert np.abs(photo.pixels.astype(int) - np.asarray(smooth())).mean() < 8
    assert photo.notes == ("converted from CMYK to RGB",)


def test_a_cmyk_photograph_with_a_profile_of_another_kind_still_opens(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = opened(tmp_path, encoded("JPEG", smooth().convert("CMYK"), icc_profile=profile))
    assert photo.profile is None
    assert np.abs(photo.pixels.astype(int) - np.asarray(smooth())).mean() < 10


def test_an_rgb_profile_is_kept_with_untouched_values(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = opened(tmp_path, encoded("PNG", icc_profile=profile))
    np.testing.assert_array_equal(photo.pixels, np.asarray(smooth()))
    assert photo.profile == profile
    assert photo.picture().info["icc_profile"] == profile


def test_a_palette_with_a_transparent_colour_is_resolved(tmp_path: Path) -> None:
    image = Image.new("P", (40, 40), 1)
    image.putpalette([255, 0, 0, 0, 200, 0])
    image.paste(0, (0, 0, 20, 40))
    photo = opened(tmp_path, encoded("PNG", image, transparency=0))
    assert (photo.pixels[:, 30] == [0, 200, 0]).all()
    assert photo.alpha is not None
    assert set(np.unique(photo.alpha)) == {0, 255}


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken_and_it_is_said(form: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue", "lime")]
    options = {} if form == "TIFF" else {"duration": 100}
    photo = opened(tmp_path, encoded(form, frames[0], save_all=True, append_images=frames[1:], **options))
    assert photo.pixels[20, 20, 0] > 240 > 20 > photo.pixels[20, 20, 2]
    assert photo.notes == ("the first frame of an animation",)


def test_a_phones_jpeg_with_a_second_picture_is_no_animation(tmp_path: Path) -> None:
    data = encoded("MPO", smooth(), save_all=True, append_images=[smooth(30, 40)])
    assert opened(tmp_path, data, "a.jpg").notes == ()


def test_a_damaged_exif_block_does_not_hide_the_picture(tmp_path: Path) -> None:
    photo = opened(tmp_path, encoded("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff junk"))
    assert photo.pixels.shape == (60, 80, 3)


def test_a_long_photograph_within_the_budget_opens(tmp_path: Path) -> None:
    photo = opened(tmp_path, encoded("PNG", Image.new("L", (20_000, 40), 77)))
    assert photo.pixels.shape == (40, 20_000, 3)


@pytest.mark.parametrize("size", [(20_000, 20_000), (MAX_PIXELS // 1000 + 1, 1000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(size: tuple[int, int], tmp_path: Path) -> None:
    with pytest.raises(EgganError, match=r"a\.bin.* has more than 80 million pixels: make it smaller first\.$"):
        opened(tmp_path, png(*size, b""))


def test_a_picture_in_memory_is_refused_by_the_same_rules() -> None:
    with pytest.raises(
        EgganError, match=r"^the picture is 8×8 pixels: give a photograph of at least 16 on each side\.$"
    ):
        to_photograph(Image.new("RGB", (8, 8)))
    assert to_photograph(Image.new("RGB", (16, 16)), "it").name == "it"


def test_other_pixels_take_the_photographs_alpha() -> None:
    image = smooth()
    image.putalpha(100)
    photo = to_photograph(image)
    other = photo.picture(255 - photo.pixels)
    assert other.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(other)[..., :3], 255 - photo.pixels)
    assert np.asarray(other)[0, 0, 3] == 100


def deep_png() -> bytes:
    row = b"\0" + struct.pack(">HHH", 65535, 32900, 100) * 16
    return png(16, 16, row * 16, depth=16)


@pytest.mark.parametrize("ending", ENDINGS)
def test_single_wrong_bytes_give_a_photograph_or_one_sentence(ending: str, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    data = encoded(ENDINGS[ending])
    for number in range(60):
        garbled = bytearray(data)
        for place in random.integers(0, len(data), 1 + number % 4):
            garbled[place] = random.integers(0, 256)
        try:
            photo = opened(tmp_path, bytes(garbled), f"a.{ending}")
        except EgganError as refused:
            assert is_one_sentence(str(refused).replace(str(tmp_path), ""))
        else:
            assert photo.pixels.ndim == 3


def test_what_is_no_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EgganError, match=r"^There is no file .*none\.jpg\.$"):
        open_photograph(tmp_path / "none.jpg")
    with pytest.raises(EgganError, match=r" is a folder, not a photograph\.$"):
        open_photograph(tmp_path)


def test_a_file_that_may_not_be_read_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(EgganError, match=r"a\.jpg may not be read: change its permissions\.$"):
        open_photograph(tmp_path / "a.jpg")
