"""Reading a faces file: what is kept, and the sentence that each malformed file gets."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from eggan.action_units import COLUMNS, EMOTIONS, NUMBERS
from eggan.data import check_people_apart, read_faces
from eggan.errors import EgganError

MakeFile = Callable[..., Path]


def at(row: int, value: Any) -> Callable[[list], list]:
    """An edit of a column: this value, or this function of the old one, in this row."""
    return lambda column: [
        (value(old) if callable(value) else value) if i == row else old for i, old in enumerate(column)
    ]


def png(width: int, height: int) -> bytes:
    """An image file of this size."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(file, "PNG")
    return file.getvalue()


def refusal(path: Path) -> str:
    """The sentence that a user reads on giving this file."""
    with pytest.raises(EgganError) as error:
        read_faces(path, 32)
    return str(error.value)


def test_rows_are_read_in_order(make_faces_file: MakeFile) -> None:
    path = make_faces_file()
    faces = read_faces(path, 32)
    table = pq.read_table(path)
    assert len(faces) == 24
    assert faces.path == path
    assert faces.people == ["ann", "bob", "cyd"]
    assert faces.identity.tolist() == table["identity"].to_pylist()
    assert faces.session.tolist() == table["session"].to_pylist()
    assert faces.emotion.tolist() == table["emotion"].to_pylist()
    expected = torch.tensor([table[column].to_pylist() for column in COLUMNS]).T
    torch.testing.assert_close(faces.action_units, expected, rtol=0, atol=0)
    assert faces.action_units.dtype == torch.float32
    assert faces.action_units[1, NUMBERS.index(12)] == EMOTIONS["happy"][12]


def test_pixels_at_the_files_own_size_are_exact(make_faces_file: MakeFile) -> None:
    path = make_faces_file()
    faces = read_faces(path, 32)
    assert (faces.images.dtype, faces.images.shape) == (torch.uint8, (24, 3, 32, 32))
    for row, data in enumerate(pq.read_table(path)["image"].to_pylist()):
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        np.testing.assert_array_equal(faces.images[row].permute(1, 2, 0).numpy(), pixels)


def test_images_lie_in_shared_memory(make_faces_file: MakeFile) -> None:
    assert read_faces(make_faces_file(), 32).images.is_shared()


@pytest.mark.parametrize("size", [16, 64])
def test_images_are_resampled_to_the_size_asked_for(make_faces_file: MakeFile, size: int) -> None:
    path = make_faces_file()
    own, other = read_faces(path, 32).images.float(), read_faces(path, size).images.float()
    assert other.shape == (24, 3, size, size)
    coarse = [torch.nn.functional.adaptive_avg_pool2d(images, 8) for images in (own, other)]
    assert (coarse[0] - coarse[1]).abs().max() < 6  # the same picture, of 256 grey levels


def test_grey_images_are_read_as_rgb(make_faces_file: MakeFile) -> None:
    file = io.BytesIO()
    Image.new("L", (32, 32), 77).save(file, "PNG")
    faces = read_faces(make_faces_file(image=at(0, file.getvalue())), 32)
    assert (faces.images[0] == 77).all()


def test_further_columns_are_ignored(make_faces_file: MakeFile) -> None:
    plain = read_faces(make_faces_file("plain.parquet"), 32, landmarks=True)
    more = {"yaw": [0.5] * 24, "AU12_c": [1.0] * 24, "landmarks": [[1.0, 2.0]] * 24, "AU28_c": [None] * 24}
    rich = read_faces(make_faces_file("rich.parquet", **more), 32, landmarks=True)
    assert torch.equal(plain.images, rich.images)
    assert torch.equal(plain.action_units, rich.action_units)
    assert plain.landmarks is None
    assert rich.landmarks is None


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), 136)])
def test_landmarks_are_read_in_half_sides_from_the_middle(make_faces_file: MakeFile, kind: pa.DataType) -> None:
    points = np.arange(24 * 136).reshape(24, 136) % 128
    path = make_faces_file(landmarks=pa.array(points.tolist(), kind))
    assert read_faces(path, 32).landmarks is None
    faces = read_faces(path, 32, landmarks=True)
    assert faces.landmarks is not None
    assert faces.landmarks.shape == (24, 68, 2)
    assert faces.landmarks[0, 0].tolist() == pytest.approx([-1 + 0.5 / 64, -1 + 1.5 / 64], abs=1e-3)
    in_pixels = (faces.landmarks.double() + 1) * 64 - 0.5
    np.testing.assert_allclose(in_pixels.flatten(1).numpy(), points, atol=0.05)
    assert torch.equal(faces.select(np.array([5, 2])).landmarks, faces.landmarks[[5, 2]])


