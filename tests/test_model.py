"""A model in use: both forms, Eq. 8, and the files that it is kept in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from eggan.errors import EgganError
from eggan.model import EGGAN, ComposeForm, LatentForm, ModelConfig
from eggan.networks import compose

LATENT = ModelConfig(
    image_size=32,
    network=LatentForm(latent_size=16, encoder_widths=(8, 8, 16), generator_widths=(16, 16, 8, 8, 8)),
)
COMPOSE = ModelConfig(image_size=32, network=ComposeForm(widths=(8, 16, 16), conditioning=16))
both_forms = pytest.mark.parametrize("config", [LATENT, COMPOSE], ids=["latent", "compose"])


def make_model(config: ModelConfig) -> EGGAN:
    """A model with random weights in every layer, also in the one that starts at zero."""
    model = EGGAN(config).eval()
    if model.composes:
        nn.init.normal_(model.G.to_fields.weight, std=0.1)
    return model


def request(size: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """Two smooth sources, their action units and their targets'."""
    I_i = interpolate(2 * torch.rand(2, 3, 8, 8) - 1, size, mode="bilinear")
    return I_i, torch.rand(2, 17), torch.rand(2, 17)


# --- Encode, generate, interpolate -----------------------------------------------------------------------------------


@both_forms
def test_an_edit_has_the_models_shape_and_range(config: ModelConfig) -> None:
    edit = make_model(config).edit(*request())
    assert (edit.shape, edit.dtype) == ((2, 3, 32, 32), torch.float32)
    assert edit.abs().max() <= 1 + 1e-6


@both_forms
def test_an_edit_is_to_encode_and_to_generate(config: ModelConfig) -> None:
    model = make_model(config)
    I_i, u_i, u_t = request()
    assert torch.equal(model.edit(I_i, u_i, u_t), model.generate(model.encode(I_i, u_i), u_t))


def test_a_model_cut_into_patches_is_the_same_function_of_their_averages() -> None:
    model = make_model(COMPOSE)
    patched = model.repatched(2).eval()
    assert patched.config.image_size == 64
    I, u_i, u_t = request(64)
    coarse = model.fields(model.encode(avg_pool2d(I, 2), u_i), u_t)
    for fine, field in zip(patched.fields(patched.encode(I, u_i), u_t), coarse, strict=True):
        torch.testing.assert_close(fine, interpolate(field, scale_factor=2.0), rtol=0, atol=1e-5)


@both_forms
def test_one_code_serves_several_edits(config: ModelConfig) -> None:
    model = make_model(config)
    I_i, u_i, u_t = request()
    code = model.encode(I_i, u_i)
    model.generate(code, u_t)
    assert torch.equal(model.generate(code, u_i), model.edit(I_i, u_i, u_i))
    assert not torch.equal(model.generate(code, u_i), model.generate(code, u_t))


@both_forms
def test_interpolation_starts_at_the_source_and_ends_at_the_target(config: ModelConfig) -> None:
    model = make_model(config)
    I_i, u_i, u_t = request()
    frames = model.interpolate(I_i, u_i, u_t, torch.tensor([0.0, 0.3, 1.0]))
    assert frames.shape == (2, 3, 3, 32, 32)
    torch.testing.assert_close(frames[:, 0], model.edit(I_i, u_i, u_i), rtol=0, atol=1e-6)
    torch.testing.assert_close(frames[:, 2], model.edit(I_i, u_i, u_t), rtol=0, atol=1e-6)


