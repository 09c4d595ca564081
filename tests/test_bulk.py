"""Bulk work: what may go in, what comes out, and that a stop, a bad picture or a cluster changes nothing in it."""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PATIENCE
from PIL import Image

from eggan import bulk
from eggan.action_units import COLUMNS, NUMBERS
from eggan.data.pictures import Item, list_items, read_items
from eggan.editor import Editor
from eggan.errors import EgganError
from eggan.faces import Photograph
from eggan.flow import LOOPBACK, QUIET, Stages, flow
from eggan.provenance import explain

Rendered = dict[tuple[str, str], Image.Image]
Eggan = Callable[..., tuple[int, str, str]]


def encoded(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def shard(path: Path, images: list[bytes | None], group: int = 3) -> Path:
    pq.write_table(pa.table({"image": pa.array(images, pa.binary()), "n": range(len(images))}), path, group)
    return path


@pytest.fixture
def mixed(tmp_path: Path, rendered: Rendered) -> Path:
    """A folder with two faces, a dark picture, a broken one, HEIC, a shard with an empty row, and no shard."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (who, _), *_ = rendered
    happy, neutral = (rendered[who, word].convert("RGB") for word in ("happy", "neutral"))
    happy.save(folder / "b.png")
    neutral.resize((256, 256)).save(folder / "sub" / "a.jpg", quality=95)
    Image.new("RGB", (64, 64)).save(folder / "dark.png")
    (folder / "broken.jpg").write_bytes((folder / "sub" / "a.jpg").read_bytes()[:900])
    (folder / "c.heic").write_bytes(b"\0" * 40)
    (folder / ".hidden.png").write_bytes(encoded(happy))
    (folder / "notes.txt").write_text("no picture")
    shard(folder / "d.parquet", [encoded(happy), None, b"no picture", encoded(neutral), encoded(happy)])
    (folder / "e.parquet").write_bytes(b"no shard")
    return folder


# --- In --------------------------------------------------------------------------------------------------------------


def test_all_kinds_of_pictures_are_listed_and_read_in_order(mixed: Path) -> None:
    items = list_items([mixed])
    rows = [("d.parquet", row) for row in range(5)]
    names = [("b.png", None), ("broken.jpg", None), ("c.heic", None), *[("d.parquet", row) for row in range(5)]]
    assert [(item.below, item.number) for item in items] == [
        *names[:3], *rows, ("dark.png", None), ("e.parquet", None), ("sub/a.jpg", None),
    ]  # fmt: skip
    read = dict(read_items(items))
    sizes = [photo.pixels.shape[0] if isinstance(photo, Photograph) else 0 for photo in read.values()]
    assert sizes == [128, 0, 0, 128, 0, 0, 128, 128, 64, 0, 256]
    reasons = [str(photo) for photo in read.values() if isinstance(photo, EgganError)]
    words = ("cut off or damaged", "export HEIC", "d.parquet, row 1 holds no", "row 2 cannot be read", "as Parquet")
    assert all(word in reason for word, reason in zip(words, reasons, strict=True))


def test_a_pattern_a_file_twice_and_an_address(mixed: Path) -> None:
    assert [item.below for item in list_items([f"{mixed}/*.png", mixed / "b.png"])] == ["b.png", "dark.png"]
    there = list_items([f"file://{mixed}/sub"])
    assert there == [Item(f"file://{mixed}/sub/a.jpg", "a.jpg")]
    assert [isinstance(photo, Photograph) for _, photo in read_items(there)] == [True]
    for nothing, why in (("nothing://x", "cannot be reached"), (mixed / "*.bmp", "holds no picture")):
        with pytest.raises(EgganError, match=why):
            list_items([nothing])


def test_rows_of_a_shard_as_datasets_writes_images(tmp_path: Path, rendered: Rendered) -> None:
    data = encoded(next(iter(rendered.values())))
    pq.write_table(pa.table({"image": [{"bytes": data, "path": "x.png"}]}), tmp_path / "hf.parquet")
    pq.write_table(pa.table({"picture": [data]}), tmp_path / "other.parquet")
    (_, photo), (_, reason) = read_items(list_items([tmp_path]))
    assert isinstance(photo, Photograph) and "has no column image" in str(reason)


def test_many_threads_read_one_shard(tmp_path: Path, rendered: Rendered) -> None:
    data = [encoded(face) for face in list(rendered.values())[:8]]
    path = shard(tmp_path / "d.parquet", [data[k % 8] for k in range(400)], 10)
    items = list_items([path])
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda start: list(read_items(items[start::8])), range(8)))
    for start, part in enumerate(parts):
        for _, photo in part:
            assert isinstance(photo, Photograph)
            np.testing.assert_array_equal(photo.pixels, np.asarray(Image.open(io.BytesIO(data[start])).convert("RGB")))


# --- Out -------------------------------------------------------------------------------------------------------------


def test_shards_hold_what_the_table_holds(mixed: Path, tmp_path: Path, eggan: Eggan) -> None:
    out = tmp_path / "aus"
    code, said, _ = eggan("annotate", mixed, "-o", out)
    assert (code, said) == (0, f"{out}: 5 pictures done, 6 rejected\n")
    rows = pd.read_parquet(out / "shards")
    assert rows["file"].map(lambda name: Path(name).name).tolist() == ["b.png", *["d.parquet"] * 3, "a.jpg"]
    assert rows["number"].fillna(-1).tolist() == [-1, 0, 3, 4, -1]
    rejected = pd.read_parquet(out / "rejected.parquet")
    assert len(rejected) == 6 and "No face was found" in rejected.set_index("file")["reason"][str(mixed / "dark.png")]
    eggan("annotate", mixed / "b.png", mixed / "sub", "-o", tmp_path / "aus.csv")
    with (tmp_path / "aus.csv").open() as file:
        table = [[float(row[column]) for column in COLUMNS] for row in csv.DictReader(file)]
    np.testing.assert_allclose(rows.iloc[[0, 4]][list(COLUMNS)].to_numpy(float), table, atol=6e-4)  # three decimals
    assert sorted(path.name for path in out.iterdir()) == [".rejected", "job.json", "rejected.parquet", "shards"]


def test_a_job_goes_on_where_it_stopped_and_ends_alike(
    mixed: Path, tmp_path: Path, eggan: Eggan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 3)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert eggan("annotate", mixed, "-o", whole)[0] == 0
    look, seen = bulk._look, []

    def tired(part: bulk.Part, **asked: object) -> object:
        seen.append(part.number)
        if part.number == 2 and len(seen) < 9:
            raise KeyboardInterrupt
        return look(part, **asked)  # type: ignore[arg-type]

    monkeypatch.setattr(bulk, "_look", tired)
    assert eggan("annotate", mixed, "-o", cut)[0] != 0
    done = sorted(path.name for path in (cut / "shards").iterdir())
    assert done == ["part-000000.parquet", "part-000001.parquet"]
    assert not (cut / "rejected.parquet").exists()
    (cut / "shards" / ".part-000002.parquet-dead").write_bytes(b"cut off")
    seen.extend([0] * 9)
    code, said, _ = eggan("annotate", mixed, "-o", cut)
    assert code == 0 and said.endswith("; 2 of 4 parts were there\n")
    for name in ("rejected.parquet", *(f"shards/part-{n:06}.parquet" for n in range(4))):
        assert pq.read_table(cut / name).equals(pq.read_table(whole / name)), name
    assert len(list((cut / "shards").iterdir())) == 4
    before = {path: path.stat().st_mtime_ns for path in cut.rglob("*.parquet")}
    assert eggan("annotate", mixed, "-o", cut)[1].endswith("4 of 4 parts were there\n")
    assert before == {path: path.stat().st_mtime_ns for path in cut.rglob("*.parquet")}
    rejected = pq.read_table(cut / "rejected.parquet")
    (cut / "shards" / "part-000001.parquet").unlink()
    assert eggan("annotate", mixed, "-o", cut)[1].endswith("3 of 4 parts were there\n")
    assert pq.read_table(cut / "rejected.parquet").equals(rejected)


def test_a_job_in_the_folder_that_it_reads_goes_on_and_is_no_input(mixed: Path, tmp_path: Path, eggan: Eggan) -> None:
    out = mixed / "aus"
    assert eggan("annotate", mixed, "-o", out)[1] == f"{out}: 5 pictures done, 6 rejected\n"
    assert eggan("annotate", mixed, "-o", out)[1].endswith("1 of 1 parts were there\n")
    for own in (out, out / "shards", out / "shards" / "part-000000.parquet"):
        code, _, said = eggan("annotate", own, "-o", out)
        assert code == 1 and f"{own} lies where the result goes, {out}: give another -o." in said
    assert list_items([mixed / "b.png"], leave_out=[mixed / "b"])  # a name that begins alike lies elsewhere


def test_another_job_and_another_folder_are_refused(mixed: Path, tmp_path: Path, eggan: Eggan) -> None:
    out = tmp_path / "aus"
    eggan("annotate", mixed / "b.png", "-o", out)
    for changed in ([mixed / "sub"], [mixed / "b.png", "--face", "all"]):
        code, _, said = eggan("annotate", *changed, "-o", out)
        assert code == 1 and "holds another job, or its inputs changed" in said
    code, _, said = eggan("annotate", mixed / "b.png", "-o", mixed / "sub")
    assert code == 1 and "sub holds something else (a.jpg): give a new or empty folder" in said
    for wrong in (["--with", "openface"], ["--cluster", "auto", "-o", tmp_path / "a.csv"]):
        assert "Shards go into a folder" in eggan("annotate", mixed, "-o", tmp_path / "x", *wrong)[2]
    assert "--sign signs files one by one" in eggan(
        "edit", mixed, "-o", tmp_path / "x", "--au", "12=4", "--shards", "--sign", "a.pem", "b.pem"
    )[2]  # fmt: skip
    assert not (tmp_path / "x").exists()
    code, _, said = eggan("annotate", tmp_path / "nothing.jpg", mixed / "dark.png", "-o", tmp_path / "none")
    assert code == 1 and f"All 2 pictures were rejected; {tmp_path / 'none'}/rejected.parquet says why" in said
    assert "There is no file" in pd.read_parquet(tmp_path / "none" / "rejected.parquet")["reason"][0]


def test_edits_are_those_of_the_editor(mixed: Path, tmp_path: Path, eggan: Eggan, portrait: Editor) -> None:
    out, files = tmp_path / "shards", tmp_path / "files"
    assert eggan("edit", mixed, "-o", out, "--au", "12=4", "--only", "--shards")[0] == 0
    rows = pd.read_parquet(out / "shards")
    assert len(rows) == 5 and rows["output"].isna().all()
    for row, place in ((0, "b.png"), (4, "sub/a.jpg")):
        there = Image.open(io.BytesIO(rows["image"][row]))
        ours = portrait.edit(Image.open(mixed / place).convert("RGB"), {12: 4}, only=True)
        apart = np.abs(np.asarray(there.convert("RGB"), int) - np.asarray(ours, int))
        assert apart.max() <= (1 if place == "b.png" else 40) and apart.mean() < 1.5  # JPEG
    assert "trainedAlgorithmicMedia".lower() in rows["image"][0].decode("latin-1").lower()
    target = np.stack([np.stack(faces)[0] for faces in rows["target"]])
    assert (target[:, NUMBERS.index(12)] == 4).all() and target.sum() == 4 * 5
    bulk.edit([mixed], files, bulk.Change("portrait", {12: 4.0}, only=True), files=True)
    written = pd.read_parquet(files / "shards")
    assert written["image"].isna().all()
    names = ["b.png", *(f"d.parquet-{row:06}.png" for row in (0, 3, 4)), "sub/a.jpg"]
    assert written["output"].tolist() == [f"pictures/{name}" for name in names]
    assert (files / written["output"][0]).read_bytes() == rows["image"][0]
    assert explain(files / "pictures/sub/a.jpg")["edits"][0]["target"]["AU12_r"] == 4


def test_pictures_that_would_be_written_to_one_file_are_refused_before_the_work(mixed: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    (twin / "sub").mkdir(parents=True)
    shutil.copy(mixed / "sub" / "a.jpg", twin / "sub")
    change = bulk.Change("small", {12: 4.0})
    with pytest.raises(EgganError, match=r"sub/a\.jpg and .*sub/a\.jpg would both be written to pictures/sub/a\.jpg"):
        bulk.edit([mixed, twin], tmp_path / "out", change, files=True)
    assert not (tmp_path / "out").exists()


def test_an_edit_that_cannot_be_put_back_is_rejected_and_the_job_goes_on(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(photo: Photograph, *rest: object) -> object:
        if photo.name.endswith("b.png"):
            raise EgganError("the crop is too small")
        return put_together(photo, *rest)  # type: ignore[arg-type]

    put_together = bulk.put_together
    monkeypatch.setattr(bulk, "put_together", refuse)
    said = bulk.edit([mixed / "b.png", mixed / "sub"], tmp_path / "out", bulk.Change("small", {12: 4.0}))
    assert said.endswith("1 pictures done, 1 rejected")
    assert pd.read_parquet(tmp_path / "out" / "rejected.parquet")["reason"].tolist() == ["the crop is too small"]


def test_pictures_and_shards_at_an_address(mixed: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe(
        {"/faces/b.png": (mixed / "b.png").read_bytes(), "/faces/d.parquet": (mixed / "d.parquet").read_bytes()}
    )
    said = bulk.annotate(["memory://faces"], "memory://out")
    assert said == "memory://out: 4 pictures done, 2 rejected"
    rows = pq.read_table(io.BytesIO(memory.cat_file("/out/shards/part-000000.parquet"))).to_pylist()
    assert [(row["file"], row["number"]) for row in rows] == [
        ("memory:///faces/b.png", None), *[("memory:///faces/d.parquet", row) for row in (0, 3, 4)],
    ]  # fmt: skip


# --- The flow itself -------------------------------------------------------------------------------------------------


def _double(values: list[int]) -> list[int]:
    return [2 * value for value in values]


def _adder() -> Callable[[list[int]], list[int]]:
    return lambda values: [value + 1 for value in values]


def test_results_come_in_order_and_what_is_done_comes_before_a_failure() -> None:
    chunks = [[k, k + 1] for k in range(20)]
    assert list(flow(chunks, Stages(_double, _adder, sum))) == [4 * k + 4 for k in range(20)]
    assert list(flow([], Stages(_double, _adder, sum), "auto")) == []

    def failing() -> Callable[[list[int]], list[int]]:
        def infer(values: list[int]) -> list[int]:
            if values[0] == 10:
                raise EgganError("no")
            return values

        return infer

    got = []
    with pytest.raises(EgganError, match="no"):
        for result in flow(chunks, Stages(_double, failing, sum)):
            got.append(result)
    assert got == [4 * k + 2 for k in range(5)]


def test_ray_is_asked_for_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EgganError, match=r'pip install "eggan\[ray\]"'):
        list(flow([[1]], Stages(_double, _adder, sum), "auto"))


def test_a_cluster_that_does_not_start_or_answer_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import ray

    def init(**options: object) -> None:
        raise Exception("The node timed out.")  # the bare one, as Ray has it

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr("eggan.flow.RUNNING", tmp_path / "none")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for cluster, said in (("auto", "Ray did not start here"), ("10.0.0.1:6379", "no Ray cluster at 10.0.0.1:6379")):
        with pytest.raises(EgganError, match=rf"{said} \(The node timed out\): .*\.$"):
            list(flow([[1]], Stages(_double, _adder, sum), cluster))


@pytest.fixture
def patient_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray gives a node 30 seconds to start, without a setting: its clock runs slower here, as a machine may."""
    from ray._private import node

    slower = SimpleNamespace(**vars(time) | {"monotonic": lambda: time.monotonic() * 30 / PATIENCE})
    monkeypatch.setattr(node, "time", slower)


@pytest.mark.usefixtures("patient_ray")
def test_a_cluster_started_here_listens_on_loopback_alone() -> None:
    values = [[3, k, 1] for k in range(6)]
    results = flow(values, Stages(sorted, partial(partial, sorted, reverse=True), tuple), "auto")
    assert next(results) == (3, 1, 0)
    mine = {child.pid for child in psutil.Process().children(recursive=True)}
    listening = [c.laddr.ip for c in psutil.net_connections("inet") if c.status == "LISTEN" and c.pid in mine]
    assert listening and {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
    assert list(results) == [tuple(sorted(chunk, reverse=True)) for chunk in values[1:]]


# --- A cluster of two nodes, of which one dies, and a driver that is killed ------------------------------------------


@pytest.fixture
def crops(tmp_path: Path, rendered: Rendered) -> Path:
    """Three shards of 100 pictures, all different (facsynth in other lights), one row of each empty."""
    random, faces = np.random.default_rng(0), list(rendered.values())
    folder = tmp_path / "crops"
    folder.mkdir()
    for n in range(3):
        images: list[bytes | None] = []
        for k in range(100):
            pixels = np.asarray(faces[(100 * n + k) % len(faces)].convert("RGB").resize((96, 96)), float)
            tinted = (pixels * random.uniform(0.8, 1.1, 3)).clip(0, 255).astype(np.uint8)
            images.append(None if k == 50 else encoded(Image.fromarray(tinted)))
        shard(folder / f"{n}.parquet", images, 40)
    return folder


class Cluster:
    """Two nodes of one core each on this machine, listening on loopback."""

    def __init__(self) -> None:
        os.environ.update(QUIET | LOOPBACK)
        from ray.cluster_utils import Cluster as Nodes

        arguments = {"num_cpus": 1, "include_dashboard": False, "node_ip_address": "127.0.0.1"}
        self.nodes = Nodes(initialize_head=True, head_node_args=arguments)
        self.second = self.nodes.add_node(num_cpus=1, node_ip_address="127.0.0.1")
        self.address = f"127.0.0.1:{self.nodes.address.rpartition(':')[2]}"


@pytest.fixture
def cluster(patient_ray: None) -> Iterator[Cluster]:
    two = Cluster()
    yield two
    two.nodes.shutdown()


def test_a_dead_node_and_a_killed_driver_lose_and_repeat_nothing(
    crops: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 16)
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    bulk.annotate([crops], alone)
    program = (
        "import sys; from eggan import bulk; bulk.CHUNK = 16\n"
        "print(bulk.annotate([sys.argv[1]], sys.argv[2], cluster=sys.argv[3]))"
    )
    command = [sys.executable, "-c", program, str(crops), str(shared), cluster.address]

    def parts() -> int:
        return len(list((shared / "shards").glob("part-*.parquet"))) if shared.exists() else 0

    def wait_for(count: int, driver: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + PATIENCE
        while parts() < count:
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < deadline, "the cluster does nothing"
            time.sleep(0.05)

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        wait_for(3, first)
        first.send_signal(signal.SIGKILL)
    assert parts() < 19, "killed before the end"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as second:
        wait_for(parts() + 3, second)
        cluster.nodes.remove_node(cluster.second, allow_graceful=False)
        said, complaint = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, complaint
    assert "parts were there" in said
    names = [f"shards/part-{n:06}.parquet" for n in range(19)]
    assert sorted(p.name for p in (shared / "shards").iterdir()) == [name.split("/")[1] for name in names]
    for name in (*names, "rejected.parquet"):
        assert pq.read_table(shared / name).equals(pq.read_table(alone / name)), name
    pictures = pd.concat([pd.read_parquet(shared / "shards"), pd.read_parquet(shared / "rejected.parquet")])
    assert len(pictures) == 300 and not pictures.duplicated(["file", "number"]).any()
