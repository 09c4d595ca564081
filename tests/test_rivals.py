"""The rivals: their papers' figures, who gets a gradient from what, and the whole way through the command line."""

from __future__ import annotations

import ast
import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import eggan.rivals
from eggan.action_units import EMOTIONS, NUMBERS
from eggan.data import Batch, Faces, draw_batch, read_faces
from eggan.data.batches import TrainingRows
from eggan.errors import EgganError
from eggan.evaluation.protocol import asked_for, edit_pairs
from eggan.method import Method, as_asked, as_taught, prototypes, show_exemplars
from eggan.model import EGGAN, ComposeForm, ModelConfig
from eggan.networks import AttributeClassifier, AttributeCritic, ImageTranslator, VGG19Stage3, VGG19Stage5
from eggan.rivals import load_model, rival, rivals
from eggan.rivals.ganimation import GANimation, GANimationConfig, attend, smoothness
from eggan.rivals.homointerpgan import GROUP, REGIONS, FeatureCritic, HomoInterpGAN, HomoInterpGANConfig
from eggan.rivals.stargan import StarGAN, StarGANConfig, nearest_emotion
from eggan.training.config import load_config, load_rival_config, presets
from eggan.training.loop import train
from eggan.training.run import Run

TOY = ["image_size=32", "batch_size=4", "critic_steps=2", "precision=float32"]
SHAPE = {
    "stargan": ["network.width=8", "network.blocks=1", "critic_widths=[8,8,16]"],
    "ganimation": ["network.width=8", "network.blocks=1", "critic_widths=[8,8,16]"],
    "homointerpgan": ["critic_width=16", "classifiers.width=4", "classifiers.steps=2", "classifiers.batch_size=4"],
}
FORMS = [("stargan", "emotions"), ("stargan", "action_units"), ("ganimation", ""), ("homointerpgan", "")]
METHODS = ["ganimation", "homointerpgan", "stargan"]


def settings(name: str, labels: str = "") -> list[str]:
    return [*TOY, *SHAPE[name], *([f"network.labels={labels}"] if labels else [])]


def method(name: str, labels: str = "", *changes: str) -> Method:
    """A toy method; C_exp where it starts of one is drawn at random."""
    config = load_rival_config(name, "small", [*settings(name, labels), *changes])
    return rival(name).method(config, lambda _: AttributeClassifier(4, 3))


@pytest.fixture
def faces(make_faces_file: Callable[..., Path]) -> Faces:
    return read_faces(make_faces_file(people=("ann", "bob")), 32)


@pytest.fixture
def batch(faces: Faces, generator: torch.Generator) -> Batch:
    return draw_batch(TrainingRows(faces), 4, paired=False, generator=generator)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# --- Networks against the published figures --------------------------------------------------------------------------


def test_stargans_generator_has_the_published_size_and_cost_at_17_conditions() -> None:
    with torch.device("meta"):
        G = StarGAN(StarGANConfig(labels="action_units"))
        with FlopCounterMode(display=False) as counter:
            out = G(torch.empty(1, 3, 128, 128), torch.empty(1, 17))
    assert out.shape == (1, 3, 128, 128)
    assert parameters(G) == 8_468_160
    assert counter.get_total_flops() / 1e9 == pytest.approx(21.2, abs=0.05)


def test_stargans_generator_has_the_public_codes_size_at_5_conditions() -> None:
    with torch.device("meta"):
        assert parameters(ImageTranslator(5, 64, 6)) + 64 * 3 * 49 == 8_430_528


def test_stargans_critic_has_the_public_codes_size_and_outputs() -> None:
    with torch.device("meta"):
        D = AttributeCritic(128, (64, 128, 256, 512, 1024, 2048), 5)
        score, attributes = D(torch.empty(2, 3, 128, 128))
    assert parameters(D) == 44_762_048
    assert score.shape == (2, 2, 2)
    assert attributes.shape == (2, 5)


def test_ganimation_adds_an_attention_head_to_stargans_generator() -> None:
    with torch.device("meta"):
        G = GANimation(GANimationConfig())
        A, C = G(torch.empty(2, 3, 128, 128), torch.empty(2, 17))
    assert parameters(G) == 8_468_160 + 64 * 49
    assert (A.shape, C.shape) == ((2, 1, 128, 128), (2, 3, 128, 128))


