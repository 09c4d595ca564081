"""OpenFace's program and tables: what counts, what does not and why, and one sentence where they are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eggan.action_units import COLUMNS
from eggan.data.openface import OpenFace, most_confident, read_table, read_tables
from eggan.errors import EgganError

PICTURE = ("face", "confidence")
VIDEO = ("frame", "face_id", "timestamp", "confidence", "success")
TWOS = ["2.00"] * 17


def write(path: Path, columns: tuple[str, ...], *rows: list[str], aus: tuple[str, ...] = COLUMNS) -> Path:
    """A CSV as OpenFace writes it: a comma and a space, and occurrences after the intensities."""
    lines = [[*columns, *aus, "AU01_c", "AU28_c"], *([*row, "1", "0"] for row in rows)]
    path.write_text("".join(", ".join(line) + "\n" for line in lines))
    return path


def grey(level: float, size: int = 40) -> np.ndarray:
    return np.full((size, size, 3), round(level * 51), np.uint8)


def test_a_table_of_pictures_has_a_reading_a_face(tmp_path: Path) -> None:
    path = write(tmp_path / "group.csv", PICTURE, ["0", "0.975", *TWOS], ["1", "0.925", *["0.5"] * 17])
    (one, other) = read_table(path)["group"]
    assert (one.face, one.frame, one.confidence, one.action_units) == (0, None, 0.975, (2.0,) * 17)
    assert (other.face, other.action_units, other.reason) == (1, (0.5,) * 17, "")
    assert most_confident([other, one]) == one


def test_a_table_of_a_video_has_a_reading_a_frame(tmp_path: Path) -> None:
    rows = [[str(k), "0", f"{k / 25:.3f}", "0.98", str(int(k != 2)), *[f"{k / 2:.2f}"] * 17] for k in (1, 2, 3)]
    readings = read_table(write(tmp_path / "S001-001.csv", VIDEO, *rows))["S001-001"]
    assert [reading.frame for reading in readings] == [1, 2, 3]
    assert [reading.action_units and reading.action_units[0] for reading in readings] == [0.5, None, 1.5]
    assert readings[1].reason == "OpenFace says that it failed (success 0)"


def test_the_columns_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    values = [f"{k / 10:.2f}" for k in range(17)]
    path = write(tmp_path / "a.csv", PICTURE, ["0", "0.9", *reversed(values)], aus=COLUMNS[::-1])
    assert read_table(path)["a"][0].action_units == tuple(float(value) for value in values)


def test_the_box_is_the_bounds_of_the_landmarks(tmp_path: Path) -> None:
    landmarks = tuple(f"{axis}_{k}" for axis in "xy" for k in range(68))
    where = [f"{100 + k}.5" for k in range(68)] + [f"{300 - k}.0" for k in range(68)]
    path = write(tmp_path / "a.csv", (*PICTURE, *landmarks), ["0", "0.9", *where, *TWOS])
    assert read_table(path)["a"][0].box == (100.5, 233.0, 167.5, 300.0)


@pytest.mark.parametrize(
    ("confidence", "aus", "reason"),
    [
        ("0.74", TWOS, "OpenFace's confidence 0.74 is below 0.75"),
        ("0", TWOS, "OpenFace's confidence 0 is below 0.75"),
        ("-nan", TWOS, "OpenFace's confidence nan is below 0.75"),
        ("0.9", ["-nan"] * 17, "AU01_r is nan, not a number from 0 to 5"),
        ("0.9", [*["1"] * 16, "5.2"], "AU45_r is 5.2, not a number from 0 to 5"),
        ("0.9", ["1", "", *["1"] * 15], "AU02_r is empty, not a number from 0 to 5"),
        ("0.75", TWOS, ""),
    ],
)
def test_a_face_that_does_not_count_says_why(confidence: str, aus: list[str], reason: str, tmp_path: Path) -> None:
    (reading,) = read_table(write(tmp_path / "a.csv", PICTURE, ["0", confidence, *aus]))["a"]
    assert reading.reason == reason
    assert (reading.action_units is None) == bool(reason)
    assert most_confident([reading]) == (None if reason else reading)


def test_a_header_alone_is_a_picture_without_a_face(tmp_path: Path) -> None:
    assert read_table(write(tmp_path / "a.csv", PICTURE)) == {"a": []}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", r"lacks the columns confidence, AU01_r"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", r"lacks the columns confidence, AU01_r"),
        (", ".join([*PICTURE, *COLUMNS[:-1]]).encode(), "lacks the column AU45_r: give a CSV of FaceLandmarkImg"),
        (", ".join([*PICTURE, *COLUMNS, *["\n0", "0.9", *["much"] * 17]]).encode(), 'column AU01_r: "much" is not'),
        (b", ".join([b"face", b"confidence", *(c.encode() for c in COLUMNS)]) + b"\n0, 0.9, 1.2", "has 3 cells"),
    ],
)
def test_a_table_that_is_none_is_one_sentence_with_its_name(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content.replace(b", \n", b"\n"))
    with pytest.raises(EgganError, match=sentence) as error:
        read_table(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_of_tables_is_read_by_the_names_of_the_pictures(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.csv", PICTURE, ["0", "0.9", *TWOS])
    (tmp_path / "a_of_details.txt").write_text("Input: a.jpg")
    assert list(read_tables(tmp_path)) == ["a", "b"]
    (tmp_path / "c.csv").write_text(f"file, face, confidence, {', '.join(COLUMNS)}\na, 0, 0.9, {', '.join(TWOS)}\n")
    with pytest.raises(EgganError, match=r"c\.csv: a is in another table"):
        read_tables(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(EgganError, match="empty holds no CSV"):
        read_tables(empty)
    with pytest.raises(EgganError, match=r"There is no file .*nowhere\.csv"):
        read_tables(tmp_path / "nowhere.csv")


def test_all_pictures_are_read_in_one_run_and_in_order(make_openface: Callable[..., Path], tmp_path: Path) -> None:
    readings = OpenFace(make_openface()).read(grey(level) for level in (4, 0, 2, 3))
    assert [len(faces) for faces in readings] == [2, 0, 2, 2]
    assert [faces[1].action_units[0] for faces in readings if faces] == pytest.approx([4, 2, 3], abs=0.011)
    assert readings[0][0].reason == "OpenFace's confidence 0.35 is below 0.75"
    assert readings[0][1].box == (12.0, 12.0, 28.0, 28.0)
    assert (tmp_path / "log").read_text().split() == ["40", "4"]


def test_no_pictures_start_no_program(make_openface: Callable[..., Path], tmp_path: Path) -> None:
    assert OpenFace(make_openface()).read([]) == []
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("#!{python}\n", "ended well but wrote no CSV for 1 picture: either none shows a face, or OPENFACE_BIN"),
        (
            "#!{python}\nimport sys\nprint('Could not load', file=sys.stderr)\nsys.exit(3)\n",
            r"code 3 \(Could not load\)",
        ),
        ("#!{python}\nprint('ERROR: no model')\nexit(1)\n", r"code 1 \(ERROR: no model\)"),
        ("#!/no/such/interpreter\n", "cannot be run"),
    ],
)
def test_a_program_that_fails_is_one_sentence(
    text: str, sentence: str, make_openface: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(EgganError, match=sentence):
        OpenFace(make_openface(text)).read([grey(4)])


def test_a_missing_program_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, make_openface: Callable[..., Path], tmp_path: Path
) -> None:
    monkeypatch.delenv("OPENFACE_BIN", raising=False)
    with pytest.raises(EgganError, match="set OPENFACE_BIN to its path"):
        OpenFace()
    monkeypatch.setenv("OPENFACE_BIN", str(tmp_path / "nowhere"))
    with pytest.raises(EgganError, match="nowhere is no program that can be run"):
        OpenFace()
    monkeypatch.setenv("OPENFACE_BIN", str(make_openface()))
    assert OpenFace().executable == tmp_path / "FaceLandmarkImg"
