"""The judges: what each makes of pictures whose verdict is known, and one sentence where a judge is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from eggan.action_units import COLUMNS
from eggan.data import Faces, read_faces
from eggan.errors import EgganError
from eggan.evaluation import judges
from eggan.evaluation.judges import (
    BuiltInVerifier,
    DlibJudge,
    LightCNN,
    LightCNNJudge,
    OpenFaceJudge,
    best_threshold,
    calibrate,
    draw_real_pairs,
)
from eggan.verifier import FaceVerifier, VerifierConfig

VAL = Path(__file__).parent.parent / "data" / "facsynth" / "val.parquet"
INSTALLED = find_spec("dlib") is not None and find_spec("face_recognition_models") is not None


# --- OpenFace --------------------------------------------------------------------------------------------------------


def greys(*levels: float, size: int = 64) -> Tensor:
    """One-coloured pictures of brightness 0..5."""
    return torch.stack([torch.full((3, size, size), level / 2.5 - 1) for level in levels])


def test_openface_reads_every_picture_in_one_run(make_openface: Callable[..., Path], tmp_path: Path) -> None:
    judge = OpenFaceJudge(make_openface())
    read = judge.read(greys(4, 2, 3))
    wanted = torch.tensor([4.0, 2.0, 3.0])[:, None] / torch.arange(1, 18)
    torch.testing.assert_close(read, wanted, atol=0.011, rtol=0)
    assert (tmp_path / "log").read_text().split() == ["256", "3"]  # enlarged; one run of three pictures


def test_openface_keeps_the_order_of_many_and_the_size_of_large_pictures(
    make_openface: Callable[..., Path], tmp_path: Path
) -> None:
    levels = [1 + 0.3 * k for k in range(12)]
    read = OpenFaceJudge(make_openface()).read(greys(*levels, size=300))
    torch.testing.assert_close(read[:, 0], torch.tensor(levels), atol=0.011, rtol=0)
    assert (tmp_path / "log").read_text().split() == ["300", "12"]


def test_a_picture_without_a_face_is_a_row_of_nan(make_openface: Callable[..., Path]) -> None:
    judge = OpenFaceJudge(make_openface())
    read = judge.read(greys(4, 0, 3))
    assert read.isnan().all(dim=1).tolist() == [False, True, False]
    assert not judge.read(greys(1)).isnan().any()


def test_a_wrong_openface_is_one_sentence_from_the_judge_too(make_openface: Callable[..., Path]) -> None:
    with pytest.raises(EgganError, match="lacks the column AU45_r"):
        OpenFaceJudge(make_openface(columns=COLUMNS[:-1])).read(greys(4))
    with pytest.raises(EgganError, match="wrote no CSV for 2 pictures"):
        OpenFaceJudge(make_openface()).read(greys(0, 0.1))


# --- dlib ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not INSTALLED, reason="dlib-bin and face_recognition_models are not installed")
def test_dlib_tells_people_of_facsynth_apart() -> None:
    faces = read_faces(VAL, 128)
    people = faces.people[:3]
    rows = [np.flatnonzero((faces.identity == who) & (faces.session == s))[0] for s in (0, 1) for who in people]
    one, other = (faces.images[rows].float() / 127.5 - 1).split(3)
    judge = DlibJudge()
    same, swapped = judge.similarity(one, other), judge.similarity(one, other.roll(1, 0))
    assert same.min() > swapped.max()
    assert (same >= judge.threshold).all()
    assert judge.similarity(one, one).abs().max() == 0


@pytest.mark.skipif(not INSTALLED, reason="the extra `verify` (dlib-bin, face_recognition_models) is not installed")
def test_dlib_takes_its_threshold_from_real_pairs_where_there_are_some() -> None:
    faces = read_faces(VAL, 128)
    of_four = np.isin(faces.identity.astype(str), faces.people[:4])
    some = faces.select(of_four & np.isin(faces.emotion.astype(str), ("neutral", "happy")))
    judge = DlibJudge(some)
    assert DlibJudge().threshold == -0.6
    assert judge.threshold == calibrate(judge, some)[0]


def test_a_missing_dlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges, "find_spec", lambda name: None)
    with pytest.raises(EgganError, match=r"pip install dlib-bin face_recognition_models\.$"):
        DlibJudge()


def test_importing_the_judges_imports_no_dlib() -> None:
    code = "import sys, eggan.evaluation.judges; sys.exit('dlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode == 0


# --- LightCNN --------------------------------------------------------------------------------------------------------


@pytest.fixture
def real(make_faces_file: Callable[..., Path]) -> Faces:
    return read_faces(make_faces_file(), 32)


def test_light_cnn_has_the_layers_of_its_authors() -> None:
    """The expected numbers are weights without biases; MFM doubles the outputs of every convolution.

    The paper's 12.6 M is v1's: its FC has MFM too, and so another 2.1 M.
    """
    layer = {
        "conv1": 25 * 96,
        "block1": 2 * 9 * 48 * 96,
        "group1": 48 * 96 + 9 * 48 * 192,
        "block2": 2 * 2 * 9 * 96 * 192,
        "group2": 96 * 192 + 9 * 96 * 384,
        "block3": 3 * 2 * 9 * 192 * 384,
        "group3": 192 * 384 + 9 * 192 * 256,
        "block4": 4 * 2 * 9 * 128 * 256,
        "group4": 128 * 256 + 9 * 128 * 256,
        "fc": 128 * 8 * 8 * 256,
    }
    state = LightCNN().state_dict()
    assert {
        name: sum(t.numel() for key, t in state.items() if key.startswith(f"{name}.") and key.endswith("weight"))
        for name in layer
    } == layer
    assert sum(t.numel() for t in state.values()) == 10_475_872
    convolutions = [key for key, t in state.items() if t.ndim == 4]
    assert len(convolutions) == 1 + 2 * (1 + 2 + 3 + 4) + 2 * 4  # 29; the FC is one more
    assert state["block4.3.conv2.filter.weight"].shape == (256, 128, 3, 3)
    assert state["group3.conv_a.filter.bias"].shape == (384,)


def test_max_feature_map_is_the_larger_half() -> None:
    layer = judges._MaxFeatureMap(1, 1, 1)
    with torch.no_grad():
        layer.filter.weight.copy_(torch.tensor([1.0, -2.0]).view(2, 1, 1, 1))
        layer.filter.bias.copy_(torch.tensor([0.0, 1.0]))
    x = torch.tensor([-3.0, 0.0, 3.0]).view(3, 1, 1, 1)
    assert layer(x).flatten().tolist() == [7.0, 1.0, 3.0]


@pytest.mark.parametrize("form", ["module.pth.tar", "plain.pth", "plain.safetensors"])
def test_light_cnn_weights_load_in_every_published_form(form: str, tmp_path: Path, real: Faces) -> None:
    network = LightCNN().eval()
    path = tmp_path / form
    if form == "module.pth.tar":
        state = {f"module.{name}": t for name, t in network.state_dict().items()}
        state["module.fc2.weight"] = torch.zeros(10, 256)
        torch.save({"epoch": 3, "arch": "LightCNN", "state_dict": state, "prec1": 97.1}, path)
    elif form == "plain.pth":
        torch.save({**network.state_dict(), "fc2.weight": torch.zeros(10, 256)}, path)
    else:
        save_file(network.state_dict(), path)
    judge = LightCNNJudge(path, real.select(real.emotion == "neutral"))
    images = real.images[:5].float() / 127.5 - 1
    embeddings = judge.embed(images)
    assert embeddings.shape == (5, 256)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(5))
    grey = judges._window(images, *judge.WINDOW).mul(torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, True)
    with torch.inference_mode():
        torch.testing.assert_close(embeddings, network(((grey + 1) / 2).clamp(0, 1)))
    torch.testing.assert_close(judge.similarity(images, images), torch.ones(5))
    assert -1 <= judge.threshold <= 1


def test_weights_of_something_else_are_refused(tmp_path: Path, real: Faces) -> None:
    with pytest.raises(EgganError, match="There is no file"):
        LightCNNJudge(tmp_path / "none.pth", real)
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(EgganError, match=r"text\.pth cannot be read as weights"):
        LightCNNJudge(tmp_path / "text.pth", real)
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(EgganError, match=r"text\.safetensors cannot be read as weights"):
        LightCNNJudge(tmp_path / "text.safetensors", real)
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
    with pytest.raises(EgganError, match="does not hold the weights of LightCNN-29 v2"):
        LightCNNJudge(tmp_path / "linear.pth", real)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(EgganError, match="does not hold the weights of LightCNN-29 v2"):
        LightCNNJudge(tmp_path / "list.pth", real)


def test_the_window_puts_the_eyes_where_light_cnn_wants_them() -> None:
    """Of a picture whose value is its row and column in 128ths, the middle of the eyes is at row 40, column 64."""
    ramp = torch.linspace(0.5, 127.5, 128)
    images = torch.stack([ramp[:, None].expand(128, 128), ramp.expand(128, 128)])[None]
    row, column = judges._window(images, *LightCNNJudge.WINDOW)[0, :, 40, 64]
    assert row == pytest.approx(51.8, abs=1)
    assert column == pytest.approx(64, abs=1)
    row, column = judges._window(images, *LightCNNJudge.WINDOW)[0, :, 88, 64]
    assert row == pytest.approx(94.9, abs=1)


# --- The built-in judges ---------------------------------------------------------------------------------------------


def test_the_built_in_verifier_knows_a_picture_from_another() -> None:
    judge = BuiltInVerifier(FaceVerifier(VerifierConfig(image_size=16, threshold=0.25)).eval())
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    assert judge.threshold == 0.25
    torch.testing.assert_close(judge.similarity(images, images), torch.ones(4))
    assert (judge.similarity(images, images.roll(1, 0)) < 1 - 1e-4).all()


def test_each_picture_is_embedded_once() -> None:
    seen = []

    def embed(images: Tensor) -> Tensor:
        seen.append(len(images))
        return images.flatten(1)

    a = torch.rand(3, 3, 4, 4)[[0, 0, 1, 2]]
    b = torch.cat([a[:1], torch.rand(3, 3, 4, 4)])
    x, y = judges._embed_once(embed, a, b)
    assert seen == [6]
    assert torch.equal(x, a.flatten(1))
    assert torch.equal(y, b.flatten(1))


# --- Real pairs ------------------------------------------------------------------------------------------------------


def test_real_pairs_are_half_one_person_in_two_sessions_half_two_people(real: Faces) -> None:
    pairs = draw_real_pairs(real, 40, seed=3)
    same_person = real.identity[pairs.first] == real.identity[pairs.second]
    assert (same_person == pairs.same).all()
    assert pairs.same.sum() == 20
    assert len(pairs.same) == 40
    assert (real.session[pairs.first] != real.session[pairs.second])[pairs.same].all()
    positives = list(zip(pairs.first[pairs.same], pairs.second[pairs.same], strict=True))
    assert len(set(positives)) == 20
    again = draw_real_pairs(real, 40, seed=3)
    assert (again.first == pairs.first).all()
    assert (again.second == pairs.second).all()


def test_all_pairs_of_a_small_file_are_used(real: Faces) -> None:
    pairs = draw_real_pairs(real, 10_000)
    assert pairs.same.sum() == 3 * 4 * 4
    assert len(pairs.same) == 2 * 3 * 4 * 4


def test_a_file_without_such_pairs_is_refused(make_faces_file: Callable[..., Path]) -> None:
    with pytest.raises(EgganError, match="images of one in two sessions"):
        draw_real_pairs(read_faces(make_faces_file(session=None), 32), 10)
    with pytest.raises(EgganError, match="two people at least"):
        draw_real_pairs(read_faces(make_faces_file(people=("ann",)), 32), 10)


def test_the_best_threshold_lies_between_the_classes() -> None:
    assert best_threshold(np.array([0.1, 0.9, 0.3, 0.7]), np.array([False, True, False, True])) == (0.5, 1.0)


def test_the_best_threshold_agrees_with_trying_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        similarity, same = rng.integers(0, 9, size=30) / 8, rng.random(30) < 0.5
        threshold, accuracy = best_threshold(similarity, same)
        tried = [((similarity >= t) == same).mean() for t in np.arange(-1, 19) / 16 + 1 / 32]
        assert accuracy == pytest.approx(max(tried))
        assert ((similarity >= threshold) == same).mean() == pytest.approx(accuracy)


def test_calibration_finds_the_threshold_of_a_judge(real: Faces) -> None:
    class Knowing:
        """Tells people by their number, with which the top left pixel is marked."""

        name, threshold = "knowing", 0.0

        def similarity(self, a: Tensor, b: Tensor) -> Tensor:
            return -(a[:, 0, 0, 0] - b[:, 0, 0, 0]).abs()

    _, who = np.unique(real.identity.astype(str), return_inverse=True)
    real.images[:, :, 0, 0] = torch.from_numpy(who * 50).byte()[:, None]
    threshold, accuracy = calibrate(Knowing(), real)
    assert accuracy == 1
    assert threshold == pytest.approx(-50 / 127.5 / 2)