def test_homointerpgan_has_vgg19s_encoder_and_a_branch_for_each_group() -> None:
    with torch.device("meta"):
        model = HomoInterpGAN(HomoInterpGANConfig())
        f = model.E(torch.empty(2, 3, 128, 128)).relu5_1
        image = model.Dec(f)
    assert parameters(model.E) == 20_024_384 - 3 * (512 * 512 * 9 + 512)  # VGG19's sixteen convolutions less the last 3
    assert f.shape == (2, 512, 8, 8)
    assert image.shape == (2, 3, 128, 128)
    assert parameters(model.T) == (len(REGIONS) + 1) * 3 * (512 * 512 * 9 + 512)


@pytest.mark.parametrize("side", [2, 4, 8])
def test_the_feature_critic_ends_in_one_score_at_every_image_size(side: int) -> None:
    score, attributes = FeatureCritic(side, 12, 8)(torch.randn(3, 12, side, side))
    assert (score.shape, attributes.shape) == ((3,), (3, 17))


def test_instance_statistics_are_those_of_the_image_in_testing_too(generator: torch.Generator) -> None:
    G = StarGAN(StarGANConfig(image_size=32, width=8, blocks=1))
    x, c = torch.rand(2, 3, 32, 32, generator=generator), torch.eye(8)[:2]
    assert torch.equal(G.train()(x, c), G.eval()(x, c))
    torch.testing.assert_close(G(x, c)[:1], G(x[:1], c[:1]), rtol=0, atol=1e-5)


def test_labels_reach_the_middle_of_the_picture(generator: torch.Generator) -> None:
    G = ImageTranslator(17, 8, 1)
    x, u = torch.rand(1, 3, 64, 64, generator=generator), torch.zeros(1, 17)
    moved = (G(x, u) - G(x, u + 1)).abs().amax(dim=1)
    assert moved[0, 28:36, 28:36].max() > 1e-3


# --- What an edit is -------------------------------------------------------------------------------------------------


def test_zero_attention_returns_the_input(generator: torch.Generator) -> None:
    I, C = torch.rand(2, 2, 3, 8, 8, generator=generator)
    assert torch.equal(attend(I, torch.zeros(2, 1, 8, 8), C), I)
    assert torch.equal(attend(I, torch.ones(2, 1, 8, 8), C), C)


def test_smoothness_is_the_total_variation_of_an_image() -> None:
    A = torch.zeros(2, 1, 4, 4)
    A[0, 0, 1, 1] = 1  # four edges of one
    assert smoothness(A) == 2


def test_every_prototype_names_its_own_emotion_whatever_its_strength() -> None:
    expected = torch.arange(8)
    assert torch.equal(nearest_emotion(prototypes()), expected)
    assert torch.equal(nearest_emotion(0.1 * prototypes()), expected)
    alone = torch.zeros(1, 17)
    alone[0, NUMBERS.index(45)] = 1  # in no prototype
    assert nearest_emotion(alone) == 0


def test_a_method_of_words_is_asked_by_prototypes_and_taught_by_words_only(
    make_faces_file: Callable[..., Path],
) -> None:
    words = ["neutral", "mixed", "surprised", "angry"] * 4
    faces = read_faces(make_faces_file(people=("ann", "bob"), emotion=words), 32)
    model = StarGAN(StarGANConfig(image_size=32, width=8, blocks=1))
    asked, names = as_asked(model, faces), list(EMOTIONS)
    torch.testing.assert_close(asked.action_units[2], 5 * prototypes()[names.index("surprised")])
    assert torch.equal(asked.action_units[1], faces.action_units[1])
    assert set(as_taught(model, faces).emotion) == {"neutral", "surprised", "angry"}
    by_units = StarGAN(StarGANConfig(image_size=32, labels="action_units", width=8, blocks=1))
    assert as_taught(by_units, faces) is faces
    assert torch.equal(asked_for(by_units, faces, np.array([2])), faces.action_units[[2]] / 5)
    with pytest.raises(EgganError, match="no row whose emotion is one of neutral, angry"):
        as_taught(model, faces.select(faces.emotion == "mixed"))