@pytest.mark.parametrize("wrong", [None, [1.0] * 135, [float("nan")] * 136])
def test_landmarks_that_not_all_rows_have_count_for_none(make_faces_file: MakeFile, wrong: list[float] | None) -> None:
    rows = [[1.0] * 136] * 23 + [wrong]
    assert read_faces(make_faces_file(landmarks=rows), 32, landmarks=True).landmarks is None


def test_neutral_is_the_first_neutral_row_of_the_shot_or_the_row_itself(make_faces_file: MakeFile) -> None:
    words = ["happy", "neutral", "neutral", "sad", *["sad"] * 4, *["neutral", "happy", "sad", "angry"] * 4]
    faces = read_faces(make_faces_file(emotion=words), 32)
    assert faces.neutral.tolist() == [1, 1, 1, 1, 4, 5, 6, 7, *(first for first in (8, 12, 16, 20) for _ in range(4))]
    shuffled = faces.select(np.array([3, 9, 2, 8, 1]))
    assert shuffled.neutral.tolist() == [2, 3, 2, 3, 2]


def test_a_file_without_sessions_has_one_session_a_person(make_faces_file: MakeFile) -> None:
    faces = read_faces(make_faces_file(session=None), 32)
    assert set(faces.session) == {0}
    assert len(set(faces.shots)) == 3


def test_intensities_may_be_integers(make_faces_file: MakeFile) -> None:
    faces = read_faces(make_faces_file(AU12_r=pa.array([3] * 24, pa.int8())), 32)
    assert (faces.action_units[:, NUMBERS.index(12)] == 3).all()


def test_shots_group_rows_of_one_identity_and_session(make_faces_file: MakeFile) -> None:
    faces = read_faces(make_faces_file(), 32)
    keys = list(zip(faces.identity, faces.session, strict=True))
    for i in range(24):
        for j in range(24):
            assert (faces.shots[i] == faces.shots[j]) == (keys[i] == keys[j])
    assert sorted(set(faces.shots)) == list(range(6))


def test_shots_keep_names_and_numbers_apart(make_faces_file: MakeFile) -> None:
    path = make_faces_file(people=("a", "a1"), session=[11] * 8 + [1] * 8)  # a + 11 and a1 + 1
    assert len(set(read_faces(path, 32).shots)) == 2


@pytest.mark.parametrize("as_mask", [False, True])
def test_select_takes_the_rows_of_every_field(make_faces_file: MakeFile, as_mask: bool) -> None:
    faces = read_faces(make_faces_file(), 32)
    rows = np.array([1, 6, 17])
    chosen = faces.select(np.isin(np.arange(24), rows) if as_mask else rows)
    assert len(chosen) == 3
    assert torch.equal(chosen.images, faces.images[[1, 6, 17]])
    assert torch.equal(chosen.action_units, faces.action_units[[1, 6, 17]])
    for field in ("identity", "session", "emotion"):
        assert getattr(chosen, field).tolist() == getattr(faces, field)[rows].tolist()
    assert chosen.path == faces.path


@pytest.mark.parametrize("column", ["image", "identity", "emotion", *COLUMNS])
def test_a_missing_column_is_named(make_faces_file: MakeFile, column: str) -> None:
    path = make_faces_file(**{column: None})
    message = refusal(path)
    assert str(path) in message
    assert column in message


