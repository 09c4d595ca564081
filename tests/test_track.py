"""Tracks of Action Units: OpenFace's own form comes in, and what is none is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from eggan.action_units import COLUMNS, NUMBERS
from eggan.data.track import read_track
from eggan.errors import EgganError


def csv_of(path: Path, rows: list[dict[str, object]], gap: str = "") -> Path:
    names = list(rows[0])
    lines = [f",{gap}".join(names), *(f",{gap}".join(str(row[name]) for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def moment(k: int, **more: object) -> dict[str, object]:
    return {"frame": k + 1, **more} | {
        column: k + number / 100 for column, number in zip(COLUMNS, NUMBERS, strict=True)
    }


@pytest.mark.parametrize("gap", ["", " "])
def test_columns_are_taken_by_name_with_or_without_openfaces_spaces(gap: str, tmp_path: Path) -> None:
    rows = [dict(reversed(moment(k, AU28_c=1).items())) for k in range(3)]
    track = read_track(csv_of(tmp_path / "a.csv", rows, gap))
    assert track.rows == [[k + number / 100 for number in NUMBERS] for k in range(3)]
    assert track.fps is None


def test_times_give_the_rate_and_a_lost_face_repeats_the_moment_before(tmp_path: Path) -> None:
    lost = {1: 0, 2: 1, 3: 0, 4: 1}
    rows = [moment(k, timestamp=0.04 * k, success=lost.get(k, 0), face_id=0) for k in range(5)]
    track = read_track(csv_of(tmp_path / "a.csv", rows, " "))
    assert [row[0] for row in track.rows] == [2.01, 2.01, 4.01]
    assert track.fps == pytest.approx(25)


BAD = {
    "empty": (b"", "has no rows of Action Units"),
    "header": (",".join(COLUMNS).encode(), "has no rows of Action Units"),
    "other": (b"a,b\n1,2\n", "has no column AU01_r: give a CSV with AU01_r to AU45_r"),
    "binary": (b"\x89PNG\xff\xfe\n\0\1,2", "is not a CSV of Action Units"),
    "word": ((",".join(COLUMNS) + "\n" + ",".join(["x"] * 17)).encode(), 'line 2: AU01_r is "x", not a number'),
    "short": ((",".join(COLUMNS) + "\n1,2").encode(), 'line 2: AU04_r is "", not a number'),
    "nan": ((",".join(COLUMNS) + "\n" + ",".join(["nan"] * 17)).encode(), r"AU01_r is nan, outside 0\.\.5"),
    "high": ((",".join(COLUMNS) + "\n" + ",".join(["5.1"] * 17)).encode(), r"AU01_r is 5\.1, outside 0\.\.5"),
    "faces": ((",".join(["face_id", *COLUMNS]) + "\n0" + ",1" * 17 + "\n1" + ",1" * 17).encode(), "several faces"),
    "lost": ((",".join(["success", *COLUMNS]) + "\n0" + ",1" * 17).encode(), "no row in which a face was seen"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_track_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    content, sentence = BAD[name]
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(EgganError, match=rf"a\.csv.*{sentence}.*\.$"):
        read_track(tmp_path / "a.csv")


def test_a_track_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(EgganError, match=rf"{path.name} cannot be read \(.*\)\.$"):
            read_track(path)