def test_an_exemplar_is_the_image_with_the_nearest_action_units(faces: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    model = HomoInterpGAN(HomoInterpGANConfig(image_size=32, width=4)).eval()
    show_exemplars(model, faces)
    monkeypatch.setattr(model, "towards", lambda I_1, I_2: I_2)
    edits = edit_pairs(model, faces, np.zeros(3, int), faces.action_units[[1, 2, 3]] / 5 + 1e-4)
    assert torch.equal(edits, faces.images[[1, 2, 3]])


def test_homointerpgan_without_shares_is_its_reconstruction(batch: Batch) -> None:
    model = HomoInterpGAN(HomoInterpGANConfig(image_size=32, width=16)).eval()
    for weight in (p for p in model.parameters() if p.dim() == 4):
        nn.init.kaiming_normal_(weight)  # PyTorch's own start leaves nothing of the picture after so many layers
    still = model.towards(batch.I_i, batch.I_i.flip(0), 0.0)
    torch.testing.assert_close(still, model.Dec(model.E(batch.I_i).relu5_1))
    assert not torch.allclose(model.towards(batch.I_i, batch.I_i.flip(0)), still, atol=1e-6)


def test_c_id_folded_is_the_same_function(batch: Batch) -> None:
    C_id = AttributeClassifier(4, 3)
    for _ in range(3):
        C_id(torch.randn(4, 3, 32, 32) + 0.3)  # running statistics other than 0 and 1
    for norm in (layer for layer in C_id.modules() if isinstance(layer, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.2, 0.2)
    C_id.eval()
    seen = VGG19Stage5.folded(C_id)(batch.I_i)
    torch.testing.assert_close(seen.relu3_1, C_id.relu3_1(batch.I_i), rtol=0, atol=1e-4)
    x = batch.I_i
    for stage in C_id.stages[:4]:
        x = stage(x)
    torch.testing.assert_close(seen.relu5_1, C_id.stages[4][:4](x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("start", ["C_exp", "C_id"])
def test_homointerpgan_starts_from_the_classifier_that_is_named(start: str, batch: Batch) -> None:
    known = {name: AttributeClassifier(4, 3).eval() for name in ("C_exp", "C_id")}
    config = load_rival_config("homointerpgan", "small", [*settings("homointerpgan"), f"losses.start={start}"])
    m = rival("homointerpgan").method(config, lambda name: known[name])
    with torch.no_grad():
        torch.testing.assert_close(m.model.E(batch.I_i).relu3_1, known[start].relu3_1(batch.I_i))
    assert f"started as {start}, no VGG19 was given" in rival("homointerpgan").about(config)


def test_the_official_weights_are_taken_in_vgg19s_order(batch: Batch, tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = [(n, conv) for n, conv in zip(VGG19Stage5.FEATURES, VGG19Stage5(64).convs, strict=True)]
    weights = {f"features.{n}.weight": 0.05 * torch.randn(conv.weight.shape) for n, conv in shapes}
    weights |= {f"features.{n}.bias": 0.05 * torch.randn(conv.bias.shape) for n, conv in shapes}
    seen = VGG19Stage5.official(weights)(batch.I_i)
    torch.testing.assert_close(seen.relu3_1, VGG19Stage3(weights)(batch.I_i))
    torch.save(weights, tmp_path / "vgg19.pth")
    m = method("homointerpgan", "", f"losses.vgg19={tmp_path / 'vgg19.pth'}", "classifiers.width=64")
    assert torch.equal(m.model.E(batch.I_i).relu5_1, seen.relu5_1)
    with pytest.raises(EgganError, match=r"losses\.vgg19: nowhere\.pth does not hold the official VGG19 weights"):
        method("homointerpgan", "", "losses.vgg19=nowhere.pth", "classifiers.width=64")
    with pytest.raises(EgganError, match=r"losses\.vgg19 needs classifiers\.width 64"):
        method("homointerpgan", "", "losses.vgg19=nowhere.pth")


# --- Losses and gradients --------------------------------------------------------------------------------------------

CRITIC_TERMS = {
    ("stargan", "emotions"): {"D", "D_classification", "gradient_penalty"},
    ("stargan", "action_units"): {"D", "D_regression", "gradient_penalty"},
    ("ganimation", ""): {"D", "D_regression", "gradient_penalty"},
    ("homointerpgan", ""): {"D", "D_attributes", "gradient_penalty", "Dec_pixels", "Dec_perceptual", "K"},
}
LEARNER_TERMS = {
    ("stargan", "emotions"): {"adversarial", "classification", "cycle"},
    ("stargan", "action_units"): {"adversarial", "regression", "cycle"},
    ("ganimation", ""): {"adversarial", "regression", "cycle", "mask", "smoothness"},
    ("homointerpgan", ""): {"adversarial", "attributes", "pixels", "perceptual", "guidance", "whole"},
}


@pytest.mark.parametrize("form", FORMS)
def test_each_loss_reaches_all_that_it_teaches_and_nothing_else(
    form: tuple[str, str], batch: Batch, generator: torch.Generator
) -> None:
    m = method(*form)
    noise = m.draw_noise(4, generator)
    out = m.perform(batch, noise)
    critics, learners = ([p for n in side for p in n.parameters()] for side in (m.critics, m.learners))
    loss = m.discriminator_loss(batch, out, noise)
    loss.total.backward()
    assert set(loss.terms) == CRITIC_TERMS[form]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in critics)
    assert all(p.grad is None for p in learners)
    for p in critics:
        p.grad = None
    loss = m.generator_loss(batch, out)
    loss.total.backward()
    assert set(loss.terms) == LEARNER_TERMS[form]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learners)
    assert all(p.grad is None and p.requires_grad for p in critics)


@pytest.mark.parametrize("form", [form for form in FORMS if form[0] != "homointerpgan"])
def test_the_target_alone_moves_the_edit_and_gets_a_gradient(form: tuple[str, str], batch: Batch) -> None:
    model = method(*form).model
    if form == ("stargan", "emotions"):
        c = torch.eye(8)[:4].requires_grad_()
        model(batch.I_i, c).square().sum().backward()
    else:
        c = batch.u_t.clone().requires_grad_()
        model.edit(batch.I_i, batch.u_i, c).square().sum().backward()
    assert (c.grad.abs().sum(dim=0) > 0).all(), "every condition matters"


def test_shares_move_only_the_attributes_of_their_group(batch: Batch, generator: torch.Generator) -> None:
    m = method("homointerpgan")
    noise = m.draw_noise(4, generator)
    brows = torch.zeros_like(noise.v)
    brows[:, 0] = 1
    out = m.perform(batch, noise._replace(v=brows))
    own, partner = torch.tensor(GROUP) == 0, batch.u_i.roll(1, dims=0)
    assert [n for n, of in zip(NUMBERS, GROUP, strict=True) if of == 0] == [1, 2, 4]
    assert torch.equal(out.u_v[:, own], partner[:, own])
    assert torch.equal(out.u_v[:, ~own], batch.u_i[:, ~own])


def test_ganimations_targets_are_jittered_within_a_tenth(batch: Batch, generator: torch.Generator) -> None:
    m = method("ganimation")
    y_f = m.perform(batch, m.draw_noise(4, generator)).y_f
    off = (y_f - batch.u_t).abs()
    assert 0 < off.min() < off.max() <= 0.1 + 1e-6


@pytest.mark.parametrize("form", FORMS)
def test_steps_on_a_fixed_batch_lower_each_side_s_loss(
    form: tuple[str, str], batch: Batch, generator: torch.Generator
) -> None:
    """Each side alone, the other frozen: so its total must fall."""
    for side in ("discriminator", "generator"):
        m = method(*form)
        noise = m.draw_noise(4, generator)
        networks = m.critics if side == "discriminator" else m.learners
        optimizer = torch.optim.Adam([p for n in networks for p in n.parameters()], lr=1e-4)

        def total(m: Method = m, noise: object = noise, side: str = side) -> Tensor:
            out = m.perform(batch, noise)
            return (
                m.discriminator_loss(batch, out, noise) if side == "discriminator" else m.generator_loss(batch, out)
            ).total

        values = []
        for _ in range(8):
            loss = total()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            values.append(loss.item())
        assert values[-1] < values[0], side


# --- Presets, files and the seam -------------------------------------------------------------------------------------


def test_the_rivals_are_known_and_none_imports_another() -> None:
    assert rivals() == METHODS
    for name in rivals():
        path = Path(eggan.rivals.__file__).with_name(f"{name}.py")
        imported = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
        assert not any(module.startswith(("eggan.rivals", "eggan.training")) for module in imported)
        assert rival(name).model.__name__.lower() == name


@pytest.mark.parametrize("name", METHODS)
def test_every_rival_has_a_small_and_a_paper_preset(name: str) -> None:
    assert presets(name) == ["paper", "small"]
    paper, small = (load_rival_config(name, preset) for preset in presets(name))
    assert paper == rival(name).config(), "the paper is the default"
    assert (paper.image_size, paper.critic_steps, paper.learning_rate, paper.betas) == (128, 5, 1e-4, (0.5, 0.999))
    eggan = load_config("small")
    presented = small.steps * small.critic_steps * small.batch_size
    assert (presented, small.image_size) == (eggan.steps * eggan.batch_size, eggan.image_size)


def test_unknown_methods_presets_and_keys_are_one_sentence() -> None:
    with pytest.raises(EgganError, match='no method "dcgan": choose one of eggan, ganimation, homointerpgan, stargan'):
        load_rival_config("dcgan", "small")
    with pytest.raises(EgganError, match='no preset "best": choose one of paper, small'):
        load_rival_config("stargan", "best")
    with pytest.raises(EgganError, match=r"Setting losses\.identity: is not a known key"):
        load_rival_config("stargan", "small", ["losses.identity=0"])
    with pytest.raises(EgganError, match=r"32 pixels cannot be halved 6 times"):
        load_rival_config("ganimation", "small", ["image_size=32"])


@pytest.mark.parametrize("form", FORMS)
def test_a_saved_rival_is_found_by_its_kind_and_edits_the_same(
    form: tuple[str, str], batch: Batch, faces: Faces, tmp_path: Path
) -> None:
    model = method(*form).model.eval()
    model.save_pretrained(tmp_path / "weights", "card")
    loaded = load_model(tmp_path / "weights")
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    for m in (model, loaded):
        show_exemplars(m, faces)
    with torch.no_grad():
        assert torch.equal(*(m.edit(batch.I_i, batch.u_i, batch.u_t) for m in (model, loaded)))


def test_load_model_takes_eggan_too_and_an_editor_refuses_a_rival(tmp_path: Path) -> None:
    assert isinstance(load_model("small"), EGGAN)
    StarGAN(StarGANConfig(image_size=32, width=8, blocks=1)).save_pretrained(tmp_path / "weights", "card")
    with pytest.raises(EgganError, match=r"holds the weights of a StarGAN, not of a EGGAN"):
        EGGAN.from_pretrained(tmp_path / "weights")
    with pytest.raises(EgganError, match='no model "nowhere"'):
        load_model("nowhere")
    EGGAN(ModelConfig(image_size=32, network=ComposeForm(widths=(8, 16)))).save_pretrained(tmp_path / "own", "card")
    assert isinstance(load_model(tmp_path / "own"), EGGAN)


def test_a_rivals_run_stopped_half_way_ends_with_the_weights_of_one_that_was_not(
    make_faces_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HomoInterpGAN: it has a teacher that no checkpoint holds, BatchNorm, and a decoder on the critics' side."""
    files = [f"data={make_faces_file('train.parquet')}", f"val={make_faces_file('val.parquet', people=('dan', 'eve'))}"]
    often = ["steps=5", "checkpoint_every=2", "log_every=1"]
    config = load_rival_config("homointerpgan", "small", [*settings("homointerpgan"), *files, *often])
    train(config, tmp_path / "whole")
    advance = Run.advance
    monkeypatch.setattr(Run, "advance", lambda run: 1 / 0 if run.step == 3 else advance(run))
    with pytest.raises(ZeroDivisionError):
        train(config, tmp_path / "cut")
    monkeypatch.undo()
    train(config, tmp_path / "cut")
    whole, cut = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    state = torch.load(tmp_path / "cut/checkpoint/state.pt", weights_only=True)["objective"]
    assert not any(name.startswith("phi.") for name in state)


def test_a_step_updates_the_critics_on_each_batch_and_the_learners_on_the_last(
    faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_rival_config("ganimation", "small", [*settings("ganimation"), "critic_steps=3"])
    m = method("ganimation")
    run = Run(config, m, TrainingRows(faces), PartialState(cpu=True))
    before, seen = copy.deepcopy(m.model.state_dict()), []
    perform = m.perform
    monkeypatch.setattr(
        m, "perform", lambda batch, noise: seen.append(torch.is_grad_enabled()) or perform(batch, noise)
    )
    run.advance()
    assert run.presented == 12
    assert seen == [False, False, True]
    assert run.optimizers["D_z, D_img"].state_dict()["state"][0]["step"] == 3
    assert run.optimizers["E, G"].state_dict()["state"][0]["step"] == 1
    assert any(not torch.equal(before[name], tensor) for name, tensor in m.model.state_dict().items())


def test_a_method_that_mixes_the_images_of_a_batch_is_not_cut_into_pieces(faces: Faces) -> None:
    config = load_rival_config("homointerpgan", "small", [*settings("homointerpgan"), "accumulate=2"])
    with pytest.raises(EgganError, match="needs one process and accumulate=1, not 1 and 2"):
        Run(config, method("homointerpgan"), TrainingRows(faces), PartialState(cpu=True))


# --- Through the command line ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_twenty_steps_and_a_quick_evaluation_through_the_command_line(
    form: tuple[str, str],
    eggan: Callable[..., tuple[int, str, str]],
    make_faces_file: Callable[..., Path],
    tmp_path: Path,
) -> None:
    name, labels = form
    data, test = (
        make_faces_file("train.parquet", people=("fay", "gus")),
        make_faces_file("test.parquet", people=("ann",)),
    )
    val, out = make_faces_file("val.parquet", people=("dan",)), tmp_path / "run"
    given = [*settings(name, labels), "steps=20", "log_every=10", "sample_every=20", "batch_size=2"]
    arguments = [word for setting in given for word in ("--set", setting)]
    train_it = ["train", "--method", name, "--preset", "small", "--data", data, "--val", val, "--out", out, *arguments]
    code, said, err = eggan(*train_it)
    assert (code, said.strip()) == (0, str(out / "model")), err
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20]
    assert set(lines[0]) == {"step", "images_per_second"} | CRITIC_TERMS[form] | LEARNER_TERMS[form]
    assert (out / "samples/0000020.png").is_file()
    card = (out / "model/README.md").read_text()
    assert "20 of 20 steps, each of 2 batches of 2" in card
    assert {"homointerpgan": "started as C_exp, no VGG19 was given", "stargan": "StarGAN asked by"}.get(
        name, ""
    ) in card
    code, said, err = eggan("evaluate", out, "--data", test, "--quick", "--verify", "none", "-o", tmp_path / "report")
    assert code == 0, err
    figures = json.loads((tmp_path / "report/summary.json").read_text())[str(out)]
    assert 0 < figures["unexplained_change"]["mean"] < float("inf")
    assert figures["parameters_million"]["mean"] == pytest.approx(
        sum(p.numel() for p in load_model(out).parameters()) / 1e6
    )
    assert figures["gflop_per_edit"]["mean"] > 0
    assert ("is asked by word" in said) == (labels == "emotions")
    assert ("is asked by exemplar" in said) == (name == "homointerpgan")


def test_a_run_folder_refuses_another_method(
    eggan: Callable[..., tuple[int, str, str]], make_faces_file: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(load_config("small").to_yaml())
    code, _, err = eggan("train", "--method", "ganimation", "--preset", "small", "--out", tmp_path / "run")
    assert code == 1
    assert err == (
        f"eggan: {tmp_path}/run/config.yaml does not describe a run of this method and version of eggan: give another "
        "--out.\n"
    )