@pytest.mark.parametrize("column", ["AU28_r", "AU3_r", "AU012_r"])
def test_an_unknown_action_unit_column_is_named(make_faces_file: MakeFile, column: str) -> None:
    path = make_faces_file(**{column: [0.0] * 24})
    message = refusal(path)
    assert str(path) in message
    assert column in message


@pytest.mark.parametrize(
    ("column", "value"),
    [
        pytest.param("image", b"these are no pixels", id="broken image"),
        pytest.param("image", lambda data: data[: len(data) // 2], id="truncated image"),
        pytest.param("image", b"", id="empty image"),
        pytest.param("image", None, id="null image"),
        pytest.param("image", png(32, 31), id="image that is not square"),
        pytest.param("AU12_r", float("nan"), id="NaN intensity"),
        pytest.param("AU12_r", None, id="null intensity"),
        pytest.param("AU12_r", 5.1, id="intensity over 5"),
        pytest.param("AU45_r", -0.1, id="negative intensity"),
        pytest.param("AU01_r", float("inf"), id="infinite intensity"),
        pytest.param("identity", None, id="null identity"),
        pytest.param("identity", "", id="empty identity"),
        pytest.param("emotion", None, id="null emotion"),
        pytest.param("session", None, id="null session"),
    ],
)
def test_a_bad_value_is_refused_with_file_row_and_column(make_faces_file: MakeFile, column: str, value: Any) -> None:
    path = make_faces_file(**{column: at(5, value)})
    message = refusal(path)
    assert str(path) in message
    assert "row 5" in message
    assert f"column {column}" in message


def test_a_session_that_is_not_a_number_is_refused(make_faces_file: MakeFile) -> None:
    """pandas turns an integer column with a gap into floats with a NaN."""
    path = make_faces_file(session=pa.array([0.0] * 5 + [float("nan")] + [1.0] * 18))
    message = refusal(path)
    assert "row 5" in message
    assert "column session" in message


def test_the_first_of_several_bad_rows_is_named(make_faces_file: MakeFile) -> None:
    bad = {3, 9, 20}
    path = make_faces_file(image=lambda column: [b"?" if i in bad else data for i, data in enumerate(column)])
    assert "row 3," in refusal(path)


def test_several_bad_intensities_are_counted_and_the_first_is_named(make_faces_file: MakeFile) -> None:
    path = make_faces_file(AU12_r=lambda column: [*column[:7], 6.5, 7.5, *column[9:]], AU45_r=at(20, -1.0))
    message = refusal(path)
    assert f"{path}, row 7, column AU12_r: intensity 6.5 " in message
    assert "3 such values" in message


@pytest.mark.parametrize("column", ["AU12_r", "session"])
def test_text_in_a_column_of_numbers_is_refused(make_faces_file: MakeFile, column: str) -> None:
    path = make_faces_file(**{column: pa.array(["much"] * 24)})
    message = refusal(path)
    assert str(path) in message
    assert f"column {column}" in message


@pytest.mark.parametrize("column", ["identity", "emotion"])
def test_numbers_in_a_column_of_words_are_refused(make_faces_file: MakeFile, column: str) -> None:
    path = make_faces_file(**{column: pa.array([7] * 24)})
    message = refusal(path)
    assert str(path) in message
    assert f"column {column}" in message


def test_text_in_the_image_column_is_refused(make_faces_file: MakeFile) -> None:
    path = make_faces_file(image=pa.array(["ann.png"] * 24))
    message = refusal(path)
    assert str(path) in message
    assert "column image" in message


def test_a_file_without_rows_is_refused(make_faces_file: MakeFile) -> None:
    path = make_faces_file(people=())
    assert str(path) in refusal(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "gone.parquet") in refusal(tmp_path / "gone.parquet")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert str(tmp_path) in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"image,identity\n1,2\n", b"PAR1 but no more PAR1"])
def test_a_file_that_is_not_parquet_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "faces.csv"
    path.write_bytes(content)
    assert str(path) in refusal(path)


