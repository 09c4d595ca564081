"""The editor on an untrained model, and what ships on a rendered face."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from eggan import Editor
from eggan.action_units import NUMBERS
from eggan.editor import open_photo, shipped_models
from eggan.errors import EgganError
from eggan.estimator import ActionUnitEstimator, EstimatorConfig
from eggan.model import EGGAN, ComposeForm, LatentForm, ModelConfig

ROOT = Path(__file__).parent.parent


def untrained(config: ModelConfig) -> Editor:
    model = EGGAN(config).eval()
    if model.composes:
        torch.nn.init.normal_(model.G.to_fields.weight, std=0.05)
    return Editor(model, ActionUnitEstimator(EstimatorConfig(image_size=32, widths=(8, 8, 8, 8))).eval())


@pytest.fixture
def compose_editor() -> Editor:
    return untrained(ModelConfig(image_size=32, network=ComposeForm(widths=(8, 16))))


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def neutral_face() -> Image.Image:
    """The first neutral face of the test split."""
    row = pq.read_table(ROOT / "data/facsynth/test.parquet", columns=["image", "emotion"]).slice(0, 1).to_pylist()[0]
    assert row["emotion"] == "neutral"
    return Image.open(io.BytesIO(row["image"])).convert("RGB")


def test_the_compose_form_edits_at_the_photos_own_size(compose_editor: Editor, photo: Image.Image) -> None:
    assert compose_editor.edit(photo, {12: 4}).size == (80, 80)


def test_the_papers_form_paints_at_the_models_size(photo: Image.Image) -> None:
    network = LatentForm(latent_size=8, encoder_widths=(4, 8), generator_widths=(8,) * 5)
    assert untrained(ModelConfig(image_size=32, network=network)).edit(photo, {12: 4}).size == (32, 32)


def test_arrays_and_pictures_give_the_same_edit(compose_editor: Editor, photo: Image.Image) -> None:
    one, other = compose_editor.edit(photo, {12: 4}), compose_editor.edit(np.asarray(photo), {12: 4})
    assert np.array_equal(np.asarray(one), np.asarray(other))


def test_an_edit_records_source_and_target(compose_editor: Editor, photo: Image.Image) -> None:
    record = compose_editor.edit(photo, {12: 4}, only=True).info["eggan"]
    assert record.target["AU12_r"] == 4
    assert sum(record.target.values()) == 4
    assert list(record.source.values()) == pytest.approx(compose_editor.action_units(photo), abs=1e-3)


def test_an_emotion_by_name_sets_all_seventeen(compose_editor: Editor, photo: Image.Image) -> None:
    target = compose_editor.edit(photo, "happy").info["eggan"].target
    assert {name: value for name, value in target.items() if value} == {"AU06_r": 4, "AU12_r": 4.5, "AU25_r": 4}


def test_threads_get_what_one_thread_gets(compose_editor: Editor, photo: Image.Image) -> None:
    wanted = {au: np.asarray(compose_editor.edit(photo, {au: 3})) for au in NUMBERS}
    got: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda au=au: got.update({au: np.asarray(compose_editor.edit(photo, {au: 3}))}))
        for au in NUMBERS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(got[au], wanted[au]) for au in NUMBERS)


@pytest.mark.parametrize(
    ("shape", "dtype", "sentence"),
    [
        ((40, 30, 3), np.uint8, "30×40 pixels: give a square crop"),
        ((8, 8, 3), np.uint8, "at least 16×16"),
        ((40, 40), np.uint8, "must be uint8"),
        ((40, 40, 3), np.float32, "must be uint8"),
    ],
)
def test_pictures_that_are_no_square_face_are_refused(
    compose_editor: Editor, shape: tuple[int, ...], dtype: type, sentence: str
) -> None:
    with pytest.raises(EgganError, match=sentence):
        compose_editor.edit(np.zeros(shape, dtype), {12: 4})


def test_a_photo_is_opened_upright(tmp_path: Path) -> None:
    picture = Image.new("RGB", (20, 10), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert open_photo(tmp_path / "turned.jpg").size == (10, 20)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(EgganError, match=r"text\.png is not a picture"):
        open_photo(tmp_path / "text.png")
    with pytest.raises(EgganError, match=r"no file .*absent\.png"):
        open_photo(tmp_path / "absent.png")


def test_the_default_model_ships_first_and_the_papers_form_beside_it() -> None:
    models = shipped_models()
    assert list(models) == ["small", "small-paper"]
    assert models["small"].composes
    assert not models["small-paper"].composes


@pytest.mark.parametrize("au", [1, 12, 26])
def test_the_shipped_default_moves_the_au_that_was_asked_for(au: int, neutral_face: Image.Image) -> None:
    editor = Editor.from_pretrained()
    j = NUMBERS.index(au)
    before = editor.action_units(neutral_face)
    after = editor.action_units(editor.edit(neutral_face, {au: 4}))
    assert after[j] - before[j] > 1.5
    others = [abs(after[k] - before[k]) for k in range(17) if k != j and (au, NUMBERS[k]) != (26, 25)]
    assert after[j] - before[j] > max(others)


def test_the_shipped_default_keeps_a_face_whose_own_aus_are_asked_for(neutral_face: Image.Image) -> None:
    editor = Editor.from_pretrained()
    same = np.asarray(editor.edit(neutral_face, {12: 0}, relative=True), dtype=int)
    assert np.abs(same - np.asarray(neutral_face, dtype=int)).mean() < 2


def test_model_imports_without_training_packages_and_package_without_torch() -> None:
    code = (
        "import sys\n"
        "for name in ('torchmetrics', 'omegaconf', 'matplotlib', 'rich', 'yaml'): sys.modules[name] = None\n"
        "import eggan\n"
        "assert 'torch' not in sys.modules\n"
        "import eggan.model\n"
        "eggan.Editor\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
