"""The exported file: the same numbers as PyTorch, in onnxruntime alone and in the place of the model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from eggan import Editor
from eggan.errors import EgganError
from eggan.export import OPSET, export_onnx, load_onnx
from eggan.model import EGGAN, ComposeForm, LatentForm, ModelConfig

CONFIGS = {
    "latent": ModelConfig(
        image_size=32,
        network=LatentForm(latent_size=16, encoder_widths=(8, 8, 16), generator_widths=(16, 16, 8, 8, 8)),
    ),
    "compose": ModelConfig(image_size=32, network=ComposeForm(widths=(8, 16, 16), conditioning=16)),
    "patches": ModelConfig(image_size=32, network=ComposeForm(widths=(8, 16, 16), conditioning=16, patch=2)),
}


@pytest.fixture(scope="module", params=CONFIGS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[EGGAN, Path]:
    """A model with random weights in every layer, and the folder that holds it and `model.onnx`."""
    torch.manual_seed(0)
    model = EGGAN(CONFIGS[request.param]).eval()
    if model.composes:
        nn.init.normal_(model.G.to_fields.weight, std=0.3)
    folder = tmp_path_factory.mktemp("exported")
    model.save_pretrained(folder / "folder", "A card.\n")
    export_onnx(model, folder / "model.onnx")
    return model, folder


def request_of(batch: int) -> tuple[Tensor, Tensor, Tensor]:
    return 2 * torch.rand(batch, 3, 32, 32) - 1, torch.rand(batch, 17), torch.rand(batch, 17)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_onnxruntime_gives_pytorchs_edit_from_the_file_alone(exported: tuple[EGGAN, Path], batch: int) -> None:
    model, folder = exported
    I_i, u_i, u_t = request_of(batch)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (edit,) = session.run(["edit"], {"image": I_i.numpy(), "u_i": u_i.numpy(), "u_t": u_t.numpy()})
    with torch.inference_mode():
        expected = model.edit(I_i, u_i, u_t).numpy()
    assert np.abs(expected - I_i.numpy()).max() > 0.1
    np.testing.assert_allclose(edit, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_file_stands_in_for_the_model_and_its_code_serves_several_edits(
    exported: tuple[EGGAN, Path], batch: int
) -> None:
    model, folder = exported
    loaded = load_onnx(folder / "model.onnx")
    assert loaded.config == model.config
    I_i, u_i, _ = request_of(batch)
    I_i = nn.functional.interpolate(I_i, 80, mode="bilinear")
    with torch.inference_mode():
        code, expected_code = loaded.encode(I_i, u_i), model.encode(I_i, u_i)
        for u_t in torch.rand(3, batch, 17):
            expected = model.generate(expected_code, u_t)
            torch.testing.assert_close(loaded.generate(code, u_t), expected, rtol=0, atol=1e-4)


def test_the_file_states_opset_free_batch_version_and_configuration(exported: tuple[EGGAN, Path]) -> None:
    model, folder = exported
    proto = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", OPSET)]
    for tensor in (*proto.graph.input, *proto.graph.output):
        assert tensor.type.tensor_type.shape.dim[0].dim_param == "batch", tensor.name
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert ModelConfig.model_validate(json.loads(metadata["eggan_config"])) == model.config
    assert metadata["eggan_version"]


def test_an_editor_in_onnxruntime_makes_the_same_pictures(
    exported: tuple[EGGAN, Path], photograph: Image.Image
) -> None:
    _, folder = exported
    expected = Editor.from_pretrained(folder / "folder", device="cpu")
    for name, options in (("folder", {"runtime": "onnx"}), ("model.onnx", {})):
        editor = Editor.from_pretrained(folder / name, **options)
        for targets in ({12: 4, 25: 3}, "angry"):
            edit, wanted = (np.asarray(e.edit(photograph, targets), dtype=int) for e in (editor, expected))
            assert np.abs(wanted - np.asarray(photograph)).max() > 5
            assert np.abs(edit - wanted).max() <= 1


def test_eggan_export_writes_the_shipped_default_and_eggan_edit_takes_it(
    photograph: Image.Image, tmp_path: Path, eggan: Callable[..., tuple[int, str, str]]
) -> None:
    photograph.save(tmp_path / "face.png")
    assert eggan("export", "small", "-o", tmp_path / "small.onnx") == (0, f"{tmp_path / 'small.onnx'}\n", "")
    for model in ("small", tmp_path / "small.onnx"):
        out = tmp_path / f"{Path(model).name}.png"
        assert eggan("edit", tmp_path / "face.png", "-o", out, "--emotion", "happy", "--model", model)[0] == 0
    one, other = (np.asarray(Image.open(tmp_path / f"small{k}.png"), dtype=int) for k in ("", ".onnx"))
    assert np.abs(one - np.asarray(photograph)).max() > 60
    assert np.abs(one - other).max() <= 1


# --- Mistakes --------------------------------------------------------------------------------------------------------


def test_another_ending_is_refused_before_the_model_is_read(
    tmp_path: Path, eggan: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = eggan("export", "small", "-o", tmp_path / "small.pt")
    assert (code, err) == (1, f"eggan: {tmp_path / 'small.pt'} must end in .onnx.\n")


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_one_sentence(
    package: str, exported: tuple[EGGAN, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EgganError, match=rf'^ONNX needs the package {package}: pip install "eggan\[onnx\]"\.$'):
        load_onnx(exported[1] / ("folder" if package == "onnxscript" else "model.onnx"))


def test_a_file_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    onnx.save(onnx.ModelProto(), tmp_path / "empty.onnx")
    for name in ("text.onnx", "empty.onnx"):
        with pytest.raises(EgganError, match=rf"{name} is not a file that `eggan export` wrote"):
            Editor.from_pretrained(tmp_path / name)
    with pytest.raises(EgganError, match=r"absent\.onnx cannot be read \(No such file"):
        Editor.from_pretrained(tmp_path / "absent.onnx")


def test_onnx_on_a_gpu_is_refused(exported: tuple[EGGAN, Path]) -> None:
    with pytest.raises(EgganError, match="ONNX runs on the CPU here, not on cuda"):
        Editor.from_pretrained(exported[1] / "model.onnx", device="cuda")
