"""What the page does with a photograph, without the page: the same as the command line, and sentences for mistakes."""

from __future__ import annotations

import gc
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eggan import Editor
from eggan.action_units import ACTION_UNITS, NUMBERS
from eggan.errors import EgganError
from eggan.page import desk as desk_module
from eggan.page.desk import KINDS, MAX_PIXELS, Desk, Start
from eggan.page.layout import FACES
from eggan.provenance import explain

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def desk(portrait: Editor, tmp_path: Path) -> Desk:
    return Desk(portrait, tmp_path / "results")


@pytest.fixture
def face(photograph: Image.Image, tmp_path: Path) -> Path:
    path = tmp_path / "my face; no 'quotes'.png"
    photograph.save(path)
    return path


@pytest.fixture
def both(group: Image.Image, tmp_path: Path) -> Path:
    path = tmp_path / "both.png"
    group.save(path)
    return path


def moved(start: Start, **values: float) -> list[float]:
    """The sliders of a start with some moved: `au4=2`."""
    return [values.get(f"au{n}", own) for n, own in zip(NUMBERS, start.sliders, strict=True)]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=int)


def test_the_sliders_start_at_the_face_s_own_intensities(desk: Desk, face: Path, portrait: Editor) -> None:
    start = desk.own(face, 0)
    assert np.abs(np.array(start.sliders) - portrait.action_units(face)).max() <= 0.05 + 1e-9
    assert desk.command(face, 0, start, start.sliders) == ""


def test_untouched_sliders_leave_the_face_s_exact_intensities(desk: Desk, face: Path) -> None:
    start = desk.own(face, 0)
    edit = explain(desk.edit(face, 0, start, moved(start, au12=4.0)))["edits"][0]
    others = {column: value for column, value in edit["source"].items() if column != "AU12_r"}
    assert edit["target"] == {**edit["source"], "AU12_r": 4.0} and any(v * 10 % 1 for v in others.values())


def test_the_command_makes_the_edit_that_is_saved(
    desk: Desk, face: Path, both: Path, eggan: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(face.parent)
    own, happy, like = desk.own(both, 1), desk.emotion("happy", 0.8), desk.like(face)
    cases = [
        (face, 0, happy, moved(happy, au4=2.0)),
        (face, 0, desk.own(face, 0), moved(desk.own(face, 0), au25=3.3)),
        (both, 1, own, moved(own, au1=4.0, au2=4.0)),
        (both, 0, like, like.sliders),
    ]
    for path, number, start, sliders in cases:
        saved = desk.save(path, number, start, sliders, "Picture, JPEG")
        words = shlex.split(desk.command(path, number, start, sliders))
        assert words[0] == "eggan"
        code, said, _ = eggan(*words[1:])
        assert code == 0, said
        written = Path(said.strip())
        assert written.name == saved.name
        assert explain(written) == explain(saved)
        assert (pixels(written) == pixels(saved)).all()


def test_an_emotion_has_its_strength(desk: Desk) -> None:
    start = desk.emotion("happy", 0.5)
    assert start.option == "--emotion happy:0.5"
    assert {n: v for n, v in zip(NUMBERS, start.sliders, strict=True) if v} == {6: 2.0, 12: 2.2, 25: 2.0}
    assert start.targets[12] == 2.25
    assert desk.emotion("happy", 1).option == "--emotion happy"


def test_of_several_faces_the_largest_is_the_first_and_all_are_numbered(desk: Desk, both: Path, face: Path) -> None:
    opened = desk.open(both)
    assert opened.faces == (0, 1) and opened.numbered is not None
    assert (np.abs(pixels(opened.numbered) - pixels(opened.shown)).max(axis=2) > 60).sum() > 500
    assert desk.open(face).numbered is None
    start = desk.own(both, 1)
    change = np.abs(pixels(desk.edit(both, 1, start, moved(start, au26=5.0))) - pixels(opened.shown)).max(axis=2) > 40
    assert change[:, :200].any() and not change[:, 260:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_says_what_was_done(desk: Desk, face: Path, kind: str) -> None:
    start = desk.emotion("surprised", 0.6)
    saved = desk.save(face, 0, start, start.sliders, kind)
    record = explain(saved)
    assert saved.suffix == KINDS[kind] and saved.name.startswith("my face")
    assert record["ai_edited"] and record["edits"][0]["target"]["AU01_r"] == 3.0
    assert (
        record["made"].split()[0]
        == {"Picture": "edit", "Animation": "animation", "Strip": "strip"}[kind.split()[0].strip(",")]
    )


def test_a_saved_picture_has_the_photograph_s_own_size(desk: Desk, photograph: Image.Image, tmp_path: Path) -> None:
    photograph.resize((1920, 1760)).save(tmp_path / "large.jpg")
    start = desk.emotion("sad", 1)
    saved = desk.save(tmp_path / "large.jpg", 0, start, start.sliders, "Picture, PNG")
    assert pixels(saved).shape[:2] == (1760, 1920)
    assert max(pixels(desk.edit(tmp_path / "large.jpg", 0, start, start.sliders)).shape) == 1280


def test_bad_uploads_are_one_sentence_that_names_the_file_only(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    Image.new("RGB", (8000, 5000)).save(tmp_path / "forty.png")
    Image.new("RGB", (300, 300)).save(tmp_path / "black.png")
    said = {
        "notes.txt": "cannot be read",
        "forty.png": f"more than {MAX_PIXELS // 1_000_000} million pixels",
        "black.png": "No face was found",
        "gone.png": "There is no file",
    }
    for name, words in said.items():
        with pytest.raises(EgganError, match=words) as error:
            desk.open(tmp_path / name)
        assert name in str(error.value) and str(tmp_path) not in str(error.value)


def test_an_unknown_kind_is_refused(desk: Desk, face: Path) -> None:
    with pytest.raises(EgganError, match="cannot be saved"):
        desk.save(face, 0, desk.own(face, 0), desk.own(face, 0).sliders, "Film")


def test_the_oldest_edits_and_the_pictures_of_forgotten_photographs_go(
    portrait: Editor, face: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "KEPT", 2)
    desk = Desk(portrait, tmp_path / "results")
    start = desk.own(face, 0)
    edits = [desk.edit(face, 0, start, moved(start, au12=float(k))) for k in range(4)]
    assert [edit.exists() for edit in edits] == [False, False, True, True]
    shown = desk.open(face).shown
    assert shown.exists()
    desk.open.cache_clear()
    gc.collect()
    assert not shown.exists()


def test_every_example_has_a_face_that_can_be_edited(desk: Desk) -> None:
    examples = sorted(FACES.glob("*.webp"))
    assert 0 < len(examples) <= 8 and (FACES / "LICENSE").is_file()
    for path in examples:
        assert path.stat().st_size <= 100_000
        assert desk.open(path).faces == (0,)


def test_every_action_unit_has_a_name_a_muscle_and_a_region() -> None:
    regions = {"brows": 3, "eyes": 3, "nose and cheeks": 2, "mouth": 7, "chin and jaw": 2}
    counted: dict[str, int] = {}
    for unit in ACTION_UNITS:
        assert unit.name and unit.muscle
        counted[unit.region] = counted.get(unit.region, 0) + 1
    assert counted == regions