def test_a_truncated_file_is_named(make_faces_file: MakeFile) -> None:
    path = make_faces_file()
    path.write_bytes(path.read_bytes()[:-100])
    assert str(path) in refusal(path)


def test_splits_of_different_people_are_accepted(make_faces_file: MakeFile) -> None:
    check_people_apart(
        read_faces(make_faces_file("a.parquet", people=("ann",)), 32),
        read_faces(make_faces_file("b.parquet", people=("bob",)), 32),
        read_faces(make_faces_file("c.parquet", people=("cyd",)), 32),
    )


def test_a_person_in_two_splits_is_refused_with_file_row_and_column(make_faces_file: MakeFile) -> None:
    train = read_faces(make_faces_file("train.parquet", people=("ann", "bob")), 32)
    apart = read_faces(make_faces_file("val.parquet", people=("cyd",)), 32)
    shared = read_faces(make_faces_file("test.parquet", people=("dan", "bob")), 32)
    with pytest.raises(EgganError) as error:
        check_people_apart(train, apart, shared)
    message = str(error.value)
    for part in (str(train.path), str(shared.path), "row 8", "column identity", "bob"):
        assert part in message


# --- Folders of shards -----------------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path, make_faces_file: Callable[..., Path]) -> tuple[Path, Path]:
    """A folder of two shards, and one file with the same rows."""
    folder = tmp_path / "shards"
    folder.mkdir()
    tables = []
    for name, people in (("0.parquet", ("ann", "bob")), ("1.parquet", ("bob", "cyd"))):
        made = make_faces_file(name, people=people)
        tables.append(pq.read_table(made))
        pq.write_table(tables[-1], folder / name, 5)
    pq.write_table(pa.concat_tables(tables), tmp_path / "whole.parquet")
    return folder, tmp_path / "whole.parquet"


def test_a_folder_of_shards_is_one_file_of_the_same_rows(shards: tuple[Path, Path]) -> None:
    folder, whole = shards
    for _ in range(2):  # decoded, then found decoded
        ours, theirs = read_faces(folder, 16), read_faces(whole, 16)
        assert torch.equal(ours.images, theirs.images) and torch.equal(ours.action_units, theirs.action_units)
        for name in ("identity", "session", "emotion", "shots"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert ours.people == ["ann", "bob", "cyd"]


def test_shards_are_decoded_once_for_a_size_and_anew_where_one_changed(shards: tuple[Path, Path]) -> None:
    folder, _ = shards
    read_faces(folder, 16)
    (decoded,) = folder.glob(".eggan-*")
    before = decoded.stat()
    assert decoded.stat().st_size == 32 * 3 * 16 * 16
    read_faces(folder, 16)
    assert decoded.stat().st_mtime_ns == before.st_mtime_ns
    read_faces(folder, 8)
    pq.write_table(pq.read_table(folder / "0.parquet").slice(0, 9), folder / "0.parquet")
    assert len(read_faces(folder, 16)) == 25
    assert len(list(folder.glob(".eggan-*"))) == 3


def test_a_dataset_with_its_test_part_is_not_taken_for_shards(make_faces_file: MakeFile) -> None:
    folder = make_faces_file("train.parquet").parent
    make_faces_file("test.parquet")
    with pytest.raises(EgganError, match=r"give .*train\.parquet\.$"):
        read_faces(folder, 16)


def test_a_bad_row_of_a_shard_is_named_and_leaves_nothing(shards: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = shards
    table = pq.read_table(folder / "1.parquet")
    images = table["image"].to_pylist()
    images[12] = b"no picture"
    pq.write_table(table.set_column(0, "image", pa.array(images, pa.binary())), folder / "1.parquet", 5)
    with pytest.raises(EgganError, match=r"1\.parquet, row 12, column image: is no readable image"):
        read_faces(folder, 16)
    assert sorted(path.name for path in folder.iterdir()) == ["0.parquet", "1.parquet"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(EgganError, match="holds no faces files"):
        read_faces(tmp_path / "empty", 16)