@both_forms
@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_the_middle_of_an_interpolation_is_eq_8(config: ModelConfig, alpha: float) -> None:
    model = make_model(config)
    I_i, u_i, u_t = request()
    (frame,) = model.interpolate(I_i, u_i, u_t, torch.tensor([alpha])).unbind(1)
    expected = model.generate(model.encode(I_i, u_i), u_i + alpha * (u_t - u_i))
    torch.testing.assert_close(frame, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("patch", [1, 2])
def test_the_compose_form_edits_a_larger_source_at_its_own_size(patch: int) -> None:
    model = make_model(COMPOSE).repatched(patch)
    I_i, u_i, u_t = request(80)
    code = model.encode(I_i, u_i)
    fields = model.fields(code, u_t)
    assert fields.mask.shape == (2, 1, 32 * patch, 32 * patch)
    edit = model.generate(code, u_t)
    assert edit.shape == (2, 3, 80, 80)
    assert torch.equal(edit, compose(I_i, fields, patch))


def test_the_compose_form_sees_a_larger_source_at_the_models_size() -> None:
    seen: list[Tensor] = []
    model = make_model(COMPOSE)
    model.E.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    y, x = torch.meshgrid(*[(2 * torch.arange(128) + 1) / 128 - 1] * 2, indexing="ij")
    large = torch.stack([x, y, x * y])[None]  # bilinear, so that the mean of 4 × 4 pixels is the value at their centre
    model.encode(large, torch.rand(1, 17))
    assert seen[0].shape == (1, 3, 32, 32)
    inner = slice(2, -2)
    coarse = torch.nn.functional.avg_pool2d(large, 4)
    torch.testing.assert_close(seen[0][..., inner, inner], coarse[..., inner, inner], rtol=0, atol=2e-3)


def test_detail_too_fine_for_the_models_size_is_averaged_not_aliased() -> None:
    seen: list[Tensor] = []
    model = make_model(LATENT)
    model.E.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.encode(torch.randn(1, 3, 128, 128).sign(), torch.rand(1, 17))
    assert seen[0].std() < 0.35  # a quarter where 16 pixels are averaged, 0.6 where four are


def test_the_papers_form_paints_at_its_own_size_whatever_the_sources() -> None:
    model = make_model(LATENT)
    assert model.edit(*request(80)).shape == (2, 3, 32, 32)
    assert model.encode(*request()[:2]).latent.shape == (2, 16)


# --- Configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"image_size": 100}, "power of two"),
        ({"image_size": 8}, "image_size"),
        ({"image_size": 64}, "generator_widths"),
        ({"image_size": 128, "network": {"form": "compose", "widths": [4, 8]}}, "multiples of 8"),
        ({"image_size": 16, "network": {"form": "compose", "widths": [8] * 6}}, "halved 5 times"),
        ({"image_size": 32, "network": {"form": "compose", "patch": 4}}, "patches of 4"),
        ({"image_size": 32, "network": {"form": "compose", "patch": 3}}, "patches of 3"),
        ({"image_size": 128, "network": {"form": "compose", "flow_range": 0}}, "flow_range"),
        ({"image_size": 128, "network": {"form": "dream"}}, "form"),
        ({"image_size": 128, "colours": 3}, "colours"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(config: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ModelConfig.model_validate(config)


# --- Files -----------------------------------------------------------------------------------------------------------


@both_forms
def test_a_saved_model_comes_back_exactly(config: ModelConfig, tmp_path: Path) -> None:
    model = make_model(config)
    model.save_pretrained(tmp_path / "mine", "A card.\n")
    loaded = EGGAN.from_pretrained(tmp_path / "mine")
    assert loaded.config == config
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    I_i, u_i, u_t = request()
    assert torch.equal(loaded.edit(I_i, u_i, u_t), model.edit(I_i, u_i, u_t))


@both_forms
def test_a_model_saved_in_half_precision_comes_back_within_its_error(config: ModelConfig, tmp_path: Path) -> None:
    model = make_model(config)
    model.save_pretrained(tmp_path / "mine", "", torch.float16)
    model.save_pretrained(tmp_path / "full", "")
    loaded = EGGAN.from_pretrained(tmp_path / "mine")
    for name, tensor in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == torch.float32
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=2**-11, atol=2**-24)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("mine", "full")]
    assert sizes[0] < 0.7 * sizes[1]
    I_i, u_i, u_t = request()
    torch.testing.assert_close(loaded.edit(I_i, u_i, u_t), model.edit(I_i, u_i, u_t), rtol=0, atol=0.02)


def test_a_saved_folder_holds_config_weights_and_card_only(tmp_path: Path) -> None:
    make_model(COMPOSE).save_pretrained(tmp_path / "deep" / "mine", "A card.\n")
    folder = tmp_path / "deep" / "mine"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert (folder / "README.md").read_text() == "A card.\n"
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]


def test_saving_again_replaces_the_folder(tmp_path: Path) -> None:
    make_model(COMPOSE).save_pretrained(tmp_path / "mine", "first")
    second = make_model(LATENT)
    second.save_pretrained(tmp_path / "mine", "second")
    assert EGGAN.from_pretrained(tmp_path / "mine").config == LATENT
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_training_runs_folder_stands_for_its_model(tmp_path: Path) -> None:
    make_model(COMPOSE).save_pretrained(tmp_path / "run" / "model", "")
    assert EGGAN.from_pretrained(tmp_path / "run").config == COMPOSE


