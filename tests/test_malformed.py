"""What no face can be edited in gives one sentence through the whole command, alone and in a folder of them."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from malformed import write_malformed
from PIL import Image
from test_cli import run

from eggan import Editor


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.from_pretrained(device="cpu")


def test_two_hundred_malformed_files_give_two_hundred_sentences_and_no_output(
    editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Editor, "from_pretrained", lambda *_, **__: editor)
    paths = write_malformed(tmp_path)
    there = sorted(tmp_path.rglob("*"))
    assert len(set(paths)) == len(paths) >= 200
    for path in paths:
        out = tmp_path / "out.png"
        code, said, err = run(monkeypatch, capsys, "edit", "-o", out, "--au", "12=4", "--", path)
        *notes, sentence = err.splitlines()
        assert (code, said) == (1, ""), path
        assert sentence.startswith("eggan: "), path
        assert path.name in sentence, path
        assert is_one_sentence(sentence.removeprefix("eggan: ").replace(str(path), "")), sentence
        assert all(note.startswith(f"eggan: {path}: ") for note in notes), err
    assert sorted(tmp_path.rglob("*")) == there


def test_a_folder_of_them_is_a_table_of_problems_and_no_picture(
    editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Editor, "from_pretrained", lambda *_, **__: editor)
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    write_malformed(photos)
    endings = (".jpg", ".png", ".webp", ".gif", ".tif", ".bmp", ".ppm", ".avif", ".jp2", ".heic")
    expected = [path for path in photos.iterdir() if path.suffix in endings and not path.is_dir()]
    code, said, err = run(monkeypatch, capsys, "edit", photos, "-o", out, "--au", "12=4")
    assert (code, said) == (1, "")
    with (out / "edits.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["file"]) for row in rows] == sorted(expected)
    assert all(row["problem"] and row["problem"] in err and not row["output"] for row in rows)
    assert [path.name for path in out.iterdir()] == ["edits.csv"]


def test_a_file_name_that_is_no_utf_8_is_named_all_the_same(photograph: Image.Image, tmp_path: Path) -> None:
    good, bad = (tmp_path / os.fsdecode(name) for name in (b"\xfe.png", b"\xff.png"))
    bad.write_bytes(b"no picture")
    with good.open("wb") as file:
        photograph.save(file, "PNG")
    arguments = ["edit", tmp_path, "-o", tmp_path / "out", "--au", "12=4"]
    done = subprocess.run([sys.executable, "-m", "eggan.cli", *arguments], capture_output=True)
    assert (done.returncode, done.stdout) == (1, os.fsencode(tmp_path / "out") + b"/\xfe.png\n")
    assert b"cannot be read" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"/\xff.png," in (tmp_path / "out/edits.csv").read_bytes()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"secret")
    (tmp_path / "a.jpg").chmod(0)
    code, _, err = run(monkeypatch, capsys, "edit", tmp_path / "a.jpg", "-o", tmp_path / "b.jpg", "--au", "12=4")
    assert (code, "a.jpg may not be read: change its permissions." in err) == (1, True)


def is_one_sentence(text: str) -> bool:
    return text.endswith(".") and not re.search(r"[.!?] [A-Z]", text) and len(text) < 400
