"""The command line as a user runs it: what comes out, and one sentence for every mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from eggan import cli
from eggan.provenance import explain


@pytest.fixture
def face(tmp_path: Path) -> Path:
    path = tmp_path / "face.png"
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(path)
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


def test_edit_writes_a_marked_picture(
    face: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "smile.png"
    code, said, _ = run(monkeypatch, capsys, "edit", face, "-o", out, "--au", "12=4", "--au", "6=2.5", "--only")
    assert (code, said.strip()) == (0, str(out))
    record = explain(out)
    assert record is not None
    assert record["model"] == "small"
    assert {k: v for k, v in record["target"].items() if v} == {"AU06_r": 2.5, "AU12_r": 4.0}  # type: ignore[attr-defined]


def test_several_photos_go_into_a_folder(
    face: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.jpg"
    Image.new("RGB", (48, 48), "tan").save(other)
    code, _, _ = run(monkeypatch, capsys, "edit", face, other, "-o", tmp_path / "out", "--emotion", "happy:0.8")
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["face.png", "other.jpg"]


MISTAKES = [
    (["--au", "12=7"], "Intensity 7 of AU 12 is outside 0..5."),
    (["--au", "3=1"], "AU 3 is not one of the 17 Action Units"),
    (["--au", "smile"], '"smile" is not an Action Unit target: write NUMBER=INTENSITY'),
    (["--au", "12=nan"], "Intensity nan of AU 12"),
    (["--emotion", "hungry"], '"hungry" is not a known emotion: choose one of neutral, angry'),
    (["--emotion", "happy:2"], "Emotion strength 2 is outside 0..1."),
    ([], "Say what to change"),
    (["--emotion", "happy", "--relative"], "--relative does not go with it"),
    (["--au", "12=4", "--model", "nowhere"], 'There is no model "nowhere": give one of small, small-paper'),
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
        (b"", "out.png", "photo.png is not a picture that can be read"),
        (None, "out.png", "There is no file"),
        (Image.new("RGB", (30, 20)), "out.png", "30×20 pixels: give a square crop"),
        (Image.new("RGB", (9, 9)), "out.png", "at least 16×16"),
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
    assert (code, "would be written to one file" in err) == (1, True)
    code, _, err = run(monkeypatch, capsys, "edit", face, face, "-o", tmp_path / "out.png", "--au", "12=4")
    assert (code, "give a folder" in err) == (1, True)


def test_the_photo_itself_is_not_overwritten_by_its_edit(
    face: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = face.read_bytes()
    code, _, err = run(monkeypatch, capsys, "edit", face, "-o", face.parent, "--au", "12=4")
    assert code == 1
    assert "would overwrite the photo" in err
    assert face.read_bytes() == before


def test_models_lists_the_default_first(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(monkeypatch, capsys, "models")
    assert code == 0
    assert out.splitlines()[0].startswith("small ")


def test_train_refuses_an_unknown_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(monkeypatch, capsys, "train", "--set", "losses.identify=0", "--dry-run")
    assert (code, err) == (1, "eggan: Setting losses.identify: is not a known key.\n")


def test_dry_run_prints_the_papers_table_and_trains_nothing(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["train", "--preset", "paper", "--dry-run", "--out", str(tmp_path / "run")])
    assert result.exit_code == 0
    assert "gradient_penalty: 20" in result.stdout
    assert "# C_exp      20,082,214" in result.stdout
    assert not (tmp_path / "run").exists()


def test_the_installed_command_answers_help() -> None:
    done = subprocess.run([sys.executable, "-m", "eggan.cli", "edit", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--relative" in done.stdout
