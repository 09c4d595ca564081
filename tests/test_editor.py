"""The editor on photographs: what comes out, what stays, what is remembered; untrained models and what ships."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eggan import Editor, editor
from eggan.action_units import EMOTIONS, NUMBERS
from eggan.editor import choose_device, shipped_models
from eggan.errors import EgganError
from eggan.estimator import ActionUnitEstimator, EstimatorConfig
from eggan.faces import Photograph, align, crop_transform, detect, native_size, open_photograph
from eggan.faces.paste import feather_weight
from eggan.faces.warp import Rectangle
from eggan.model import EGGAN, ComposeForm, LatentForm, ModelConfig


def untrained(config: ModelConfig) -> Editor:
    model = EGGAN(config).eval()
    if model.composes:
        torch.nn.init.normal_(model.G.to_fields.weight, std=0.05)
    return Editor(model, ActionUnitEstimator(EstimatorConfig(image_size=32, widths=(8, 8, 8, 8))).eval())


@pytest.fixture
def compose_editor() -> Editor:
    return untrained(ModelConfig(image_size=32, network=ComposeForm(widths=(8, 16))))


@pytest.fixture
def latent_editor() -> Editor:
    network = LatentForm(latent_size=8, encoder_widths=(4, 8), generator_widths=(8,) * 5)
    return untrained(ModelConfig(image_size=32, network=network))


@pytest.fixture(scope="module")
def portrait() -> Editor:
    return Editor.from_pretrained(device="cpu")


def change(a: Image.Image | np.ndarray, b: Image.Image | np.ndarray) -> np.ndarray:
    """Absolute difference of the colours, (H, W)."""
    return np.abs(np.asarray(a, dtype=int)[..., :3] - np.asarray(b, dtype=int)[..., :3]).max(axis=2)


def edited_area(picture: Image.Image, face: int = 0) -> np.ndarray:
    """Which pixels a face's edit may change, (H, W)."""
    found = detect(np.asarray(picture))[face]
    size = native_size(found)
    return feather_weight(crop_transform(found, size), size, Rectangle(0, 0, *picture.size)) > 0


# --- Photographs -----------------------------------------------------------------------------------------------------


def test_the_shipped_default_smiles_in_the_photograph_and_changes_nothing_outside_the_face(
    portrait: Editor, photograph: Image.Image
) -> None:
    smile = portrait.edit(photograph, {12: 4, 25: 3})
    assert smile.size == photograph.size
    inside = edited_area(photograph)
    moved = change(smile, photograph)
    assert moved[inside].max() > 60
    assert moved[~inside].max() == 0
    before, after = portrait.action_units(photograph), portrait.action_units(smile)
    assert after[NUMBERS.index(12)] - before[NUMBERS.index(12)] > 1.5


@pytest.mark.parametrize("form", ["compose_editor", "latent_editor"])
def test_both_forms_are_put_back_into_the_photograph(
    form: str, request: pytest.FixtureRequest, photograph: Image.Image
) -> None:
    moved = change(request.getfixturevalue(form).edit(photograph, {12: 4}), photograph)
    inside = edited_area(photograph)
    assert moved[inside].max() > 0
    assert moved[~inside].max() == 0


def test_the_crop_is_the_aligned_face_at_the_photographs_resolution(
    compose_editor: Editor, latent_editor: Editor, photograph: Image.Image
) -> None:
    (face,) = detect(np.asarray(photograph))
    side = native_size(face)
    assert compose_editor.edit(photograph, {12: 4}, crop=True).size == (side, side)
    assert latent_editor.edit(photograph, {12: 4}, crop=True).size == (32, 32)
    model = compose_editor.model
    torch.nn.init.zeros_(model.G.to_fields.weight)
    with torch.no_grad():
        model.G.to_fields.bias.copy_(torch.tensor([0.0, 0.0, 0.0, -40.0, 0.0, 0.0, 0.0]))
    unchanged = Editor(model, compose_editor.estimator).edit(photograph, {12: 4}, crop=True)
    assert change(unchanged, align(np.asarray(photograph), face, side)).max() <= 1