@pytest.mark.parametrize("had_one", [True, False])
def test_a_failed_save_leaves_what_was_there_whole(
    had_one: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    if had_one:
        make_model(COMPOSE).save_pretrained(folder, "old")
    before = {path.name: path.read_bytes() for path in folder.iterdir()} if had_one else {}

    def fail(tensors: dict[str, Tensor], path: Path, **options: object) -> None:
        Path(path).write_bytes(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr("eggan.weights.save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        make_model(LATENT).save_pretrained(folder, "new")
    assert [path.name for path in tmp_path.iterdir()] == (["mine"] if had_one else [])
    assert ({path.name: path.read_bytes() for path in folder.iterdir()} if had_one else {}) == before


def test_an_interrupt_between_the_two_renames_gives_the_old_folder_its_name_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(COMPOSE).save_pretrained(tmp_path / "mine", "old")
    rename, calls = Path.rename, []

    def interrupted(path: Path, to: Path) -> Path:
        calls.append(path)
        return rename(path, to) if len(calls) != 2 else [][0]

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(IndexError):
        make_model(COMPOSE).save_pretrained(tmp_path / "mine", "new")
    assert (tmp_path / "mine" / "README.md").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(EgganError) as error:
        EGGAN.from_pretrained(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(error.value)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_folder_without_one_of_its_files_is_named(tmp_path: Path, file: str) -> None:
    make_model(COMPOSE).save_pretrained(tmp_path / "mine", "")
    (tmp_path / "mine" / file).unlink()
    with pytest.raises(EgganError) as error:
        EGGAN.from_pretrained(tmp_path / "mine")
    assert str(tmp_path / "mine") in str(error.value)


def change_config(folder: Path, **changes: object) -> None:
    whole = json.loads((folder / "config.json").read_text())
    whole["config"] |= changes
    (folder / "config.json").write_text(json.dumps(whole))


def test_an_unknown_key_in_config_json_is_refused_with_path_and_key(tmp_path: Path) -> None:
    make_model(COMPOSE).save_pretrained(tmp_path, "")
    change_config(tmp_path, colours=3)
    with pytest.raises(EgganError) as error:
        EGGAN.from_pretrained(tmp_path)
    assert str(tmp_path / "config.json") in str(error.value)
    assert "colours" in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"config": 3}', '{"config": {"image_size": "big"}}'])
def test_a_config_json_that_describes_no_model_is_refused_with_its_path(tmp_path: Path, text: str) -> None:
    make_model(COMPOSE).save_pretrained(tmp_path, "")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(EgganError) as error:
        EGGAN.from_pretrained(tmp_path)
    assert str(tmp_path / "config.json") in str(error.value)


@pytest.mark.parametrize("kept", [0, 4, 200, -1])
def test_truncated_weights_are_refused_with_their_path(tmp_path: Path, kept: int) -> None:
    make_model(COMPOSE).save_pretrained(tmp_path, "")
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(EgganError) as error:
        EGGAN.from_pretrained(tmp_path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "network", [{"form": "compose", "widths": [8, 16, 24], "conditioning": 16}, LATENT.network.model_dump()]
)
def test_weights_of_another_shape_are_refused_with_their_path(tmp_path: Path, network: dict) -> None:
    make_model(COMPOSE).save_pretrained(tmp_path, "")
    change_config(tmp_path, network=network)
    with pytest.raises(EgganError) as error:
        EGGAN.from_pretrained(tmp_path)
    assert str(tmp_path / "model.safetensors") in str(error.value)


def test_a_model_works_with_nothing_of_training_installed(tmp_path: Path) -> None:
    make_model(COMPOSE).save_pretrained(tmp_path / "mine", "")
    script = f"""
import sys
for name in ("torchmetrics", "omegaconf", "yaml", "rich", "matplotlib", "typer", "scipy", "torchvision"):
    sys.modules[name] = None  # an import of it fails
import torch
from eggan.model import EGGAN
model = EGGAN.from_pretrained({str(tmp_path / "mine")!r})
print(tuple(model.edit(torch.zeros(1, 3, 32, 32), torch.zeros(1, 17), torch.ones(1, 17)).shape))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 3, 32, 32)"


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    model = EGGAN(ModelConfig(image_size=32, network=ComposeForm(widths=(8, 16))))
    with pytest.raises(EgganError, match=r"holds something else \(thesis\.tex\)"):
        model.save_pretrained(tmp_path, "card")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(EgganError, match="estimator holds the weights of a ActionUnitEstimator, not of a EGGAN"):
        EGGAN.from_pretrained("estimator")
