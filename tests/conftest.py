"""Fixtures of all tests: seeds, tiny faces files, and a program that stands in for OpenFace."""

from __future__ import annotations

import io
import os
import socket
import stat
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from eggan import Editor
from eggan.action_units import COLUMNS, EMOTIONS, NUMBERS
from eggan.cli import main

FACSYNTH = Path(__file__).parent.parent / "data/facsynth"
EXPRESSIONS = ("neutral", "happy", "surprised", "angry")
TYPES = {"image": pa.binary(), "identity": pa.string(), "session": pa.int8(), "emotion": pa.string()} | {
    column: pa.float32() for column in COLUMNS
}

VAL = Path(__file__).parent.parent / "data" / "facsynth" / "val.parquet"
PATIENCE = 600
"""Seconds after which what a test waits for is taken to hang: no test fails because a machine is slow."""


@pytest.fixture(scope="session")
def rendered() -> dict[tuple[str, str], Image.Image]:
    """Faces that a detector finds: facsynth's validation people by (identity, emotion), 128×128."""
    table = pq.read_table(VAL, columns=["identity", "emotion", "image"])
    keys = zip(*(table.column(name).to_pylist() for name in table.column_names[:2]), strict=True)
    first = {key: row for row, key in reversed(list(enumerate(keys)))}
    return {key: Image.open(io.BytesIO(table.column("image")[row].as_py())) for key, row in sorted(first.items())}


@pytest.fixture(autouse=True)
def _seed() -> None:
    """The same initial weights in every run and in every order of the tests."""
    torch.manual_seed(0)


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of randomness."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def neutral_face() -> Image.Image:
    """The first neutral face of facsynth's test split, 128 pixels, aligned."""
    row = pq.read_table(FACSYNTH / "test.parquet", columns=["image", "emotion"]).slice(0, 1).to_pylist()[0]
    assert row["emotion"] == "neutral"
    return Image.open(io.BytesIO(row["image"])).convert("RGB")


@pytest.fixture(scope="session")
def photograph(neutral_face: Image.Image) -> Image.Image:
    """A photograph of that face, 240 wide and 220 high, with grain around it."""
    grain = np.random.default_rng(0).integers(90, 130, (220, 240, 3), dtype=np.uint8)
    picture = Image.fromarray(grain)
    picture.paste(neutral_face.resize((180, 180), Image.Resampling.BICUBIC), (40, 30))
    return picture


@pytest.fixture(scope="session")
def group(photograph: Image.Image) -> Image.Image:
    """A photograph of two people, the larger one on the right."""
    picture = Image.new("RGB", (500, 260), (110, 110, 110))
    picture.paste(photograph.resize((200, 183)), (0, 40))
    picture.paste(photograph.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (240, 20))
    return picture


PAGE = """
import sys
def note(event, arguments):
    if event == "socket.getaddrinfo" or event == "socket.connect":
        place = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        if str(place[0] if isinstance(place, tuple) else place) not in ("127.0.0.1", "localhost", "::1"):
            with open({contacts!r}, "a") as file:
                print(event, place, file=file)
sys.addaudithook(note)
sys.argv = ["eggan", "serve", "--port", "{port}"]
from eggan.cli import main
main()
"""


