"""Moving pictures: frames in order, at their rate, in every format, with the record; and whole or not at all."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from eggan import animation
from eggan.animation import ENDINGS, MAX_SIDE, fitted, save_animation, there_and_back
from eggan.errors import EgganError
from eggan.faces import Photograph
from eggan.provenance import FaceEdit, Provenance, explain

RECORD = Provenance("small <&>", (FaceEdit(0, {"AU12_r": 0.0}, {"AU12_r": 4.0}),), made="animation of 4 frames")
LEVELS = (40, 90, 140, 190)


def frames(size: tuple[int, int] = (64, 48)) -> list[Image.Image]:
    """A gradient in whose middle a patch grows brighter."""
    pictures = []
    for level in LEVELS:
        picture = Image.linear_gradient("L").resize(size).convert("RGB")
        picture.paste((level, level, 30), (16, 16, 48, 32))
        pictures.append(picture)
    return pictures


def read(path: Path) -> list[np.ndarray]:
    if path.suffix == ".mp4":
        reader = imageio_ffmpeg.read_frames(str(path))
        width, height = next(reader)["size"]
        return [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    with Image.open(path) as picture:
        result = []
        for k in range(picture.n_frames):
            picture.seek(k)
            result.append(np.asarray(picture.convert("RGB")))
        return result


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_frames_come_back_in_order(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    save_animation(iter(frames()), path, 10, RECORD)
    got = read(path)
    assert len(got) == 4
    for picture, expected in zip(got, frames(), strict=True):
        assert np.abs(picture.astype(int) - np.asarray(expected)).mean() < 6
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_record_comes_back(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    save_animation(frames(), path, 10, RECORD)
    record = explain(path)
    assert record["model"] == "small <&>"
    assert record["made"] == "animation of 4 frames"
    assert record["edits"] == [{"face": 0, "source": {"AU12_r": 0.0}, "target": {"AU12_r": 4.0}}]
    assert record["ai_edited"] is True


@pytest.mark.parametrize("ending", ENDINGS)
def test_xmp_stands_where_the_format_has_its_place(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    save_animation(frames(), path, 10, RECORD)
    packet = {".gif": gif_xmp, ".webp": webp_xmp, ".mp4": mp4_xmp}[ending](path).decode(errors="replace")
    tree = ElementTree.fromstring(packet[packet.index("<x:") : packet.index("<?xpacket end")])
    (found,) = tree.iter("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert found.text == "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


def gif_xmp(path: Path) -> bytes:
    """By a reader that knows nothing of XMP: it goes from sub-block to sub-block, and must end at the trailer."""
    data = path.read_bytes()
    place = data.index(b"\x21\xff\x0bXMP DataXMP") + 14
    start = place
    while data[place]:
        place += 1 + data[place]
    assert data[place + 1 :] == b";"
    return data[start:place]


def webp_xmp(path: Path) -> bytes:
    with Image.open(path) as picture:
        return picture.info["xmp"]


def mp4_xmp(path: Path) -> bytes:
    data, place, found = path.read_bytes(), 0, b""
    while place < len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"uuid":
            assert data[place + 8 : place + 24].hex() == "be7acfcb97a942e89c71999491e3afac"
            found = data[place + 24 : place + length]
        place += length
    assert place == len(data)
    return found


def test_gif_and_webp_repeat_and_keep_their_rate(tmp_path: Path) -> None:
    for ending in (".gif", ".webp"):
        save_animation(frames(), tmp_path / f"a{ending}", 25, RECORD)
        with Image.open(tmp_path / f"a{ending}") as picture:
            picture.seek(1)
            picture.load()
            assert (picture.info["duration"], picture.info["loop"]) == (40, 0)


def test_mp4_keeps_its_rate_and_says_in_its_comment_what_it_is(tmp_path: Path) -> None:
    save_animation(frames(), tmp_path / "a.mp4", 12.5, RECORD)
    about = next(imageio_ffmpeg.read_frames(str(tmp_path / "a.mp4")))
    assert about["fps"] == pytest.approx(12.5, abs=0.01)
    assert RECORD.to_json().encode() in (tmp_path / "a.mp4").read_bytes()


def test_what_does_not_change_does_not_flicker_in_a_gif(tmp_path: Path) -> None:
    save_animation(frames(), tmp_path / "a.gif", 10, RECORD)
    first, *others = read(tmp_path / "a.gif")
    still = np.ones((48, 64), bool)
    still[16:32, 16:48] = False
    for other in others:
        np.testing.assert_array_equal(other[still], first[still])


def test_odd_sides_lose_a_pixel_in_mp4_and_none_elsewhere(tmp_path: Path) -> None:
    for ending, shape in ((".mp4", (48, 64, 3)), (".gif", (49, 65, 3)), (".webp", (49, 65, 3))):
        save_animation(frames((65, 49)), tmp_path / f"a{ending}", 10, RECORD)
        assert read(tmp_path / f"a{ending}")[0].shape == shape


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L"])
def test_frames_of_every_mode_are_written_and_clear_becomes_white(mode: str, tmp_path: Path) -> None:
    picture = Image.new("L", (32, 32), 20).convert(mode)
    if mode != "L":
        picture.putalpha(0)
    for ending in ENDINGS:
        save_animation([picture, picture], tmp_path / f"a{ending}", 10, RECORD)
        assert abs(int(read(tmp_path / f"a{ending}")[0][5, 5, 0]) - (20 if mode == "L" else 255)) < 4


def test_large_frames_are_reduced(tmp_path: Path) -> None:
    save_animation([Image.new("RGB", (2 * MAX_SIDE, 200), "tan")], tmp_path / "a.webp", 10, RECORD)
    with Image.open(tmp_path / "a.webp") as picture:
        assert picture.size == (MAX_SIDE, 100)
    photo = fitted(Photograph(np.zeros((100, 2 * MAX_SIDE, 3), np.uint8), np.zeros((100, 2 * MAX_SIDE), np.uint8)))
    assert photo.alpha is not None
    assert photo.pixels.shape[:2] == photo.alpha.shape == (50, MAX_SIDE)
    small = Photograph(np.zeros((20, 30, 3), np.uint8))
    assert fitted(small) is small


def test_too_many_frames_for_gif_are_refused_and_mp4_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(animation, "MAX_HELD", 3 * 64 * 48)
    for ending in (".gif", ".webp"):
        with pytest.raises(EgganError, match=r"4 frames are too many for GIF or WebP of this size: write \.mp4\."):
            save_animation(frames(), tmp_path / f"a{ending}", 10, RECORD)
    save_animation(frames(), tmp_path / "a.mp4", 10, RECORD)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_failure_in_the_middle_leaves_the_old_file_and_no_other(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"old")

    def failing() -> Iterator[Image.Image]:
        yield frames()[0]
        raise EgganError("stop")

    with pytest.raises(EgganError, match=r"^stop$"):
        save_animation(failing(), path, 10, RECORD)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_without_ffmpeg_one_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animation, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(EgganError, match=r'^MP4 is written with ffmpeg: pip install "eggan\[video\]", or .*\.$'):
        save_animation(frames(), tmp_path / "a.mp4", 10, RECORD)
    save_animation(frames(), tmp_path / "a.gif", 10, RECORD)


def test_another_ending_and_a_folder_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EgganError, match=r'"a\.avi" must end in one of \.gif, \.webp, \.mp4\.'):
        save_animation(frames(), tmp_path / "a.avi", 10, RECORD)
    (tmp_path / "file").write_text("")
    with pytest.raises(EgganError, match=r"a\.gif cannot be written \(.*\)\.$"):
        save_animation(frames(), tmp_path / "file/a.gif", 10, RECORD)


@pytest.mark.parametrize("steps", [2, 3, 26])
def test_there_and_back_is_a_loop_with_even_steps(steps: int) -> None:
    alphas = there_and_back(steps)
    assert len(alphas) == 2 * (steps - 1)
    assert (alphas[0], max(alphas)) == (0, 1)
    around = np.abs(np.diff([*alphas, alphas[0]]))
    np.testing.assert_allclose(around, 1 / (steps - 1))