def test_a_crop_is_never_larger_than_the_limit(
    compose_editor: Editor, photograph: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eggan.cuts.MAX_CROP", 64)
    assert compose_editor.edit(photograph, {12: 4}, crop=True).size == (64, 64)
    assert compose_editor.edit(photograph, {12: 4}).size == photograph.size


def test_arrays_paths_pictures_and_photographs_give_the_same_edit(
    compose_editor: Editor, photograph: Image.Image, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    photograph.save(path)
    array = compose_editor.edit(np.asarray(photograph), {12: 4})
    assert isinstance(array, np.ndarray)
    for given in (photograph, path, str(path), open_photograph(path)):
        picture = compose_editor.edit(given, {12: 4})
        assert isinstance(picture, Image.Image)
        np.testing.assert_array_equal(np.asarray(picture), array)


def test_alpha_and_greyness_of_a_photograph_come_back(compose_editor: Editor, photograph: Image.Image) -> None:
    alpha = Image.linear_gradient("L").resize(photograph.size)
    clear = photograph.copy()
    clear.putalpha(alpha)
    edited = compose_editor.edit(clear, {12: 4})
    assert edited.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(edited)[..., 3], np.asarray(alpha))
    assert compose_editor.edit(clear, {12: 4}, crop=True).mode == "RGB"
    assert compose_editor.edit(photograph.convert("L"), {12: 4}).mode == "L"


def test_faces_are_chosen_by_size_number_or_all(compose_editor: Editor, group: Image.Image) -> None:
    first, second = edited_area(group, 0), edited_area(group, 1)
    expected = {"largest": (True, False), 0: (True, False), "1": (False, True), "all": (True, True)}
    for which, wanted in expected.items():
        moved = change(compose_editor.edit(group, {12: 4}, face=which), group)
        assert (moved[first].max() > 0, moved[second].max() > 0) == wanted
        assert moved[~(first | second)].max() == 0
    record = compose_editor.edit(group, {12: 4}, face="all").info["eggan"]
    assert [edit.face for edit in record.edits] == [0, 1]
    assert compose_editor.edit(group, {12: 4}, face=1).info["eggan"].edits[0].face == 1


def test_faces_that_cannot_be_aligned_are_counted(
    compose_editor: Editor, group: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = detect(np.asarray(group))
    monkeypatch.setattr(editor, "detect", lambda _: [found[0], found[1]._replace(spread=0.2)])
    assert compose_editor.edit_photograph(group, {12: 4}, face="all").left_out == 1
    assert compose_editor.edit_photograph(group, {12: 4}, face="largest").left_out == 0


def test_an_edit_records_face_source_and_target(compose_editor: Editor, photograph: Image.Image) -> None:
    (edit,) = compose_editor.edit(photograph, {12: 4}, only=True).info["eggan"].edits
    assert edit.face == 0
    assert edit.target["AU12_r"] == 4
    assert sum(edit.target.values()) == 4
    assert list(edit.source.values()) == pytest.approx(compose_editor.action_units(photograph), abs=1e-3)


def test_an_emotion_or_a_vector_sets_all_seventeen(compose_editor: Editor, photograph: Image.Image) -> None:
    (edit,) = compose_editor.edit(photograph, "happy").info["eggan"].edits
    assert {name: value for name, value in edit.target.items() if value} == {"AU06_r": 4, "AU12_r": 4.5, "AU25_r": 4}
    vector = [EMOTIONS["happy"].get(number, 0.0) for number in NUMBERS]
    (same,) = compose_editor.edit(photograph, vector).info["eggan"].edits
    assert same.target == edit.target
    (halved,) = compose_editor.edit(photograph, "happy:0.5").info["eggan"].edits
    assert {name: value for name, value in halved.target.items() if value} == {"AU06_r": 2, "AU12_r": 2.25, "AU25_r": 2}


def test_numbers_of_numpy_are_numbers(compose_editor: Editor, photograph: Image.Image) -> None:
    expected = np.asarray(compose_editor.edit(photograph, {12: 4}))
    for targets in ({12: np.float64(4)}, {np.int64(12): np.float32(4)}, {12: np.int64(4)}):
        np.testing.assert_array_equal(np.asarray(compose_editor.edit(photograph, targets)), expected)
    whole = np.asarray(compose_editor.edit(photograph, np.full(17, 2.5)))
    np.testing.assert_array_equal(np.asarray(compose_editor.edit(photograph, [2.5] * 17)), whole)
    (frame,) = compose_editor.animate(photograph, np.full((1, 17), 2.5))
    np.testing.assert_array_equal(frame.photograph.pixels, whole)


@pytest.mark.parametrize(
    ("targets", "options", "sentence"),
    [
        ("happy", {"relative": True}, "relative goes with named Action Units only"),
        ([0.0] * 17, {"relative": True}, "relative goes with named Action Units only"),
        ([0.0] * 16, {}, "An expression has 17 Action Units, not 16"),
        ("hungry", {}, '"hungry" is not a known emotion'),
        ({12: 6}, {}, r"Intensity 6 of AU 12 is outside 0\.\.5"),
        ({3: 1}, {}, "AU 3 is not one of the 17"),
        ({"12": 4}, {}, "AU '12' is not one of the 17"),
        ({12: "4"}, {}, "Intensity '4' of AU 12 is not a number"),
        ({12: 4}, {"crop": True, "face": "all"}, "A crop holds one face"),
        ({12: 4}, {"face": "smallest"}, "--face is largest, all or a number"),
        ({12: 4}, {"face": 1}, "there is 1 face"),
    ],
)
def test_a_request_that_cannot_be_is_refused(
    compose_editor: Editor, photograph: Image.Image, targets: object, options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(EgganError, match=sentence):
        compose_editor.edit(photograph, targets, **options)


@pytest.mark.parametrize(
    ("pixels", "sentence"),
    [
        (np.zeros((8, 8, 3), np.uint8), "at least 16 on each side"),
        (np.zeros((40, 40), np.uint8), "must be uint8"),
        (np.zeros((40, 40, 3), np.float32), "must be uint8"),
        (np.zeros((40, 40, 3), np.uint8), "No face was found"),
    ],
)
def test_what_is_no_photograph_of_a_face_is_refused(compose_editor: Editor, pixels: np.ndarray, sentence: str) -> None:
    with pytest.raises(EgganError, match=sentence):
        compose_editor.edit(pixels, {12: 4})


# --- What is remembered, threads, batches ----------------------------------------------------------------------------


def test_a_further_edit_of_a_face_looks_for_nothing_and_encodes_nothing(
    compose_editor: Editor, photograph: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = compose_editor.edit(photograph, {4: 3})
    compose_editor.edit(photograph, {12: 4})
    calls: list[str] = []
    monkeypatch.setattr(editor, "detect", lambda _: calls.append("detect"))
    monkeypatch.setattr(compose_editor.model, "encode", lambda *_: calls.append("encode"))
    monkeypatch.setattr(compose_editor.estimator, "read", lambda _: calls.append("read"))
    again = compose_editor.edit(np.asarray(photograph), {4: 3})
    assert calls == []
    np.testing.assert_array_equal(again, np.asarray(wanted))


def test_a_changed_photograph_is_looked_at_anew(compose_editor: Editor, photograph: Image.Image) -> None:
    pixels = np.asarray(photograph).copy()
    before = compose_editor.action_units(pixels)
    pixels[:] = pixels[:, ::-1] // 2 + 60
    assert compose_editor.action_units(pixels) != before


def test_only_the_last_few_are_remembered(compose_editor: Editor, neutral_face: Image.Image) -> None:
    for shade in range(editor.RECENT + 4):
        crop = np.asarray(neutral_face).copy()
        crop[0, 0] = shade
        compose_editor.edit_aligned(crop, {12: 4})
    assert len(compose_editor._sources._values) == editor.RECENT


def test_threads_get_what_one_thread_gets(compose_editor: Editor, photograph: Image.Image, group: Image.Image) -> None:
    work = [(picture, au) for au in NUMBERS for picture in (photograph, group)]
    fresh = Editor(compose_editor.model, compose_editor.estimator)

    def edit(item: tuple[Image.Image, int]) -> np.ndarray:
        return np.asarray(fresh.edit(item[0], {item[1]: 3}, face="all"))

    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(edit, work))
    for (picture, au), result in zip(work, got, strict=True):
        np.testing.assert_array_equal(result, np.asarray(compose_editor.edit(picture, {au: 3}, face="all")))


def test_a_batch_is_the_edits_one_by_one(
    compose_editor: Editor, photograph: Image.Image, group: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editor, "BATCH", 2)
    photos = [photograph, np.asarray(group), photograph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    results = compose_editor.edit_batch(photos, {12: 4}, face="all")
    assert [type(result) for result in results] == [Image.Image, np.ndarray, Image.Image]
    for photo, result in zip(photos, results, strict=True):
        assert change(result, compose_editor.edit(photo, {12: 4}, face="all")).max() <= 1
    with pytest.raises(EgganError, match="No face was found in picture 1"):
        compose_editor.edit_batch([photograph, np.zeros((40, 40, 3), np.uint8)], {12: 4})


# --- Interpolation ---------------------------------------------------------------------------------------------------


def test_an_interpolation_goes_evenly_from_the_faces_own_action_units_to_the_target(
    compose_editor: Editor, photograph: Image.Image
) -> None:
    frames = compose_editor.interpolate(photograph, "happy", steps=5)
    own = compose_editor.action_units(photograph)
    for k, frame in enumerate(frames):
        (edit,) = frame.info["eggan"].edits
        target = [u + k / 4 * (EMOTIONS["happy"].get(n, 0.0) - u) for n, u in zip(NUMBERS, own, strict=True)]
        assert list(edit.target.values()) == pytest.approx(target, abs=1e-3)
    last = compose_editor.edit(photograph, "happy")
    np.testing.assert_array_equal(np.asarray(frames[-1]), np.asarray(last))
    assert all(isinstance(f, np.ndarray) for f in compose_editor.interpolate(np.asarray(photograph), "sad", steps=2))


def test_an_interpolation_of_the_shipped_default_is_even_where_a_smile_grows(
    portrait: Editor, photograph: Image.Image
) -> None:
    frames = portrait.interpolate(photograph, {12: 4, 25: 3}, steps=4)
    distance = [change(frame, frames[0]).mean() for frame in frames]
    assert distance == sorted(distance)
    assert distance[-1] > 3 * distance[0] + 0.5


def test_an_interpolation_of_one_step_is_refused(compose_editor: Editor, photograph: Image.Image) -> None:
    with pytest.raises(EgganError, match="2 steps at least, not 1"):
        compose_editor.interpolate(photograph, "happy", steps=1)


def test_a_track_drives_a_face_row_by_row(compose_editor: Editor, photograph: Image.Image) -> None:
    track = [[0.0] * 17, [2.5] * 17, [5.0] * 17]
    frames = list(compose_editor.animate(photograph, track))
    for row, frame in zip(track, frames, strict=True):
        np.testing.assert_array_equal(frame.photograph.pixels, np.asarray(compose_editor.edit(photograph, row)))
    with pytest.raises(EgganError, match="no rows"):
        compose_editor.animate(photograph, [])
    with pytest.raises(EgganError, match=r"Intensity 6 of AU 1 is outside 0\.\.5"):
        compose_editor.animate(photograph, [[0.0] * 17, [6.0] * 17])


# --- Aligned crops ---------------------------------------------------------------------------------------------------


def test_an_aligned_crop_is_edited_as_it_is(compose_editor: Editor, latent_editor: Editor) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    edited = compose_editor.edit_aligned(noise, {12: 4})
    assert edited.shape == (80, 80, 3)
    picture = compose_editor.edit_aligned(Image.fromarray(noise), {12: 4})
    np.testing.assert_array_equal(np.asarray(picture), edited)
    assert picture.info["eggan"].edits[0].face is None
    assert latent_editor.edit_aligned(noise, {12: 4}).shape == (32, 32, 3)


def test_known_intensities_of_an_aligned_crop_are_used_and_not_remembered(
    compose_editor: Editor, neutral_face: Image.Image
) -> None:
    estimated = compose_editor.edit_aligned(neutral_face, {12: 4})
    known = compose_editor.edit_aligned(neutral_face, {12: 4}, source=[1.0] * 17)
    (edit,) = known.info["eggan"].edits
    assert set(edit.source.values()) == {1.0}
    assert [value for name, value in edit.target.items() if name != "AU12_r"] == [1.0] * 16
    assert change(known, estimated).max() > 0
    np.testing.assert_array_equal(np.asarray(compose_editor.edit_aligned(neutral_face, {12: 4})), np.asarray(estimated))
    with pytest.raises(EgganError, match="An expression has 17 Action Units, not 3"):
        compose_editor.edit_aligned(neutral_face, {12: 4}, source=[0.0] * 3)


@pytest.mark.parametrize(
    ("shape", "dtype", "sentence"),
    [
        ((40, 30, 3), np.uint8, "30×40 pixels: give a square one"),
        ((8, 8, 3), np.uint8, "at least 16×16"),
        ((40, 40), np.uint8, "must be uint8"),
        ((40, 40, 3), np.float32, "must be uint8"),
    ],
)
def test_crops_that_are_no_square_face_are_refused(
    compose_editor: Editor, shape: tuple[int, ...], dtype: type, sentence: str
) -> None:
    with pytest.raises(EgganError, match=sentence):
        compose_editor.edit_aligned(np.zeros(shape, dtype), {12: 4})


def read(portrait: Editor, crop: Image.Image) -> list[float]:
    """What the estimator reads off an aligned crop."""
    return portrait.estimator.read(portrait._image(np.asarray(crop)))[0].tolist()


@pytest.mark.parametrize("au", [1, 12, 26])
def test_the_shipped_default_moves_the_au_that_was_asked_for(
    au: int, portrait: Editor, neutral_face: Image.Image
) -> None:
    j = NUMBERS.index(au)
    before = read(portrait, neutral_face)
    after = read(portrait, portrait.edit_aligned(neutral_face, {au: 4}))
    assert after[j] - before[j] > 1.5
    others = [abs(after[k] - before[k]) for k in range(17) if k != j and (au, NUMBERS[k]) != (26, 25)]
    assert after[j] - before[j] > max(others)


def test_the_shipped_default_keeps_a_face_whose_own_aus_are_asked_for(
    portrait: Editor, neutral_face: Image.Image
) -> None:
    assert change(portrait.edit_aligned(neutral_face, {12: 0}, relative=True), neutral_face).mean() < 2


# --- Models and devices ----------------------------------------------------------------------------------------------


def test_the_default_model_ships_first_and_the_papers_form_beside_it() -> None:
    models = shipped_models()
    assert list(models) == ["portrait", "small", "small-paper"]
    assert models["portrait"].composes
    assert not models["small-paper"].composes


def test_a_device_is_auto_or_one_that_is_there() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("gpu", "cuda:99"):
        with pytest.raises(EgganError, match=f'There is no device "{name}" here: give auto'):
            Editor.from_pretrained(device=name)


def test_model_imports_without_training_packages_and_package_without_torch() -> None:
    code = (
        "import sys\n"
        "for name in ('torchmetrics', 'omegaconf', 'matplotlib', 'rich', 'yaml', 'imageio_ffmpeg'):\n"
        "    sys.modules[name] = None\n"
        "import eggan\n"
        "assert 'torch' not in sys.modules\n"
        "import eggan.model\n"
        "eggan.Editor\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_photograph_given_as_such_keeps_its_name_in_errors(compose_editor: Editor) -> None:
    photo = Photograph(np.zeros((40, 40, 3), np.uint8), name="blank.png")
    with pytest.raises(EgganError, match=r"No face was found in blank\.png"):
        compose_editor.edit(photo, {12: 4})