class Page(NamedTuple):
    """A running `eggan serve`: its address, and a file with the other hosts that it asked for."""

    port: int
    contacts: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("page")
    contacts = folder / "contacts.txt"
    contacts.touch()
    program = PAGE.format(contacts=str(contacts), port=port)
    command, environment = [sys.executable, "-c", program], {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = ""
        while "The page is at" not in said:
            line = server.stderr.readline()
            assert line, f"eggan serve ended: {said}"
            said += line
        threading.Thread(target=server.stderr.read, daemon=True).start()  # it must not wait for a reader
        yield Page(port, contacts)
        assert list(folder.glob("eggan-*"))
        server.terminate()
    assert server.returncode == 0 and not list(folder.glob("eggan-*")), "uploads and results go with the server"


@pytest.fixture(scope="session")
def portrait() -> Editor:
    """The default model."""
    return Editor.from_pretrained(device="cpu")


@pytest.fixture
def eggan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`eggan ARGUMENTS` in this process: exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["eggan", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
            sys.exit(0)
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def make_faces_file(tmp_path: Path) -> Callable[..., Path]:
    """Writer of tiny faces files: people × 2 sessions × 4 expressions, in this order, with drawn PNG images.

    `make_faces_file("val.parquet", people=("dan",), size=64)` names the file, the people and the side in pixels.
    Further keywords change columns: None leaves one out, a function edits its list, anything else replaces or adds it.
    """

    def make(
        name: str = "faces.parquet", *, people: Sequence[str] = ("ann", "bob", "cyd"), size: int = 32, **changes: Any
    ) -> Path:
        rows = [(who, session, emotion) for who in people for session in (0, 1) for emotion in EXPRESSIONS]
        aus = [
            {number: (1.0 - 0.4 * session) * value for number, value in EMOTIONS[emotion].items()}
            for _, session, emotion in rows
        ]
        columns: dict[str, Any] = {
            "image": [_face(who, session, u, size) for (who, session, _), u in zip(rows, aus, strict=True)],
            "identity": [who for who, _, _ in rows],
            "session": [session for _, session, _ in rows],
            "emotion": [emotion for _, _, emotion in rows],
        }
        columns |= {column: [u.get(n, 0.0) for u in aus] for n, column in zip(NUMBERS, COLUMNS, strict=True)}
        for column, change in changes.items():
            columns[column] = change(columns[column]) if callable(change) else change
        kept = {column: values for column, values in columns.items() if values is not None}
        table = {k: v if isinstance(v, pa.Array) else pa.array(v, TYPES.get(k)) for k, v in kept.items()}
        pq.write_table(pa.table(table), tmp_path / name)
        return tmp_path / name

    return make


OPENFACE = """#!{python}
import sys
from pathlib import Path
from PIL import Image
assert sys.argv[1] == "-aus" and "-2Dfp" in sys.argv, sys.argv
arguments = dict(zip(sys.argv[2::2], sys.argv[3::2]))
columns = {columns}
landmarks = [f"{{axis}}_{{k}}" for axis in "xy" for k in range(68)]
for path in sorted(Path(arguments["-fdir"]).iterdir()):
    picture = Image.open(path)
    grey = sum(picture.resize((1, 1)).getpixel((0, 0))) / 3 / 51
    if grey < 0.5:
        continue  # no face, no file
    where = [f"{{side * (0.3 + 0.4 * k / 67):.1f}}" for side in picture.size for k in range(68)]
    lines = [", ".join(["face", "confidence", *landmarks, *columns, "AU01_c"])]
    lines.append(", ".join(["0", "0.35", *["1.0"] * 136, *["4.99"] * len(columns), "1"]))
    values = [f"{{grey / (k + 1):.2f}}" for k in range(len(columns))]
    lines.append(", ".join(["1", "0.975", *where, *values, "0"]))
    Path(arguments["-out_dir"], path.stem + ".csv").write_text("\\n".join(lines) + "\\n")
with Path({log!r}).open("a") as file:
    file.write(f"{{picture.width}} {{len(list(Path(arguments['-fdir']).iterdir()))}}\\n")
"""


@pytest.fixture
def make_openface(tmp_path: Path) -> Callable[..., Path]:
    """Writer of a program that stands in for FaceLandmarkImg: intensity of AU k is brightness (0..5) / (k + 1).

    It finds two faces in each picture, the true one in the middle with the higher confidence, and none in a dark one.
    Each run leaves a line in `log`: the width of the last picture, and how many there were.
    """

    def make(text: str = OPENFACE, columns: tuple[str, ...] = COLUMNS) -> Path:
        path = tmp_path / "FaceLandmarkImg"
        path.write_text(text.format(python=sys.executable, columns=list(columns), log=str(tmp_path / "log")))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return make


def _face(who: str, session: int, u: Mapping[int, float], size: int) -> bytes:
    """A PNG of smooth blobs: skin and background by person and session; brows, eyes and mouth by AUs too."""
    random = np.random.default_rng(zlib.crc32(who.encode()))
    skin, backdrops = random.uniform(0.45, 0.85, 3), random.uniform(0.1, 0.5, (2, 3))
    y, x = np.meshgrid(*[(np.arange(size) + 0.5) / size * 2 - 1] * 2, indexing="ij")
    au = {number: u.get(number, 0.0) / 5 for number in NUMBERS}

    def blob(cx: float, cy: float | np.ndarray, wide: float, high: float) -> np.ndarray:
        return np.exp(-(((x - cx) / wide) ** 2) - ((y - cy) / high) ** 2)

    head = 1 / (1 + np.exp(12 * (np.hypot(x / 0.8, y / 0.95) - 1)))
    brow = -0.45 - 0.12 * (au[1] + au[2]) + 0.12 * au[4]
    eye = 0.10 + 0.06 * au[5] - 0.04 * (au[6] + au[7])
    corners = 0.35 * (au[12] - au[15]) * (x / 0.4) ** 2
    dark = sum(0.5 * blob(side, brow, 0.22, 0.06) + 0.7 * blob(side, -0.2, 0.12, eye) for side in (-0.35, 0.35))
    dark = dark + 0.7 * blob(0, 0.5 - corners, 0.35 + 0.1 * au[12], 0.07 + 0.2 * au[26] + 0.05 * au[25])
    picture = np.where(head[..., None] > 0, head[..., None] * skin + (1 - head[..., None]) * backdrops[session], 0) * (
        1 - 0.8 * dark.clip(0, 1)[..., None]
    )
    file = io.BytesIO()
    Image.fromarray((picture * 255).round().astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
