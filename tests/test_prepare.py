"""Look-alikes of RaFD, MMI and own folders become faces files: whole, resumable, with every file accounted for."""

from __future__ import annotations

import csv
import io
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import imageio_ffmpeg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from eggan import prepare as module
from eggan.action_units import COLUMNS
from eggan.annotate import read_crops
from eggan.data import check_people_apart, read_faces
from eggan.data.folder import list_folder
from eggan.data.mmi import list_mmi
from eggan.data.parts import split_people
from eggan.data.rafd import list_rafd
from eggan.data.video import count_frames, read_frames
from eggan.errors import EgganError
from eggan.estimator import ActionUnitEstimator
from eggan.faces import EYE_LINE, Face, detect

Eggan = Callable[..., tuple[int, str, str]]
Rendered = dict[tuple[str, str], Image.Image]

PEOPLE = ("01_Caucasian_female", "07_Caucasian_male", "29_Moroccan_male", "45_Kid_female", "72_Moroccan_male")
TRAIN = ["--preset", "small", "--set", "steps=20", "--set", "image_size=32", "--set", "batch_size=4"]
TRAIN += ["--set", "network.widths=[8,16]", "--set", "critic_widths=[8,16]", "--set", "precision=float32"]


def portrait(face: Image.Image, size: tuple[int, int] = (681, 1024), side: int = 380, top: int = 130) -> Image.Image:
    """A face on grey, as RaFD has them."""
    picture = Image.new("RGB", size, (128, 128, 128))
    picture.paste(face.convert("RGB").resize((side, side), Image.Resampling.BICUBIC), ((size[0] - side) // 2, top))
    return picture


@pytest.fixture(scope="session")
def rafd(tmp_path_factory: pytest.TempPathFactory, rendered: Rendered) -> Path:
    """Names, sizes and quirks of RaFD: five people, three expressions, other cameras and gazes, and what goes wrong."""
    folder = tmp_path_factory.mktemp("rafd") / "RafD_frontal"
    folder.mkdir()
    people = dict(zip(PEOPLE, sorted({who for who, _ in rendered}), strict=False))
    for name, who in people.items():
        for emotion in ("neutral", "happy", "sad"):
            portrait(rendered[who, emotion]).save(folder / f"Rafd090_{name}_{emotion}_frontal.jpg", quality=92)
    first, child = PEOPLE[0], PEOPLE[3]
    portrait(rendered[people[first], "angry"]).save(folder / f"Rafd090_{first}_angry_left.jpg")
    portrait(rendered[people[child], "angry"]).save(folder / f"Rafd045_{child}_angry_frontal.jpg")
    portrait(rendered[people[child], "angry"]).save(folder / f"Rafd180_{child}_angry_right.jpg")
    happy = folder / f"Rafd090_{first}_happy_frontal.jpg"
    shutil.copy(happy, folder / f"Rafd090_{first}_surprised_frontal.jpg")
    (folder / f"Rafd090_{first}_fearful_frontal.jpg").write_bytes(happy.read_bytes()[:9000])
    Image.new("RGB", (681, 1024), "grey").save(folder / f"Rafd090_{first}_disgusted_frontal.jpg")
    shutil.copy(happy, folder / f"Rafd090_{first}_grumpy_frontal.jpg")
    (folder / "Thumbs.db").write_bytes(b"\x00")
    return folder


@pytest.fixture(scope="session")
def prepared_rafd(rafd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RaFD's look-alike as three faces files."""
    out = tmp_path_factory.mktemp("prepared") / "rafd"
    reader = module.ActionUnitEstimator.from_pretrained()
    module.prepare(list_rafd(rafd), rafd, out, reader, "builtin")
    return out


def reasons(path: Path) -> dict[str, str]:
    with path.open(newline="") as file:
        return {f"{row['file']}{row['frame'] and ':' + row['frame']}": row["reason"] for row in csv.DictReader(file)}


# --- RaFD ------------------------------------------------------------------------------------------------------------


def test_rafd_becomes_three_faces_files_with_people_apart(prepared_rafd: Path) -> None:
    splits = [read_faces(prepared_rafd / f"{name}.parquet", 128) for name in ("train", "val", "test")]
    check_people_apart(*splits)
    assert [len(faces.people) for faces in splits] == [3, 1, 1]
    people = {who for faces in splits for who in faces.people}
    assert people == {"rafd01", "rafd07", "rafd29", "rafd45", "rafd72"}
    rows = [row for faces in splits for row in zip(faces.identity, faces.session, faces.emotion, strict=True)]
    assert Counter(who for who, _, _ in rows) == {"rafd01": 4, "rafd07": 3, "rafd29": 3, "rafd45": 3, "rafd72": 3}
    assert {row for row in rows if row[1]} == {("rafd01", 1, "angry")}  # another gaze is another session
    assert not prepared_rafd.with_name("rafd.parts").exists()


def test_the_crops_show_the_faces_framed_as_facsynth_frames_them(prepared_rafd: Path) -> None:
    for name in ("train", "val", "test"):
        faces = read_faces(prepared_rafd / f"{name}.parquet", 128)
        for row in np.flatnonzero((faces.identity == "rafd01") & (faces.emotion == "happy")):
            (face,) = detect(faces.images[row].permute(1, 2, 0).numpy())
            where = [x / 128 for eye in face.eyes for x in eye]
            assert where == pytest.approx([x for eye in EYE_LINE for x in eye], abs=0.012)
            assert faces.action_units[row][COLUMNS.index("AU12_r")] > 1
            return
    pytest.fail("the person is in no split")


def test_what_rafd_left_out_is_listed_with_its_reason(prepared_rafd: Path) -> None:
    listed = reasons(prepared_rafd / "skipped.csv")
    short = {name.removeprefix("Rafd").removesuffix(".jpg"): reason for name, reason in listed.items()}
    child, first = PEOPLE[3], PEOPLE[0]
    assert short[f"045_{child}_angry_frontal"] == "camera 045"
    assert short[f"180_{child}_angry_right"] == "camera 180"
    assert short[f"090_{first}_grumpy_frontal"] == "its name is not one of RaFD's"
    assert "cut off or damaged" in short[f"090_{first}_fearful_frontal"]
    assert short[f"090_{first}_surprised_frontal"] == f"the same picture as Rafd090_{first}_happy_frontal.jpg"
    assert "No face was found" in short[f"090_{first}_disgusted_frontal"]
    assert len(listed) == 6


def test_cameras_and_gazes_are_chosen(rafd: Path) -> None:
    assert len(list_rafd(rafd).sources) == 19
    assert len(list_rafd(rafd, gazes=["frontal"]).sources) == 18
    oblique = list_rafd(rafd, cameras=["090", "045"])
    assert [s.session for s in oblique.sources if Path(s.item.place).name.startswith("Rafd045")] == [3]
    assert Counter(skipped.reason for skipped in oblique.skipped)["camera 180"] == 1


@pytest.mark.parametrize("at", ["", "memory:/"])
def test_a_run_that_was_cut_off_goes_on_and_ends_alike(
    at: str, rafd: Path, prepared_rafd: Path, tmp_path: Path, eggan: Eggan, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks: list[int] = []

    def tired(reader: ActionUnitEstimator, crops: list[np.ndarray]) -> list[tuple[float, ...]]:
        chunks.append(len(crops))
        if len(chunks) == 3:
            raise KeyboardInterrupt
        return read_crops(reader, crops)

    monkeypatch.setattr(module, "CHUNK", 4)
    monkeypatch.setattr(module, "read_crops", tired)
    out = f"{at}{tmp_path}/rafd"
    fs, there = fsspec.core.url_to_fs(out)
    assert eggan("prepare", "rafd", rafd, "-o", out)[0] == 130
    assert not fs.exists(there)
    assert len(fs.ls(f"{there}.parts")) == 2
    fs.pipe_file(f"{there}.parts/.000002-left.parquet", b"cut off")
    seen: list[int] = []
    monkeypatch.setattr(module, "detect", lambda pixels: seen.append(1) or detect(pixels))
    code, said, _ = eggan("prepare", "rafd", rafd, "-o", out)
    assert code == 0
    assert f"{out}/train.parquet: " in said
    assert not fs.exists(f"{there}.parts")
    assert len(seen) == 19 - 8  # eight pictures were done
    for name in ("train.parquet", "val.parquet", "test.parquet"):
        assert pq.read_table(f"{there}/{name}", filesystem=fs).equals(pq.read_table(prepared_rafd / name))
    assert fs.cat_file(f"{there}/skipped.csv") == (prepared_rafd / "skipped.csv").read_bytes()
    assert eggan("prepare", "rafd", rafd, "-o", out)[1] == f"{out} is up to date.\n"


def test_a_second_run_does_nothing_until_a_picture_changes(
    rafd: Path, prepared_rafd: Path, tmp_path: Path, eggan: Eggan, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "few", tmp_path / "faces.parquet"
    source.mkdir()
    for emotion in ("neutral", "happy"):
        shutil.copy(rafd / f"Rafd090_{PEOPLE[1]}_{emotion}_frontal.jpg", source)
    assert eggan("prepare", "rafd", source, "-o", out)[0] == 0
    before = out.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(module, "detect", None)
        assert eggan("prepare", "rafd", source, "-o", out)[1] == f"{out} is up to date.\n"
    assert out.read_bytes() == before
    shutil.copy(rafd / f"Rafd090_{PEOPLE[1]}_sad_frontal.jpg", source)
    assert eggan("prepare", "rafd", source, "-o", out)[0] == 0
    assert sorted(pq.read_table(out)["emotion"].to_pylist()) == ["happy", "neutral", "sad"]
    assert pq.read_table(out)["file"][0].as_py() == f"Rafd090_{PEOPLE[1]}_happy_frontal.jpg"
    whole = [row for path in prepared_rafd.glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    among_others = {row["file"]: row for row in whole}
    for row in pq.read_table(out).to_pylist():
        assert row == among_others[row["file"]], "a face is read alike whichever stand beside it"


# --- MMI -------------------------------------------------------------------------------------------------------------


def write_video(path: Path, pictures: Iterator[Image.Image] | list[Image.Image]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [np.asarray(picture) for picture in pictures]
    height, width, _ = pictures[0].shape
    options = {"fps": 25, "codec": "mjpeg", "quality": None, "macro_block_size": 1, "output_params": ["-q:v", "2"]}
    video = imageio_ffmpeg.write_frames(str(path), (width, height), **options)
    video.send(None)
    for picture in pictures:
        video.send(np.ascontiguousarray(picture))
    video.close()


def clip(rendered: Rendered, who: str, emotion: str, light: int, frames: int = 12) -> list[Image.Image]:
    """From neutral to an expression and back, each frame a little lighter than the one before."""
    low, high = frames // 3, 2 * frames // 3
    faces = [rendered[who, emotion if low <= k < high else "neutral"] for k in range(frames)]
    lit = [face.convert("RGB").point(lambda value, k=k: min(255, value + k + light)) for k, face in enumerate(faces)]
    return [portrait(face, (720, 576), 380, 60) for face in lit]


def coding(*units: tuple[str, list[tuple[int, int]]]) -> str:
    """A file of AU phases, from (frame, type of the phase that begins there) of each AU."""
    text = ""
    for number, markers in units:
        inside = "".join(f'<Marker Frame="{frame}" Type="{phase}"/>' for frame, phase in markers)
        text += f'<ActionUnit Number="{number}">{inside}</ActionUnit>'
    return f'<?xml version="1.0"?><ActionUnitCoding>{text}</ActionUnitCoding>'


@pytest.fixture(scope="session")
def mmi(tmp_path_factory: pytest.TempPathFactory, rendered: Rendered) -> Path:
    """Sessions as MMI's site packs them: with and without codings, and what goes wrong."""
    sessions = tmp_path_factory.mktemp("mmi") / "Sessions"
    one, two, three, *_ = sorted({who for who, _ in rendered})
    for number, name, who, emotion, value in (
        (101, "S001-001", one, "happy", 4),
        (102, "S001-002", one, "surprised", 6),
        (103, "S002-014", two, "sad", 5),
        (104, "S003-001", three, "angry", 1),
    ):
        folder = sessions / str(number)
        write_video(folder / f"{name}.avi", clip(rendered, who, emotion, number - 101))
        (folder / "session.xml").write_text(f'<session sessionId="{number}"/>')
        tag = f'<Metatag Name="Emotion" Value="{value}"/>'
        (folder / f"{name}.xml").write_text(f"<Metadata><Metatag Name='Sex' Value='F'/>{tag}</Metadata>")
    smile = coding(
        ("6", [(1, 0), (4, 1), (6, 2), (8, 3), (10, 0)]),
        ("12", [(1, 0), (3, 1), (5, 2), (9, 3), (11, 0)]),
    )
    (sessions / "101" / "S001-001-oao_aucs.xml").write_text(smile)
    (sessions / "104" / "S003-001-oao_aucs.xml").write_text("<ActionUnitCoding><ActionUnit")
    (sessions / "105").mkdir()
    (sessions / "105" / "S004-001.avi").write_bytes((sessions / "101" / "S001-001.avi").read_bytes()[:3000])
    shutil.copy(sessions / "101" / "S001-001.avi", sessions / "105" / "holiday.avi")
    return sessions


def test_frames_of_a_video_come_by_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    write_video(path, [Image.new("RGB", (64, 48), (20 * k,) * 3) for k in range(8)])
    assert count_frames(path) == 8
    found = {number: pixels.mean() for number, pixels in read_frames(path, [2, 7, 9])}
    assert found == {2: pytest.approx(20, abs=3), 7: pytest.approx(120, abs=3)}
    with pytest.raises(EgganError, match=r"There is no file .*b\.avi"):
        count_frames(tmp_path / "b.avi")


def test_a_missing_video_reader_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("eggan.data.video.import_module", missing)
    (tmp_path / "a.avi").touch()
    with pytest.raises(EgganError, match=r'pip install "eggan\[video\]"'):
        count_frames(tmp_path / "a.avi")


def test_frames_are_the_same_wherever_reading_starts(tmp_path: Path) -> None:
    """H.264 with frames that refer to later ones, key frames far apart."""
    path, ramp = tmp_path / "long.mp4", np.tile(np.arange(64, dtype=np.uint8) * 2, (64, 1))
    video = imageio_ffmpeg.write_frames(str(path), (64, 64), fps=25, quality=8, output_params=["-g", "40", "-bf", "2"])
    video.send(None)
    for k in range(120):
        video.send(np.repeat((ramp + k)[..., None], 3, axis=2).copy())
    video.close()
    assert count_frames(path) == 120
    whole = dict(read_frames(path, range(1, 121)))
    assert list(whole) == list(range(1, 121))
    assert [round(float(whole[k].mean() - whole[1].mean())) for k in (1, 50, 120)] == pytest.approx([0, 49, 119], abs=3)
    for start in (1, 39, 41, 42, 97, 120):
        wanted = range(start, min(start + 5, 121))
        for number, pixels in read_frames(path, wanted):
            np.testing.assert_array_equal(pixels, whole[number])
        assert [number for number, _ in read_frames(path, wanted)] == list(wanted)
    assert list(read_frames(path, [121])) == []

    memory = fsspec.filesystem("memory")
    memory.pipe("/clips/long.mp4", path.read_bytes())
    address = "memory://clips/long.mp4"
    assert count_frames(address) == 120
    for number, pixels in read_frames(address, [1, 97]):
        np.testing.assert_array_equal(pixels, whole[number])
    memory.pipe("/clips/long.mp4", path.read_bytes()[:3000])
    with pytest.raises(EgganError, match=r"memory://clips/long\.mp4 cannot be read as a video"):
        count_frames(address)


def test_mmi_lists_the_neutral_frame_and_those_of_the_apex(mmi: Path) -> None:
    listing = list_mmi(mmi.parent, step=2)
    found = [(Path(s.item.place).stem, s.identity, s.session, s.emotion, s.item.number) for s in listing.sources]
    assert found == [
        ("S001-001", "mmiS001", 0, "neutral", 1),
        ("S001-001", "mmiS001", 0, "happy", 6),  # AU 6 and 12 are both at their apex from 6 to 7
        ("S001-002", "mmiS001", 1, "neutral", 1),
        ("S001-002", "mmiS001", 1, "surprised", 4),  # without a coding the middle third of twelve frames
        ("S001-002", "mmiS001", 1, "surprised", 6),
        ("S002-014", "mmiS002", 0, "neutral", 1),
        ("S002-014", "mmiS002", 0, "sad", 4),
        ("S002-014", "mmiS002", 0, "sad", 6),
    ]
    why = {Path(skipped.item.place).name: skipped.reason for skipped in listing.skipped}
    assert why["holiday.avi"] == "its name is not like S001-001.avi"
    assert "S003-001-oao_aucs.xml cannot be read as XML" in why["S003-001.avi"]
    assert "S004-001.avi cannot be read as a video" in why["S004-001.avi"]


@pytest.mark.parametrize(
    ("markers", "frames", "starts_neutral"),
    [
        ([[(1, 0), (5, 1), (8, 2), (12, 3), (15, 0)]], [8, 9, 10, 11], True),
        ([[(1, 2), (4, 3), (6, 0)]], [1, 2, 3], False),
        ([[(1, 1), (4, 2), (6, 3)]], [4, 5], False),
        ([[(3, 2), (9, 3)], [(5, 2), (7, 3)], [(20, 2), (30, 3)]], [5, 6], True),
        ([[(3, 2)]], [3], True),
    ],
)
def test_the_apex_is_where_most_units_are_at_theirs(
    markers: list[list[tuple[int, int]]], frames: list[int], starts_neutral: bool, tmp_path: Path
) -> None:
    (tmp_path / "S001-001.avi").write_bytes(b"")
    text = coding(*((str(k), unit) for k, unit in enumerate(markers, 1)))
    (tmp_path / "S001-001-oao_aucs.xml").write_text(text)
    sources = list_mmi(tmp_path, step=1).sources
    assert [s.item.number for s in sources if s.emotion == "mixed"] == frames
    assert [s.item.number for s in sources if s.emotion == "neutral"] == [1] * starts_neutral


def test_mmi_becomes_a_faces_file_with_aus_by_frame(mmi: Path, tmp_path: Path, eggan: Eggan) -> None:
    tables, out = tmp_path / "openface", tmp_path / "mmi.parquet"
    tables.mkdir()
    header = ["frame", "face_id", "timestamp", "confidence", "success", *COLUMNS]
    for name in ("S001-001", "S001-002"):
        lines = [[f, 0, f / 25, 0.98, int((name, f) != ("S001-002", 4)), *[f / 10] * 17] for f in range(1, 13)]
        text = "".join(", ".join(map(str, line)) + "\n" for line in [header, *lines])
        (tables / f"{name}.csv").write_text(text)
    code, said, _ = eggan("prepare", "mmi", mmi, "-o", out, "--aus", tables, "--step", 2)
    assert (code, said.splitlines()[0]) == (0, f"{out}: 4 faces of 1 people")
    table = pq.read_table(out)
    assert table["frame"].to_pylist() == [1, 6, 1, 6]
    assert table["AU45_r"].to_pylist() == pytest.approx([0.1, 0.6, 0.1, 0.6])
    assert table["session"].to_pylist() == [0, 0, 1, 1]
    listed = reasons(tmp_path / "mmi.skipped.csv")
    assert listed["102/S001-002.avi:4"] == "OpenFace says that it failed (success 0)"
    assert listed["103/S002-014.avi:1"] == "it is not in the table of AUs"


def test_of_two_views_side_by_side_the_one_from_the_front_is_taken() -> None:
    points = ((40.0, 40.0), (50.0, 40.0), (70.0, 40.0), (80.0, 40.0))
    front = Face((20, 10, 110, 100), 1.0, (*points, (60.0, 60.0)))
    profile = Face((200, 0, 320, 120), 2.0, (*points, (90.0, 60.0)))
    assert module._largest([profile, front], "a.avi") == front
    with pytest.raises(EgganError, match=r"The face in a\.avi is turned aside"):
        module._largest([profile], "a.avi")


# --- Own folders -----------------------------------------------------------------------------------------------------


@pytest.fixture
def people(tmp_path: Path, rendered: Rendered) -> Path:
    folder = tmp_path / "people"
    for name, who in zip(("ann", "bob", "cyd"), sorted({who for who, _ in rendered}), strict=False):
        (folder / name).mkdir(parents=True)
        rendered[who, "neutral"].save(folder / name / "neutral.png")
        rendered[who, "happy"].save(folder / name / "2 very happy.png")
    shutil.copy(folder / "ann" / "neutral.png", folder / "stray.png")
    return folder


def test_a_folder_with_a_sub_folder_a_person(people: Path, tmp_path: Path, eggan: Eggan) -> None:
    shutil.copy(people / "ann" / "neutral.png", people / "ann" / "holiday.png")
    out = tmp_path / "faces.parquet"
    code, said, _ = eggan("prepare", "folder", people, "-o", out, "--size", 64)
    assert code == 0
    assert said == f"{out}: 6 faces of 3 people\n{tmp_path / 'faces.skipped.csv'}: 2 left out, and why\n"
    faces = read_faces(out, 64)
    assert faces.people == ["ann", "bob", "cyd"]
    assert Counter(faces.emotion) == {"happy": 3, "neutral": 2, "unknown": 1}
    assert Image.open(io.BytesIO(pq.read_table(out)["image"][0].as_py())).size == (64, 64)
    assert reasons(tmp_path / "faces.skipped.csv") == {
        "stray.png": "it lies in no person's sub-folder",
        "ann/neutral.png": "the same picture as ann/holiday.png",
    }


@pytest.mark.parametrize("name", ["faces.parquet", "split"])
def test_what_an_import_wrote_into_its_own_source_is_no_picture(
    name: str, people: Path, eggan: Eggan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(people.parent)
    out = Path("people", name)
    (people / f"{name}.parts").mkdir()
    left = people / f"{name}.parts" / "left.parquet"  # of a run that was cut off
    labels = {"image": [(people / "stray.png").read_bytes()], "identity": ["eve"], "emotion": ["sad"]}
    pq.write_table(pa.table(labels), left)
    assert eggan("prepare", "folder", "people", "-o", out)[0] == 0
    left.unlink(missing_ok=True)
    skipped = (out if name == "split" else out.parent) / ("skipped.csv" if name == "split" else "faces.skipped.csv")
    assert reasons(skipped) == {"stray.png": "it lies in no person's sub-folder"}
    assert eggan("prepare", "folder", "people", "-o", out)[1] == f"{out} is up to date.\n"


def test_shards_with_labels_and_videos_here_and_at_an_address(
    people: Path, tmp_path: Path, eggan: Eggan, rendered: Rendered
) -> None:
    names = [("ann", "neutral.png"), ("ann", "2 very happy.png"), ("bob", "neutral.png"), ("cyd", "neutral.png")]
    images = [(people / who / file).read_bytes() for who, file in names]
    columns = {"image": [*images, b"no picture"], "identity": ["ann", "ann", "bob", None, "dan"], "n": [0] * 5}
    columns["emotion"] = ["neutral", "happy", "neutral", "neutral", "sad"]
    pq.write_table(pa.table(columns | {"session": [0, 0, 7, 0, 0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": images}), tmp_path / "b.parquet")
    write_video(tmp_path / "happy.avi", clip(rendered, sorted({who for who, _ in rendered})[4], "happy", 0, 2))
    memory = fsspec.filesystem("memory")
    for name, place in (("a.parquet", "a.parquet"), ("b.parquet", "b.parquet"), ("happy.avi", "eve/happy.avi")):
        memory.pipe(f"/lab/{place}", (tmp_path / name).read_bytes())
    out = tmp_path / "faces.parquet"
    assert eggan("prepare", "folder", "memory://lab", "-o", out)[0] == 0
    rows = pq.read_table(out).to_pylist()
    assert [(row["identity"], row["session"], row["emotion"], row["file"], row["frame"]) for row in rows] == [
        ("ann", 0, "neutral", "a.parquet", 0),
        ("ann", 0, "happy", "a.parquet", 1),
        ("bob", 7, "neutral", "a.parquet", 2),
        ("eve", 0, "happy", "eve/happy.avi", 1),
        ("eve", 0, "happy", "eve/happy.avi", 2),
    ]
    left_out = reasons(tmp_path / "faces.skipped.csv")
    assert left_out["a.parquet:3"] == "its identity or emotion is empty"
    assert "a.parquet, row 4 cannot be read" in left_out["a.parquet:4"]
    assert left_out["b.parquet"] == "it lacks the column identity"
    local = tmp_path / "local.parquet"
    assert eggan("prepare", "folder", tmp_path / "[ab].parquet", "-o", local)[0] == 0
    assert pq.read_table(local)["AU12_r"].to_pylist() == [row["AU12_r"] for row in rows[:3]]


def test_a_csv_says_who_and_what_is_on_a_picture(people: Path, tmp_path: Path, eggan: Eggan) -> None:
    table, aus, out = people / "people.csv", tmp_path / "aus.csv", tmp_path / "faces.parquet"
    lines = ["file,identity,emotion,session", "ann/neutral.png,a,neutral,3", "bob/2 very happy.png,b,glad,0"]
    table.write_text("\n".join([*lines, "bob/gone.png,b,sad,1"]))
    assert [source.session for source in list_folder(table).sources] == [3, 0, 1]
    assert eggan("annotate", people, "-o", aus)[0] == 0
    assert eggan("prepare", "folder", table, "-o", out, "--aus", aus)[0] == 0
    rows = pq.read_table(out).to_pylist()
    assert [(row["identity"], row["session"], row["emotion"]) for row in rows] == [
        ("a", 3, "neutral"),
        ("b", 0, "glad"),
    ]
    assert "There is no file" in reasons(tmp_path / "faces.skipped.csv")["bob/gone.png"]
    with aus.open(newline="") as file:
        read = {Path(row["file"]).parts[-2:]: row for row in csv.DictReader(file)}
    assert rows[1]["AU12_r"] == pytest.approx(float(read["bob", "2 very happy.png"]["AU12_r"]), abs=1e-6)
    direct = tmp_path / "direct.parquet"  # the same values without the table between, but for its three decimals
    assert eggan("prepare", "folder", table, "-o", direct)[0] == 0
    assert pq.read_table(direct)["AU12_r"].to_pylist() == pytest.approx([row["AU12_r"] for row in rows], abs=6e-4)


def test_openface_reads_whole_pictures_and_must_mean_the_same_face(
    people: Path, tmp_path: Path, eggan: Eggan, make_openface: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENFACE_BIN", str(make_openface()))
    cyd = Image.open(people / "cyd" / "neutral.png").convert("RGB")
    aside = Image.new("RGB", (512, 256), "grey")
    aside.paste(cyd.resize((240, 240)), (260, 10))  # the fake finds its face in the middle
    aside.save(people / "cyd" / "neutral.png")
    out = tmp_path / "faces.parquet"
    assert eggan("prepare", "folder", people, "-o", out, "--with", "openface")[0] == 0
    assert (tmp_path / "log").read_text().count("\n") == 1
    rows = pq.read_table(out).to_pylist()
    brightness = np.asarray(Image.open(people / "ann" / "neutral.png").convert("RGB")).mean() / 51
    assert next(row for row in rows if row["file"] == "ann/neutral.png")["AU01_r"] == pytest.approx(
        brightness, abs=0.15
    )
    assert reasons(tmp_path / "faces.skipped.csv")["cyd/neutral.png"] == "the AUs are of another face"


def test_an_openface_that_fails_stops_the_work_and_keeps_what_is_done(
    people: Path, tmp_path: Path, eggan: Eggan, make_openface: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENFACE_BIN", str(make_openface("#!{python}\nexit(3)\n")))
    out = tmp_path / "faces.parquet"
    code, _, err = eggan("prepare", "folder", people, "-o", out, "--with", "openface")
    assert (code, "failed with exit code 3" in err) == (1, True)
    make_openface("#!{python}\n")  # writes nothing at all: no face counts, and nothing of that is kept for the next run
    code, _, err = eggan("prepare", "folder", people, "-o", out, "--with", "openface")
    assert (code, "Faces of 0 people could be prepared" in err) == (1, True)
    make_openface()
    assert eggan("prepare", "folder", people, "-o", out, "--with", "openface")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["folder", "people", "-o", "faces.csv"], "must be a faces file, ending in .parquet, or a folder"),
        (["folder", "people", "-o", "empty.parquet"], "empty.parquet must be a faces file"),
        (["folder", "people", "-o", "notes"], "notes must be a faces file, ending in .parquet, or a folder"),
        (["folder", "people", "-o", "notes/faces.parquet"], "cannot be written ("),
        (["folder", "people", "-o", "theirs.parquet"], "was not made by eggan prepare: give another -o"),
        (["folder", "people", "-o", "theirs"], "train.parquet is there and was not made by eggan prepare"),
        (
            ["folder", "people/ann", "-o", "a.parquet"],
            "holds nothing to prepare (2 very happy.png: it lies in no person",
        ),
        (["folder", "empty", "-o", "a.parquet"], "empty holds no picture, video or Parquet shard."),
        (["folder", "two.csv", "-o", "split"], "shows 2 people, too few for train, val and test: give a .parquet"),
        (["folder", "nowhere", "-o", "a.parquet"], "There is no folder nowhere"),
        (["rafd", "nowhere", "-o", "a.parquet"], "There is no folder nowhere"),
        (["rafd", "people", "-o", "a.parquet"], "its name is not one of RaFD's"),
        (["rafd", "people", "-o", "a.parquet", "--camera", "91"], "91: choose among 090, 045"),
        (["mmi", "people", "-o", "a.parquet"], "holds nothing to prepare"),
        (["folder", "people", "-o", "a.parquet", "--aus", "gone.csv"], "There is no file gone.csv"),
        (["folder", "people", "-o", "a.parquet", "--aus", "two.csv", "--with", "openface"], "Give either --aus"),
        (["folder", "people", "-o", "a.parquet", "--aus", "two.csv"], "lacks the columns confidence"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    arguments: list[str],
    sentence: str,
    people: Path,
    make_faces_file: Callable[..., Path],
    eggan: Eggan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = people.parent
    make_faces_file("theirs.parquet")
    for folder in ("empty", "theirs", "empty.parquet"):
        (root / folder).mkdir()
    shutil.copy(root / "theirs.parquet", root / "theirs" / "train.parquet")
    (root / "notes").write_text("mine")
    (root / "two.csv").write_text("file,identity,emotion\na.png,ann,sad\nb.png,bob,sad\n")
    monkeypatch.chdir(root)
    before = {path: path.is_file() and path.read_bytes() for path in root.rglob("*")}
    code, out, err = eggan("prepare", *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("eggan: ")
    assert sentence in err
    assert err.count("\n") == 1
    assert {path: path.is_file() and path.read_bytes() for path in root.rglob("*")} == before


def test_people_are_divided_alike_on_every_machine() -> None:
    names = [f"rafd{k:02}" for k in range(1, 68)]
    split = split_people(names)
    assert {name: len(people) for name, people in split.items()} == {"train": 47, "val": 7, "test": 13}
    assert set.union(*split.values()) == set(names)
    assert split == split_people(names[::-1])
    assert sorted(split["val"]) == ["rafd02", "rafd06", "rafd09", "rafd18", "rafd20", "rafd61", "rafd66"]
    assert [len(people) for people in split_people(["a", "b", "c"]).values()] == [1, 1, 1]


# --- To the end ------------------------------------------------------------------------------------------------------


def test_rafd_is_trained_on_and_evaluated(prepared_rafd: Path, tmp_path: Path, eggan: Eggan) -> None:
    files = ["--data", prepared_rafd / "train.parquet", "--val", prepared_rafd / "val.parquet"]
    code, _, err = eggan("train", *TRAIN, *files, "--out", tmp_path / "run")
    assert code == 0, err
    test = prepared_rafd / "test.parquet"
    code, said, err = eggan("evaluate", tmp_path / "run", "--data", test, "--quick", "-o", tmp_path / "report")
    assert code == 0, err
    assert "unexplained" in said


def test_mmi_is_trained_on_and_evaluated(mmi: Path, tmp_path: Path, eggan: Eggan) -> None:
    sessions = tmp_path / "Sessions"
    shutil.copytree(mmi, sessions)
    (sessions / "104" / "S003-001-oao_aucs.xml").unlink()
    assert eggan("prepare", "mmi", sessions, "-o", tmp_path / "mmi", "--step", 4)[0] == 0
    files = ["--data", tmp_path / "mmi" / "train.parquet", "--val", tmp_path / "mmi" / "val.parquet"]
    code, _, err = eggan("train", *TRAIN, *files, "--out", tmp_path / "run")
    assert code == 0, err
    test = tmp_path / "mmi" / "test.parquet"
    code, said, err = eggan("evaluate", tmp_path / "run", "--data", test, "--quick", "-o", tmp_path / "report")
    assert code == 0, err
    assert "unexplained" in said
