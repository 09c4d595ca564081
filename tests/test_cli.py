"""The command line as a user runs it: what comes out, and one sentence for every mistake."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from eggan import Editor, cli
from eggan.action_units import COLUMNS
from eggan.faces import detect
from eggan.provenance import explain

Eggan = Callable[..., tuple[int, str, str]]


@pytest.fixture
def face(photograph: Image.Image, tmp_path: Path) -> Path:
    path = tmp_path / "face.png"
    photograph.save(path)
    return path


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `eggan ARGUMENTS`, in this process."""
    monkeypatch.setattr(sys, "argv", ["eggan", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
        sys.exit(0)
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


def test_version_is_that_of_pyproject(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert run(monkeypatch, capsys, "--version") == (0, f"eggan {project['version']}\n", "")


def test_edit_writes_a_marked_picture(
    face: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "smile.png"
    code, said, _ = run(monkeypatch, capsys, "edit", face, "-o", out, "--au", "12=4", "--au", "6=2.5", "--only")
    assert (code, said.strip()) == (0, str(out))
    record = explain(out)
    assert record["model"] == "portrait"
    assert {k: v for k, v in record["edits"][0]["target"].items() if v} == {"AU06_r": 2.5, "AU12_r": 4.0}
    with Image.open(out) as written, Image.open(face) as given:
        assert written.size == given.size
    code, said, _ = run(monkeypatch, capsys, "edit", "--explain", out)
    assert (code, json.loads(said)) == (0, record)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "edits.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_becomes_a_folder_with_a_table_and_a_bad_file_is_a_row(
    face: Path, group: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "photos/edited"
    (photos / "sub").mkdir(parents=True)
    group.save(photos / "group.tif")
    face.rename(photos / "sub/face.png")
    (photos / "bad.jpg").write_text("no picture")
    (photos / "notes.txt").write_text("not a photograph")
    (photos / ".hidden.png").write_text("hidden")
    code, said, err = run(monkeypatch, capsys, "edit", photos, "-o", out, "--au", "12=4", "--face", "all")
    assert code == 1
    assert said.splitlines() == [str(out / "group.png"), str(out / "sub/face.png")]
    assert err.splitlines() == [
        f"eggan: {photos / 'bad.jpg'} cannot be read (not a picture of a known kind): "
        "give a JPEG, PNG, WebP, TIFF or GIF file (export HEIC as JPEG first).",
        f"eggan: 1 of 3 photographs were not edited: {out / 'edits.csv'} says why.",
    ]
    rows = table(out)
    assert [(Path(row["file"]).name, row["face"], bool(row["problem"])) for row in rows] == [
        ("bad.jpg", "", True),
        ("group.tif", "0", False),
        ("group.tif", "1", False),
        ("face.png", "0", False),
    ]
    assert [row["target_AU12_r"] for row in rows] == ["", "4.0", "4.0", "4.0"]
    record = explain(out / "sub/face.png")["edits"][0]
    assert {name: float(rows[3][f"source_{name}"]) for name in record["source"]} == record["source"]
    code, _, err = run(monkeypatch, capsys, "edit", photos / "sub", photos / "group.tif", "-o", out, "--au", "12=4")
    assert (code, err) == (0, "")
    assert [Path(row["output"]).name for row in table(out)] == ["face.png", "group.png"]


def test_like_takes_the_expression_of_another_photograph(
    face: Path, group: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other, out = tmp_path / "other.png", tmp_path / "out.png"
    Editor.from_pretrained().edit(group, "surprised").save(other)
    code, _, _ = run(monkeypatch, capsys, "edit", face, "-o", out, "--like", other, "--au", "4=1.5")
    expected = dict(zip(COLUMNS, Editor.from_pretrained().action_units(other), strict=True)) | {"AU04_r": 1.5}
    assert code == 0
    assert explain(out)["edits"][0]["target"] == pytest.approx(expected, abs=1e-3)
    assert expected["AU26_r"] > 1.5


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        ("edit", ["face.png", "-o", "her.png", "--like", "her.png"], "would overwrite her.png, which it reads"),
        ("edit", ["face.png", "-o", "s3://lab/happy", "--au", "12=4"], "s3://lab/happy is an address"),
        ("edit", ["https://a.org/me.jpg", "-o", "a.png", "--au", "12=4"], "https://a.org/me.jpg is an address"),
        ("edit", ["face.png", "-o", "x.png", "--au", "12=4", "--shards"], "x.png is a picture's name: give a folder"),
        ("edit", ["face.png", "-o", "x.png", "--au", "12=4", "--au", "12=1"], "AU 12 is given twice, as 4 and as 1"),
        ("edit", ["face.png", "her.png", "-o", "x", "--au", "12=4", "--face", "big"], "--face is largest, all or a"),
        ("edit", ["face.png", "-o", "x", "--au", "12=4", "--shards", "--device", "gpu"], 'no device "gpu"'),
        ("interpolate", ["face.png", "-o", "./sub/../face.png", "--au", "12=4"], "overwrite the photograph face.png"),
        ("interpolate", ["face.png", "-o", "a.gif", "--as", "mp4", "--au", "12=4"], "--as mp4 says what to write into"),
        ("interpolate", ["face.png", "her.png", "-o", "x", "--track", "no.csv"], "no.csv cannot be read"),
        ("edit", ["lost.png", "-o", "x.png", "--au", "12=4"], "There is no file lost.png (a link that leads nowhere)"),
        ("prepare", ["folder", "nowhere", "-o", "x.parquet"], "There is no folder nowhere: give one with a sub-folder"),
        ("annotate", ["nobody.png", "-o", "old.csv"], "the table old.csv stays as it was"),
        ("annotate", ["clip.mp4", "-o", "aus.csv"], "clip.mp4 is a video: give a folder as -o"),
        ("annotate", ["face.png", "-o", "s3://lab/aus.csv"], "s3://lab/aus.csv is an address"),
        ("annotate", ["face.png", "-o", "x", "--face", "big"], "--face is largest, all or a number"),
    ],
)
def test_a_wrong_request_is_one_sentence_before_any_work(
    command: str,
    arguments: list[str],
    sentence: str,
    face: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eggan: Eggan,
) -> None:
    monkeypatch.chdir(tmp_path)
    face.rename("face.png")
    shutil.copy("face.png", "her.png")
    Path("sub").mkdir()
    Path("lost.png").symlink_to("gone.png")
    Path("old.csv").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, said, err = eggan(command, *arguments)
    assert (code, said) == (1, "")
    assert len(err.splitlines()) == 1
    assert sentence in err
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_the_table_of_a_folder_keeps_what_was_done_before(face: Path, tmp_path: Path, eggan: Eggan) -> None:
    out, other = tmp_path / "out", tmp_path / "other.png"
    shutil.copy(face, other)
    for photo, intensity in ((face, 4), (other, 3), (face, 2)):
        assert eggan("edit", photo, "-o", out, "--au", f"12={intensity}")[0] == 0
    assert [(row["file"], row["target_AU12_r"]) for row in table(out)] == [(str(other), "3.0"), (str(face), "2.0")]


def test_what_the_system_refuses_is_a_sentence(face: Path, tmp_path: Path, eggan: Eggan) -> None:
    long = tmp_path / f"{300 * 'x'}.png"
    code, _, err = eggan("edit", face, "-o", long, "--au", "12=4")
    assert (code, err) == (1, f"eggan: {long}: File name too long.\n")


def test_what_was_done_on_opening_is_said_in_one_line(
    face: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(face) as picture:
        frames = [picture.convert("P"), Image.new("P", picture.size)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    code, _, err = run(monkeypatch, capsys, "edit", tmp_path / "a.gif", "-o", tmp_path / "a.jpg", "--au", "12=4")
    assert (code, err) == (0, f"eggan: {tmp_path / 'a.gif'}: the first frame of an animation.\n")


def test_faces_that_were_left_out_are_counted(
    group: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    group.save(tmp_path / "group.png")
    found = detect(np.asarray(group))
    monkeypatch.setattr("eggan.editor.detect", lambda _: [found[0]._replace(spread=0.2), found[1]])
    arguments = ["edit", tmp_path / "group.png", "-o", tmp_path / "out.png", "--au", "12=4"]
    code, _, err = run(monkeypatch, capsys, *arguments, "--face", "all")
    assert (code, "1 of 2 faces left out, turned aside or hidden too far." in err) == (0, True)
    code, _, err = run(monkeypatch, capsys, *arguments, "--face", "0")
    assert (code, "turned aside or hidden too far" in err) == (1, True)


def test_a_transparent_photograph_becomes_a_jpeg(
    face: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(face) as picture:
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        picture.save(face)
    code, _, err = run(monkeypatch, capsys, "edit", face, "-o", tmp_path / "a.jpg", "--au", "12=4", "--crop")
    assert (code, err) == (0, "")
    code, _, err = run(monkeypatch, capsys, "edit", face, "-o", tmp_path / "a.jpg", "--au", "12=4")
    assert (code, err) == (0, "")
    with Image.open(tmp_path / "a.jpg") as written:
        assert (written.mode, min(written.getpixel((5, 0))) > 240) == ("RGB", True)


MISTAKES = [
    (["--au", "12=7"], "Intensity 7 of AU 12 is outside 0..5."),
    (["--au", "3=1"], "AU 3 is not one of the 17 Action Units"),
    (["--au", "smile"], '"smile" is not an Action Unit target: write NUMBER=INTENSITY'),
    (["--au", "12=nan"], "Intensity nan of AU 12"),
    (["--emotion", "hungry"], '"hungry" is not a known emotion: choose one of neutral, angry'),
    (["--emotion", "happy:2"], "Emotion strength 2 is outside 0..1."),
    ([], "Say what to change"),
    (["--emotion", "happy", "--relative"], "--relative does not go with it"),
    (["--like", "other.png", "--relative"], "--like sets all Action Units, so --relative does not go with it"),
    (["--like", "other.png", "--emotion", "happy"], "--emotion and --like both set all Action Units"),
    (["--like", "other.png"], "There is no file other.png."),
    (["--au", "12=4", "--face", "2"], "face.png there is 1 face: --face 0, not 2."),
    (["--au", "12=4", "--face", "small"], '--face is largest, all or a number from 0, not "small"'),
    (["--au", "12=4", "--face", "all", "--crop"], "A crop holds one face"),
    (["--au", "12=4", "--device", "abacus"], 'There is no device "abacus" here'),
    (["--au", "12=4", "--model", "nowhere"], 'There is no model "nowhere": give one of portrait, small, small-paper'),
]


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    arguments: list[str],
    sentence: str,
    face: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = run(monkeypatch, capsys, "edit", face, "-o", tmp_path / "out.png", *arguments)
    assert code == 1
    assert err.startswith("eggan: ")
    assert sentence in err
    assert err.count("\n") == 1
    assert out == ""
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("content", "out", "sentence"),
    [
        (b"", "out.png", "photo.png cannot be read"),
        (None, "out.png", "There is no file"),
        (Image.new("RGB", (30, 20)), "out.png", "No face was found in"),
        (Image.new("RGB", (9, 9)), "out.png", "at least 16 on each side"),
        (Image.new("RGB", (32, 32)), "out.tiff", "must end in one of .png, .jpg, .jpeg, .webp"),
    ],
)
def test_a_wrong_file_is_one_sentence_and_writes_nothing(
    content: bytes | Image.Image | None,
    out: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo = tmp_path / "photo.png"
    if isinstance(content, bytes):
        photo.write_bytes(content)
    elif content is not None:
        content.save(photo)
    code, _, err = run(monkeypatch, capsys, "edit", photo, "-o", tmp_path / out, "--au", "12=4")
    assert code == 1
    assert sentence in err
    assert str(photo.name) in err or out in err
    assert not (tmp_path / out).exists()


def test_two_photos_do_not_share_one_output(
    face: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(monkeypatch, capsys, "edit", face, face, "-o", tmp_path / "out", "--au", "12=4")
    assert (code, "would both be written to" in err) == (1, True)
    for photos in ([face, face], [face.parent]):
        code, _, err = run(monkeypatch, capsys, "edit", *photos, "-o", tmp_path / "out.png", "--au", "12=4")
        assert (code, "give -o a folder." in err) == (1, True)
    (tmp_path / "empty").mkdir()
    code, _, err = run(monkeypatch, capsys, "edit", tmp_path / "empty", "-o", tmp_path / "out", "--au", "12=4")
    assert (code, "empty has no photograph" in err) == (1, True)
    assert not (tmp_path / "out").exists()


def test_the_photo_itself_is_not_overwritten_by_its_edit(
    face: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = face.read_bytes()
    code, _, err = run(monkeypatch, capsys, "edit", face, "-o", face.parent, "--au", "12=4")
    assert code == 1
    assert "would overwrite the photograph" in err
    assert face.read_bytes() == before


def test_a_folder_goes_into_its_parent_and_not_into_itself(
    face: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, parent = tmp_path / "parent/photos", tmp_path / "parent"
    photos.mkdir(parents=True)
    face.rename(photos / "face.png")
    code, _, err = run(monkeypatch, capsys, "edit", photos, "-o", photos, "--au", "12=4")
    assert (code, "would overwrite the photograph" in err) == (1, True)
    code, said, _ = run(monkeypatch, capsys, "edit", photos, "-o", parent, "--au", "12=4")
    assert (code, said) == (0, f"{parent / 'face.png'}\n")


def test_a_folder_that_cannot_be_is_said_without_a_traceback(
    face: Path, group: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    group.save(tmp_path / "group.png")
    out = tmp_path / "group.png/out"
    code, said, err = run(monkeypatch, capsys, "edit", face, tmp_path / "group.png", "-o", out, "--au", "12=4")
    assert (code, said) == (1, "")
    assert err == f"eggan: {out / 'edits.csv'} cannot be written (Not a directory).\n"


def test_models_lists_the_default_first(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(monkeypatch, capsys, "models")
    assert code == 0
    assert out.splitlines()[0].startswith("portrait ")


def test_train_refuses_an_unknown_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(monkeypatch, capsys, "train", "--set", "losses.identify=0", "--dry-run")
    assert (code, err) == (1, "eggan: Setting losses.identify: is not a known key.\n")


def test_dry_run_prints_the_papers_table_and_trains_nothing(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["train", "--preset", "paper", "--dry-run", "--out", str(tmp_path / "run")])
    assert result.exit_code == 0
    assert "gradient_penalty: 20" in result.stdout
    assert "# C_exp      20,865,574" in result.stdout
    assert not (tmp_path / "run").exists()


def test_the_installed_command_answers_help() -> None:
    done = subprocess.run([sys.executable, "-m", "eggan.cli", "edit", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--relative" in done.stdout
