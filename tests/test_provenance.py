"""The AI-edited mark: in every format, readable back, and files whole or absent."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from eggan.errors import EgganError
from eggan.provenance import Provenance, explain, save_picture

RECORD = Provenance(model="small <&>", source={"AU12_r": 0.0}, target={"AU12_r": 4.0})
PICTURE = Image.new("RGB", (16, 16), "tan")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG", "a.webp"])
def test_the_record_comes_back_from_every_format(name: str, tmp_path: Path) -> None:
    save_picture(PICTURE, tmp_path / name, RECORD)
    record = explain(tmp_path / name)
    assert record is not None
    assert record["ai_edited"] is True
    assert record["model"] == "small <&>"
    assert record["target"] == {"AU12_r": 4.0}
    assert str(record["software"]).startswith("eggan ")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_xmp_is_well_formed_and_names_the_iptc_source_type(name: str, tmp_path: Path) -> None:
    save_picture(PICTURE, tmp_path / name, RECORD)
    with Image.open(tmp_path / name) as picture:
        xmp = picture.info["xmp"]
    packet = xmp.decode() if isinstance(xmp, bytes) else xmp
    tree = ElementTree.fromstring(packet[packet.index("<x:") : packet.index("<?xpacket end")])
    (found,) = tree.iter("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert found.text == "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


def test_a_picture_of_other_origin_has_no_record(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "plain.png")
    assert explain(tmp_path / "plain.png") is None


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
