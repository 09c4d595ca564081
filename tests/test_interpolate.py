"""`eggan interpolate` as a user runs it: strips, animations, tracks; and one sentence for every mistake."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from test_cli import run
from test_track import csv_of

from eggan import Editor
from eggan.action_units import COLUMNS
from eggan.interpolation import CELL
from eggan.provenance import explain


@pytest.fixture
def photo(photograph: Image.Image, tmp_path: Path) -> Path:
    path = tmp_path / "face.png"
    photograph.save(path)
    return path


@pytest.fixture
def track(tmp_path: Path) -> Path:
    """A mouth that opens: AU 25 and 26 from 0 to 4 in 6 moments at 12.5 a second."""
    rows = [
        {"timestamp": 0.08 * k} | {column: 0.8 * k if column in ("AU25_r", "AU26_r") else 0.0 for column in COLUMNS}
        for k in range(6)
    ]
    return csv_of(tmp_path / "track.csv", rows, " ")


def frames(path: Path) -> list[np.ndarray]:
    with Image.open(path) as picture:
        result = []
        for k in range(picture.n_frames):
            picture.seek(k)
            result.append(np.asarray(picture.convert("RGB"), dtype=int))
        return result


def test_a_strip_has_a_labelled_face_a_step(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "strip.png"
    code, said, err = run(monkeypatch, capsys, "interpolate", photo, "-o", out, "--au", "26=4", "--steps", "5")
    assert (code, said, err) == (0, f"{out}\n", "")
    with Image.open(out) as strip:
        step = CELL + 4
        left, top = strip.width - 5 * step, strip.height - step
        assert left > 0 < top
        faces = [
            np.asarray(strip.crop((left + k * step, top, left + k * step + CELL, top + CELL)), dtype=int)
            for k in range(5)
        ]
    moved = [np.abs(face - faces[0]).mean() for face in faces]
    assert moved == sorted(moved)
    assert moved[-1] > 1
    record = explain(out)
    assert record["made"] == "strip of 5 steps from source to target"
    assert record["edits"][0]["target"]["AU26_r"] == 4


@pytest.mark.parametrize("ending", [".gif", ".webp"])
def test_an_animation_goes_there_and_back_in_the_whole_photograph(
    ending: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"a{ending}"
    code, _, _ = run(monkeypatch, capsys, "interpolate", photo, "-o", out, "--au", "26=4", "--steps", "4")
    assert code == 0
    got = frames(out)
    with Image.open(photo) as picture:
        assert got[0].shape[:2] == (picture.height, picture.width)
    distance = [np.abs(frame - got[0]).mean() for frame in got]
    assert len(got) == 6
    assert distance[1] < distance[2] < distance[3] > distance[4] > distance[5] > 0
    assert distance[4] == pytest.approx(distance[2], rel=0.1)
    assert explain(out)["made"] == "animation of 6 frames from source to target and back"


def test_a_video_has_the_length_that_was_asked_for(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.mp4"
    arguments = ["--emotion", "happy", "--seconds", "1.2", "--fps", "10", "--crop"]
    code, _, _ = run(monkeypatch, capsys, "interpolate", photo, "-o", out, *arguments)
    assert code == 0
    about, *got = imageio_ffmpeg.read_frames(str(out))
    assert (about["fps"], len(got)) == (10, 12)
    assert about["size"][0] == about["size"][1]
    code, said, _ = run(monkeypatch, capsys, "edit", "--explain", out)
    assert (code, '"AU12_r": 4.5' in said) == (0, True)


def test_a_track_drives_the_face_at_its_own_rate(
    photo: Path, track: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.gif"
    code, _, _ = run(monkeypatch, capsys, "interpolate", photo, "-o", out, "--track", track)
    assert code == 0
    got = frames(out)
    distance = [np.abs(frame - got[0]).mean() for frame in got]
    assert len(got) == 6
    assert distance == sorted(distance)
    with Image.open(out) as picture:
        assert picture.info["duration"] == 80
    record = explain(out)
    assert record["made"] == "animation of 6 rows of track.csv"
    assert record["edits"][0]["target"] == {}
    strip = tmp_path / "strip.png"
    code, _, _ = run(monkeypatch, capsys, "interpolate", photo, "-o", strip, "--track", track, "--steps", "3")
    assert (code, explain(strip)["made"]) == (0, "strip of 3 rows of track.csv")


def test_like_ends_at_the_other_photographs_expression(
    photo: Path, photograph: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    other, out = tmp_path / "other.png", tmp_path / "strip.png"
    editor = Editor.from_pretrained()
    editor.edit(photograph, "surprised").save(other)
    code, _, _ = run(monkeypatch, capsys, "interpolate", photo, "-o", out, "--like", other, "--steps", "2")
    assert code == 0
    target = list(explain(out)["edits"][0]["target"].values())
    assert target == pytest.approx(editor.action_units(other), abs=1e-3)


MISTAKES = [
    ("a.avi", ["--au", "12=4"], "must end in .png (a strip) or .gif, .webp, .mp4"),
    ("a.png", ["--au", "12=4", "--seconds", "2"], "A strip has --steps"),
    ("a.png", ["--au", "12=4", "--fps", "20"], "A strip has --steps"),
    ("a.gif", ["--au", "12=4", "--seconds", "2", "--steps", "9"], "give one of them"),
    ("a.gif", ["--track", "t.csv", "--steps", "9"], "An animation by --track has a frame for each row"),
    ("a.gif", ["--track", "t.csv", "--au", "12=4"], "--track sets all Action Units at every moment"),
    ("a.gif", ["--track", "t.csv"], "t.csv cannot be read (No such file or directory)."),
    ("a.gif", [], "Say what to change"),
    ("a.gif", ["--emotion", "happy", "--relative"], "--emotion sets all Action Units"),
    ("a.png", ["--au", "12=4", "--face", "all"], "A crop holds one face"),
    ("a.gif", ["--au", "12=4", "--face", "3"], "there is 1 face"),
    ("face.png", ["--au", "12=4"], "would overwrite the photograph"),
]


@pytest.mark.parametrize(("out", "arguments", "sentence"), MISTAKES)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    out: str,
    arguments: list[str],
    sentence: str,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, said, err = run(monkeypatch, capsys, "interpolate", photo, "-o", tmp_path / out, *arguments)
    assert (code, said) == (1, "")
    assert err.startswith("eggan: ")
    assert sentence in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [photo]


def test_without_ffmpeg_a_video_is_refused_before_any_work(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("eggan.animation.import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    monkeypatch.setattr(Editor, "from_pretrained", lambda *_, **__: pytest.fail("work was begun"))
    code, _, err = run(monkeypatch, capsys, "interpolate", photo, "-o", tmp_path / "a.mp4", "--au", "12=4")
    assert (code, 'pip install "eggan[video]"' in err) == (1, True)


def test_a_folder_becomes_a_folder_of_animations_with_a_table(
    photograph: Image.Image, tmp_path: Path, eggan: Callable[..., tuple[int, str, str]]
) -> None:
    folder, out = tmp_path / "photos", tmp_path / "moving"
    (folder / "sub").mkdir(parents=True)
    photograph.save(folder / "a.png")
    photograph.resize((160, 147)).save(folder / "sub" / "b.jpg", quality=95)
    Image.new("RGB", (64, 64)).save(folder / "dark.png")
    code, said, complaint = eggan("interpolate", folder, "-o", out, "--au", "12=4", "--as", "webp", "--steps", 3)
    assert code == 1 and "1 of 3 photographs were left out" in complaint
    assert said.split() == [str(out / "a.webp"), str(out / "sub" / "b.webp")]
    assert [Image.open(path).n_frames for path in (out / "a.webp", out / "sub" / "b.webp")] == [4, 4], (
        "3 steps there, and back"
    )
    with (out / "edits.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["file"]).name for row in rows] == ["a.png", "dark.png", "b.jpg"]
    assert [float(row["target_AU12_r"] or -1) for row in rows] == [4, -1, 4]
    assert "No face was found" in rows[1]["problem"] and rows[1]["output"] == ""
    code, said, _ = eggan("interpolate", folder / "a.png", folder / "sub", "-o", tmp_path / "strips", "--au", "4=3")
    assert code == 0 and sorted(path.name for path in (tmp_path / "strips").iterdir()) == [
        "a.gif",
        "b.gif",
        "edits.csv",
    ]
    code, _, complaint = eggan("interpolate", folder, "-o", tmp_path / "one.gif", "--au", "12=4")
    assert code == 1 and "give -o a folder" in complaint and not (tmp_path / "one.gif").exists()
