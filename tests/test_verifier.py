"""The verifier: its embeddings, its weights folder, and that its training learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate, normalize

from eggan.data import read_faces, relight
from eggan.data.batches import TrainingRows
from eggan.training import verifier as training
from eggan.training.verifier import cosface_loss, learn
from eggan.verifier import FaceVerifier, VerifierConfig
from eggan.weights import write_weights

SMALL = VerifierConfig(image_size=16, widths=(8, 8, 8, 16), embedding=12, threshold=0.31)


@pytest.fixture
def verifier() -> FaceVerifier:
    return FaceVerifier(SMALL).eval()


def test_embeddings_have_norm_one(verifier: FaceVerifier) -> None:
    embeddings = verifier.embed(torch.rand(5, 3, 16, 16) * 2 - 1, batch_size=2)
    assert embeddings.shape == (5, 12)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(5))


def test_pictures_of_any_size_are_resampled(verifier: FaceVerifier) -> None:
    small = torch.rand(2, 3, 16, 16) * 2 - 1
    smooth = interpolate(torch.rand(2, 3, 4, 4) * 2 - 1, (16, 16), mode="bicubic", align_corners=False)
    large = interpolate(smooth, (48, 48), mode="bicubic", align_corners=False)
    assert (verifier.embed(large) * verifier.embed(smooth)).sum(1).min() > 0.99
    assert (verifier.embed(large) * verifier.embed(small)).sum(1).max() < 0.99


def test_batches_do_not_change_embeddings(verifier: FaceVerifier) -> None:
    images = torch.rand(7, 3, 20, 20) * 2 - 1
    torch.testing.assert_close(verifier.embed(images, batch_size=3), verifier.embed(images))


def test_the_background_does_not_count(verifier: FaceVerifier) -> None:
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    other = images.clone()
    other[..., :2, :2] = 1 - other[..., :2, :2]
    torch.testing.assert_close(verifier.embed(images), verifier.embed(other), atol=0.01, rtol=0)
    other[..., 8, 8] = 1 - other[..., 8, 8]
    assert (verifier.embed(images) - verifier.embed(other)).abs().max() > 0.01


def test_the_shipped_shape_is_small() -> None:
    assert sum(p.numel() for p in FaceVerifier().parameters()) < 2e6


def test_a_weights_folder_holds_the_whole_verifier(verifier: FaceVerifier, tmp_path: Path) -> None:
    write_weights(tmp_path / "verifier", verifier, SMALL, "Card.\n", torch.float32)
    loaded = FaceVerifier.from_pretrained(tmp_path / "verifier")
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    assert loaded.config == SMALL
    assert not loaded.training
    torch.testing.assert_close(loaded.embed(images), verifier.embed(images))


def test_cosface_without_margin_is_a_softmax_of_cosines() -> None:
    x, W, y = normalize(torch.randn(4, 6)), torch.randn(5, 6), torch.tensor([0, 3, 3, 4])
    cosine = x @ (W / W.norm(dim=1, keepdim=True)).T
    torch.testing.assert_close(cosface_loss(x, W, y, 0.0, 10.0), cross_entropy(10 * cosine, y))


def test_cosface_by_hand() -> None:
    """Two people on the axes, a face at 0 degrees: -log(e^(s(1-m)) / (e^(s(1-m)) + e^0))."""
    loss = cosface_loss(torch.tensor([[1.0, 0.0]]), 3 * torch.eye(2), torch.tensor([0]), 0.4, 2.0)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2 * 0.6)))


def test_every_weight_learns(generator: torch.Generator) -> None:
    model, centres = FaceVerifier(SMALL), nn.Parameter(torch.randn(3, 12))
    loss = cosface_loss(model(torch.rand(6, 3, 16, 16) * 2 - 1), centres, torch.arange(6) % 3, 0.3, 24.0)
    loss.backward()
    for name, p in [*model.named_parameters(), ("centres", centres)]:
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().sum() > 0, name


def test_thirty_steps_lower_the_loss(make_faces_file: Callable[..., Path], generator: torch.Generator) -> None:
    faces = read_faces(make_faces_file(people=("ann", "bob", "cyd", "dan")), 16)
    rows = TrainingRows(faces)
    model, centres = FaceVerifier(SMALL), nn.Parameter(torch.randn(4, 12))
    optimizer = torch.optim.AdamW([*model.parameters(), centres], lr=5e-3)
    losses = []
    for _ in range(30):
        i = torch.randint(len(faces), (16,), generator=generator)
        images = relight(faces.images[i].float() / 127.5 - 1, generator)
        losses.append(learn(model, centres, optimizer, images, rows.classes[i], 0.1))
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_the_command_writes_a_verifier_with_the_threshold_of_val(
    make_faces_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, val = make_faces_file("train.parquet"), make_faces_file("val.parquet", people=("dan", "eve"))
    threads = torch.get_num_threads()
    training.train(data, val, tmp_path / "verifier", minutes=1 / 60, batch_size=8, threads=1)
    torch.set_num_threads(threads)
    loaded = FaceVerifier.from_pretrained(tmp_path / "verifier")
    accuracy, threshold = capsys.readouterr().out.split("accuracy ")[-1].split()[0:3:2]
    assert loaded.config.threshold == pytest.approx(float(threshold), abs=1e-3)
    assert f"accuracy {accuracy} at" in (tmp_path / "verifier" / "README.md").read_text()
