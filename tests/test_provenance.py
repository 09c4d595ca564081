"""The AI-edited mark: in every format, readable back, and files whole or absent."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image, ImageCms

from eggan.errors import EgganError
from eggan.provenance import FaceEdit, Provenance, explain, save_picture

RECORD = Provenance("small <&>", (FaceEdit(0, {"AU12_r": 0.0}, {"AU12_r": 4.0}),))
PICTURE = Image.new("RGB", (16, 16), "tan")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG", "a.webp"])
def test_the_record_comes_back_from_every_format(name: str, tmp_path: Path) -> None:
    save_picture(PICTURE, tmp_path / name, RECORD)
    record = explain(tmp_path / name)
    assert record["ai_edited"] is True
    assert record["model"] == "small <&>"
    assert record["edits"] == [{"face": 0, "source": {"AU12_r": 0.0}, "target": {"AU12_r": 4.0}}]
    assert record["software"].startswith("eggan ")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_xmp_is_well_formed_and_names_the_iptc_source_type(name: str, tmp_path: Path) -> None:
    save_picture(PICTURE, tmp_path / name, RECORD)
    with Image.open(tmp_path / name) as picture:
        xmp = picture.info["xmp"]
    packet = xmp.decode() if isinstance(xmp, bytes) else xmp
    tree = ElementTree.fromstring(packet[packet.index("<x:") : packet.index("<?xpacket end")])
    (found,) = tree.iter("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert found.text == "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


def test_a_file_of_other_origin_has_no_record(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "plain.png")
    (tmp_path / "broken.png").write_bytes(b"<eggan:edit>{</eggan:edit>")
    for name in ("plain.png", "broken.png"):
        with pytest.raises(EgganError, match=rf"{name} has no record of an edit by eggan\.$"):
            explain(tmp_path / name)
    with pytest.raises(EgganError, match=r"absent\.png cannot be read \(No such file"):
        explain(tmp_path / "absent.png")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L"])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_every_mode_is_written_in_every_format(mode: str, name: str, tmp_path: Path) -> None:
    picture = PICTURE.convert(mode)
    if mode != "L":
        picture.putalpha(0)
    save_picture(picture, tmp_path / name, RECORD)
    with Image.open(tmp_path / name) as written:
        alpha = mode != "L" and name != "a.jpg"
        assert written.has_transparency_data == alpha
        if mode != "L" and not alpha:
            assert set(written.convert("L").tobytes()) == {255}


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_a_colour_profile_is_written(name: str, tmp_path: Path) -> None:
    picture = PICTURE.copy()
    picture.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    save_picture(picture, tmp_path / name, RECORD)
    with Image.open(tmp_path / name) as written:
        assert written.info["icc_profile"] == picture.info["icc_profile"]


def test_a_picture_too_long_for_its_format_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(EgganError, match=r"a\.webp cannot be written \(.*\): give another ending\.$"):
        save_picture(Image.new("RGB", (17_000, 16)), tmp_path / "a.webp", RECORD)
    assert list(tmp_path.iterdir()) == []


def test_another_ending_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(EgganError, match=r'"a\.bmp" must end in one of \.png'):
        save_picture(PICTURE, tmp_path / "a.bmp", RECORD)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_picture_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    save_picture(PICTURE, path, RECORD)
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(EgganError, match=r"a\.png cannot be written \(No space left on device\)"):
        save_picture(PICTURE, path, RECORD)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
