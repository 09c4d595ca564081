"""Annotating: a row a face, a reason where there is none, and a job that always ends."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eggan.action_units import COLUMNS
from eggan.annotate import Row, annotate, less_neutral, list_photographs, write_rows
from eggan.data.by_file import ByFile
from eggan.data.folder import Person, read_people
from eggan.data.openface import OpenFace, Reading, read_table
from eggan.errors import EgganError

Rendered = dict[tuple[str, str], Image.Image]


@pytest.fixture
def photos(tmp_path: Path, rendered: Rendered) -> Path:
    """A folder with a crop, a face in a large picture, two faces, none, a broken file, and what is no picture."""
    folder = tmp_path / "photos"
    (folder / "sub" / ".trash").mkdir(parents=True)
    (who, _), *_ = rendered
    happy, neutral = rendered[who, "happy"], rendered[who, "neutral"]
    happy.convert("RGB").save(folder / "a.png")
    wide = Image.new("RGB", (700, 400), "grey")
    wide.paste(neutral.resize((300, 300)), (380, 50))
    wide.save(folder / "sub" / "b.jpg", quality=95)
    wide.paste(happy.resize((150, 150)), (100, 100))
    wide.save(folder / "sub" / "c.jpg", quality=95)
    Image.new("RGB", (64, 64)).save(folder / "dark.png")
    (folder / "broken.jpg").write_bytes((folder / "sub" / "b.jpg").read_bytes()[:2000])
    (folder / "notes.txt").write_text("no picture")
    wide.save(folder / "sub" / ".trash" / "old.jpg")
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_becomes_a_row_a_face_and_a_reason_where_there_is_none(
    photos: Path, tmp_path: Path, eggan: Callable[..., tuple[int, str, str]]
) -> None:
    out = tmp_path / "new" / "aus.csv"
    code, said, _ = eggan("annotate", photos, "-o", out)
    rows = {Path(row["file"]).name: row for row in rows_of(out)}
    assert list(rows) == ["a.png", "broken.jpg", "dark.png", "b.jpg", "c.jpg"]
    assert (code, said) == (0, f"{out}: 3 faces read in 5 files; rows with a reason instead: 2\n")
    assert "cut off or damaged" in rows["broken.jpg"]["reason"]
    assert "No face was found" in rows["dark.png"]["reason"]
    assert rows["dark.png"]["AU12_r"] == ""
    assert float(rows["a.png"]["AU12_r"]) > 1 > float(rows["b.jpg"]["AU12_r"])
    left, top, right, bottom = (float(rows["b.jpg"][side]) for side in ("left", "top", "right", "bottom"))
    assert 380 <= left < 530 < right <= 680
    assert 50 <= top < 200 < bottom <= 350
    assert float(rows["b.jpg"]["score"]) > 0
    assert [column for column in rows["a.png"] if column.startswith("AU")] == list(COLUMNS)


def test_all_faces_or_one_by_its_number(
    photos: Path, tmp_path: Path, eggan: Callable[..., tuple[int, str, str]]
) -> None:
    out = tmp_path / "aus.csv"
    assert eggan("annotate", photos / "sub" / "c.jpg", "-o", out, "--face", "all")[0] == 0
    large, small = rows_of(out)
    assert (large["face"], small["face"]) == ("0", "1")
    assert float(large["left"]) > float(small["left"])
    assert eggan("annotate", photos / "sub" / "c.jpg", "-o", out, "--face", "1")[0] == 0
    assert rows_of(out) == [small]
    code, _, err = eggan("annotate", photos / "sub" / "c.jpg", "-o", out, "--face", "both")
    assert (code, err) == (1, 'eggan: --face is largest, all or a number from 0, not "both".\n')


def test_nothing_read_is_an_exit_code_and_a_table_that_says_why(
    photos: Path, tmp_path: Path, eggan: Callable[..., tuple[int, str, str]]
) -> None:
    out = tmp_path / "aus.csv"
    code, said, err = eggan("annotate", photos / "dark.png", photos / "nowhere.png", "-o", out)
    assert (code, said) == (1, "")
    assert "No face was read" in err
    assert [row["reason"][:9] for row in rows_of(out)] == ["No face w", "There is "]


def test_the_table_is_read_again_as_it_was_written(
    photos: Path, tmp_path: Path, eggan: Callable[..., tuple[int, str, str]]
) -> None:
    out, again = tmp_path / "aus.csv", tmp_path / "again.csv"
    eggan("annotate", photos, "-o", out)
    assert eggan("annotate", "--from", out, "-o", again)[0] == 0
    assert again.read_text() == out.read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-o", "a.csv"], "Give either photographs or, by --from, OpenFace's CSVs."),
        (["photos", "--from", "a.csv", "-o", "b.csv"], "Give either photographs or"),
        (["photos", "-o", "photos/a.png"], "must end in .csv"),
        (["--from", "a.csv", "-o", "a.csv"], "be none of the tables that are read"),
        (["photos/sub/.trash/empty", "-o", "a.csv"], "empty holds no photograph."),
        (["photos", "-o", "a.csv", "--with", "openface"], "set OPENFACE_BIN to its path"),
        (["photos", "-o", "photos/notes.txt/a.csv"], "a.csv cannot be written (File exists)"),
        (["photos", "-o", "a.csv", "--people", "people.csv"], "There is no file people.csv"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    arguments: list[str],
    sentence: str,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    eggan: Callable[..., tuple[int, str, str]],
) -> None:
    monkeypatch.chdir(photos.parent)
    monkeypatch.delenv("OPENFACE_BIN", raising=False)
    (photos / "sub" / ".trash" / "empty").mkdir()
    before = {path: path.read_bytes() for path in photos.parent.rglob("*") if path.is_file()}
    code, out, err = eggan("annotate", *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("eggan: ")
    assert sentence in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in photos.parent.rglob("*") if path.is_file()} == before


def test_a_photograph_named_twice_is_read_once(photos: Path) -> None:
    listed = list_photographs([photos / "a.png", photos, photos / "sub" / "b.jpg"])
    assert [path.name for path in listed] == ["a.png", "broken.jpg", "dark.png", "b.jpg", "c.jpg"]


def test_openface_reads_whole_photographs_and_keeps_their_order(
    photos: Path, make_openface: Callable[..., Path], tmp_path: Path
) -> None:
    rows = annotate(list_photographs([photos]), OpenFace(make_openface()))
    by_name = {Path(row.file).name: row.reading for row in rows}
    assert list(by_name) == ["a.png", "broken.jpg", "dark.png", "b.jpg", "c.jpg"]
    assert by_name["dark.png"].reason.startswith("OpenFace found no face")
    assert "cut off or damaged" in by_name["broken.jpg"].reason
    assert by_name["b.jpg"].box == (210.0, 120.0, 490.0, 280.0)
    brightness = np.asarray(Image.open(photos / "a.png")).mean() / 51
    units = by_name["a.png"].action_units
    assert units is not None
    assert units[0] == pytest.approx(brightness, abs=0.15)
    assert (tmp_path / "log").read_text().split() == ["700", "4"]  # one run, without the broken one
    both = annotate([photos / "a.png"], OpenFace(make_openface()), "all")
    assert [(row.reading.face, bool(row.reading.reason)) for row in both] == [(0, False), (1, True)]
    (third,) = annotate([photos / "a.png"], OpenFace(make_openface()), "2")
    assert third.reading.reason == f"{photos / 'a.png'} has no face 2: OpenFace found 2, counted from 0."


def test_an_openface_that_fails_is_a_reason_in_every_row(photos: Path, make_openface: Callable[..., Path]) -> None:
    rows = annotate(list_photographs([photos]), OpenFace(make_openface("#!{python}\nexit(3)\n")))
    assert len(rows) == 5
    assert sum("failed with exit code 3" in row.reading.reason for row in rows) == 4


def reading(level: float, **more: object) -> Reading:
    return Reading(face=0, confidence=0.9, action_units=(level,) * 17)._replace(**more)


def test_the_mean_neutral_of_the_same_person_is_subtracted_and_stops_at_0() -> None:
    people = ByFile(
        {
            "ann/1.jpg": Person("ann", "neutral"),
            "ann/2.jpg": Person("ann", "neutral"),
            "ann/3.jpg": Person("ann", "happy"),
            "bob/1.jpg": Person("bob", "happy"),
        }
    )
    levels = {"x/ann/1.jpg": 1.0, "x/ann/2.jpg": 2.0, "x/ann/3.jpg": 4.0, "x/bob/1.jpg": 3.0, "x/cyd/1.jpg": 3.0}
    rows = less_neutral([Row(file, reading(level)) for file, level in levels.items()], people)
    assert [row.reading.action_units and row.reading.action_units[0] for row in rows] == [0, 0.5, 2.5, None, None]
    assert [row.reading.reason for row in rows[3:]] == [
        "no neutral face of bob was read",
        "not in the table of people",
    ]


def test_frames_of_a_video_are_subtracted_each_but_faces_of_a_group_are_not() -> None:
    people = ByFile({"n": Person("ann", "neutral"), "v": Person("ann", "happy"), "g": Person("ann", "happy")})
    rows = [Row("n", reading(1)), Row("v", reading(2, frame=1)), Row("v", reading(3, frame=2))]
    rows += [Row("g", reading(2)), Row("g", reading(3, face=1))]
    less = less_neutral(rows, people)
    assert [row.reading.action_units and row.reading.action_units[0] for row in less] == [0, 1, 2, None, None]
    assert "one of several faces" in less[-1].reading.reason


def test_people_are_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("identity, file, emotion\nann, 1.jpg, neutral\n\nbob, 2.jpg, happy\n", encoding="utf-8-sig")
    assert read_people(path) == {"1.jpg": Person("ann", "neutral"), "2.jpg": Person("bob", "happy")}
    for content, sentence in (
        ("", "lacks the column file"),
        ("file,identity\n1.jpg,ann\n", "lacks the column emotion"),
        ("file,identity,emotion\n1.jpg,,happy\n", "line 2, column identity: is empty"),
        ("file,identity,emotion\n1.jpg,ann\n", "line 2, column emotion: is empty"),
        ("file,identity,emotion\n1.jpg,ann,sad\n1.jpg,ann,happy\n", "line 3: 1.jpg is named a second time"),
    ):
        path.write_text(content)
        with pytest.raises(EgganError, match=sentence):
            read_people(path)


@pytest.mark.parametrize(
    ("name", "file", "found"),
    [
        ("a.jpg", "photos/a.jpg", True),
        ("photos/a.jpg", "a.jpg", True),
        ("/home/me/photos/a.jpg", "elsewhere/photos/a.jpg", False),
        ("/home/me/photos/a.jpg", "../photos/a.jpg", True),
        ("/home/me/photos/a.jpg", "../../a.jpg", True),
        ("/home/me/photos/a.jpg", "../other/a.jpg", False),
        ("photos/a.jpg", "other/a.jpg", False),
        ("a", "photos/a.jpg", True),
        ("a.jpg", "a", True),
        ("a.png", "a.jpg", False),
        ("img.001", "img.001.jpg", True),
        ("img.001", "img.jpg", False),
    ],
)
def test_a_file_is_found_by_as_much_of_its_path_as_both_have(name: str, file: str, found: bool) -> None:
    assert (ByFile({name: 1}).find(file) == 1) == found


def test_a_file_that_several_entries_may_mean_is_refused() -> None:
    table = ByFile({"ann/1.jpg": 1, "bob/1.jpg": 2})
    with pytest.raises(EgganError, match=r"1\.jpg may be ann/1\.jpg or bob/1\.jpg"):
        table.find("1.jpg")


def test_names_that_are_no_utf8_survive_the_table(tmp_path: Path) -> None:
    write_rows([Row("caf\udce9.jpg", reading(1))], tmp_path / "a.csv")
    assert list(read_table(tmp_path / "a.csv")) == ["caf\udce9.jpg"]
