"""Eq. 7: who gets a gradient from what, what the totals are, and that a step goes the right way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from eggan import losses
from eggan.data import Batch, draw_batch, read_faces
from eggan.data.batches import TrainingRows
from eggan.networks import AttributeClassifier
from eggan.objective import Judges, Noise, Objective
from eggan.training.config import load_config
from eggan.training.loop import _objective

LATENT = (
    "image_size=32", "network.latent_size=16", "network.encoder_widths=[8,16,16]",
    "network.generator_widths=[16,16,16,8,8]", "critic_widths=[8,16,16]",
)  # fmt: skip
COMPOSE = ("image_size=32", "network.widths=[8,16,16]", "network.conditioning=16", "critic_widths=[8,16,16]")
GENERATOR_TERMS = {"latent", "adversarial", "au", "identity", "perceptual", "reconstruction"}
DISCRIMINATOR_TERMS = {"D_z", "D_img", "gradient_penalty", "latent_penalty"}


def latent_objective(*changes: str) -> Objective:
    """The paper's form and objective, small."""
    config = load_config("small-paper", [*LATENT, *changes])
    return _objective(config, Judges(AttributeClassifier(4, 102), AttributeClassifier(4, 3), None))


def compose_objective(*changes: str) -> Objective:
    """The compose form taught by pairs, small, its last layer drawn at random."""
    config = load_config("small", [*COMPOSE, *changes])
    objective = _objective(config, Judges(AttributeClassifier(4, 102), AttributeClassifier(4, 3), None))
    nn.init.normal_(objective.model.G.to_fields.weight, std=0.05)
    return objective


@pytest.fixture
def batch(make_faces_file: Callable[..., Path], generator: torch.Generator) -> Batch:
    """Four pairs of two people."""
    faces = read_faces(make_faces_file(people=("ann", "bob")), 32)
    return draw_batch(TrainingRows(faces), 4, paired=True, generator=generator)


def reached(objective: Objective) -> set[str]:
    """The networks of which a parameter has a gradient other than zero."""
    networks = {
        "E": objective.model.E,
        "G": objective.model.G,
        "D_z": objective.D_z,
        "D_img": objective.D_img,
        "C_exp": objective.C_exp,
        "C_id": objective.C_id,
    }
    return {
        name
        for name, network in networks.items()
        if network is not None and any(p.grad is not None and p.grad.any() for p in network.parameters())
    }


def without(*terms: str) -> list[str]:
    return [f"losses.{term}=0" for term in terms]


def noise(objective: Objective, generator: torch.Generator) -> Noise:
    return objective.draw_noise(4, generator)


def step(objective: Objective, batch: Batch, generator: torch.Generator) -> None:
    """Both losses on one pass of E and G, and their gradients."""
    out = objective.perform(batch)
    objective.discriminator_loss(batch, out, noise(objective, generator)).total.backward()
    objective.generator_loss(batch, out).total.backward()


# --- Gradients -------------------------------------------------------------------------------------------------------


def test_a_discriminator_step_reaches_the_critics_only(batch: Batch, generator: torch.Generator) -> None:
    objective = latent_objective()
    objective.discriminator_loss(batch, objective.perform(batch), noise(objective, generator)).total.backward()
    assert reached(objective) == {"D_z", "D_img"}


def test_a_generator_step_reaches_encoder_and_generator_only(batch: Batch) -> None:
    objective = latent_objective()
    objective.generator_loss(batch, objective.perform(batch)).total.backward()
    assert reached(objective) == {"E", "G"}
    judged = [objective.D_z, objective.D_img, objective.C_exp, objective.C_id]
    assert all(p.grad is None for network in judged for p in network.parameters())


def test_both_steps_work_on_one_pass(batch: Batch, generator: torch.Generator) -> None:
    objective = latent_objective()
    step(objective, batch, generator)
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_the_critics_can_learn_again_after_a_generator_step(batch: Batch) -> None:
    objective = latent_objective()
    objective.generator_loss(batch, objective.perform(batch))
    assert all(p.requires_grad for D in (objective.D_z, objective.D_img) for p in D.parameters())


def test_the_latent_critics_verdict_alone_reaches_the_encoder_and_not_the_generator(batch: Batch) -> None:
    objective = latent_objective(*without("adversarial", "au", "identity", "perceptual", "reconstruction"))
    loss = objective.generator_loss(batch, objective.perform(batch))
    loss.total.backward()
    assert set(loss.terms) == {"latent"}
    assert reached(objective) == {"E"}
    assert all(p.grad is None for p in objective.model.G.parameters())


@pytest.mark.parametrize("term", ["adversarial", "au", "identity", "perceptual", "reconstruction"])
def test_each_term_on_the_edit_alone_reaches_encoder_and_generator(batch: Batch, term: str) -> None:
    objective = latent_objective(*without(*GENERATOR_TERMS - {term}))
    loss = objective.generator_loss(batch, objective.perform(batch))
    loss.total.backward()
    assert set(loss.terms) == {term}
    assert reached(objective) == {"E", "G"}


# --- Judges ----------------------------------------------------------------------------------------------------------


def test_judges_are_frozen_in_evaluation_mode() -> None:
    objective = latent_objective()
    for judge in (objective.C_exp, objective.C_id):
        assert not any(module.training for module in judge.modules())
        assert not any(p.requires_grad for p in judge.parameters())


def test_a_step_leaves_the_judges_as_they_are(batch: Batch, generator: torch.Generator) -> None:
    """Their BatchNorm statistics too, which are of real images."""
    objective = latent_objective()
    before = copy.deepcopy([objective.C_exp.state_dict(), objective.C_id.state_dict()])
    step(objective, batch, generator)
    for judge, state in zip((objective.C_exp, objective.C_id), before, strict=True):
        for name, tensor in judge.state_dict().items():
            assert torch.equal(tensor, state[name]), name


# --- Terms -----------------------------------------------------------------------------------------------------------


def test_the_papers_objective_has_all_terms(batch: Batch, generator: torch.Generator) -> None:
    objective = latent_objective()
    out = objective.perform(batch)
    assert set(objective.generator_loss(batch, out).terms) == GENERATOR_TERMS
    assert set(objective.discriminator_loss(batch, out, noise(objective, generator)).terms) == DISCRIMINATOR_TERMS


@pytest.mark.parametrize("term", sorted(GENERATOR_TERMS))
def test_a_generator_term_of_weight_zero_is_left_out(batch: Batch, term: str) -> None:
    objective = latent_objective(f"losses.{term}=0")
    assert set(objective.generator_loss(batch, objective.perform(batch)).terms) == GENERATOR_TERMS - {term}


@pytest.mark.parametrize(
    ("weight", "left"),
    [
        ("latent", {"D_img", "gradient_penalty"}),
        ("adversarial", {"D_z", "latent_penalty"}),
        ("gradient_penalty", {"D_z", "latent_penalty", "D_img"}),
        ("latent_penalty", {"D_z", "D_img", "gradient_penalty"}),
    ],
)
def test_a_discriminator_term_of_weight_zero_is_left_out(
    batch: Batch, weight: str, left: set[str], generator: torch.Generator
) -> None:
    objective = latent_objective(f"losses.{weight}=0")
    assert set(objective.discriminator_loss(batch, objective.perform(batch), noise(objective, generator)).terms) == left


def test_no_reconstruction_is_made_where_no_term_needs_one(batch: Batch) -> None:
    assert latent_objective().perform(batch).reconstruction is not None
    assert latent_objective("losses.reconstruction=0").perform(batch).reconstruction is not None
    assert latent_objective(*without("reconstruction", "perceptual")).perform(batch).reconstruction is None


def test_a_generator_total_is_the_weighted_sum_of_its_terms(batch: Batch) -> None:
    weights = {
        "latent": 2.0,
        "adversarial": 3.0,
        "au": 5.0,
        "identity": 7.0,
        "perceptual": 11.0,
        "reconstruction": 13.0,
    }
    objective = latent_objective(*(f"losses.{term}={weight}" for term, weight in weights.items()))
    loss = objective.generator_loss(batch, objective.perform(batch))
    expected = sum(weights[name] * term.item() for name, term in loss.terms.items())
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)


def test_a_discriminator_total_is_the_weighted_sum_of_its_terms(batch: Batch, generator: torch.Generator) -> None:
    objective = latent_objective("losses.gradient_penalty=7", "losses.latent_penalty=300")
    loss = objective.discriminator_loss(batch, objective.perform(batch), noise(objective, generator))
    expected = loss.terms["D_z"] + loss.terms["D_img"] + 7 * loss.terms["gradient_penalty"]
    expected += 300 * loss.terms["latent_penalty"]
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_each_term_is_its_equation_of_its_own_images_and_labels(batch: Batch, generator: torch.Generator) -> None:
    objective = latent_objective("losses.paired=1", "losses.ms_ssim=0.5")
    for judge in (objective.C_exp, objective.C_id):  # verdicts that depend on the image
        nn.init.normal_(judge.fc.weight, std=100.0)
    out = objective.perform(batch)
    terms = (
        objective.generator_loss(batch, out).terms
        | objective.discriminator_loss(batch, out, noise(objective, generator)).terms
    )
    with torch.no_grad():
        phi = [objective.C_id.relu3_1(x) for x in (batch.I_i, out.edit, out.reconstruction)]
        expected = {
            "latent": losses.latent_deception(objective.D_z(out.latent)),
            "adversarial": -objective.D_img(out.edit).mean(),
            "au": losses.au_loss(objective.C_exp(out.edit), batch.u_t),
            "identity": losses.identity_loss(objective.C_id(out.edit), batch.c_i),
            "perceptual": losses.perceptual_loss(*phi),
            "reconstruction": losses.reconstruction_loss(out.reconstruction, batch.I_i, 0.5),
            "paired": losses.paired_loss(out.edit, batch.I_t),
            "D_img": losses.critic_loss(objective.D_img(batch.I_t), objective.D_img(out.edit)),
        }
    assert not torch.equal(batch.u_i, batch.u_t)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)


def test_terms_are_values_for_the_log_without_a_graph(batch: Batch, generator: torch.Generator) -> None:
    objective = latent_objective()
    out = objective.perform(batch)
    for loss in (
        objective.generator_loss(batch, out),
        objective.discriminator_loss(batch, out, noise(objective, generator)),
    ):
        assert loss.total.requires_grad
        for term in loss.terms.values():
            assert term.shape == ()
            assert not term.requires_grad


@pytest.mark.parametrize("at", ["data", "interpolates"])
def test_the_place_of_the_gradient_penalty_is_the_configurations(
    batch: Batch, at: str, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = []

    def penalty(critic: nn.Module, real: Tensor, edit: Tensor, at: str, generator: torch.Generator) -> Tensor:
        places.append(at)
        return critic(real).sum()

    monkeypatch.setattr("eggan.objective.gradient_penalty", penalty)
    objective = latent_objective(f"losses.penalty_at={at}")
    objective.discriminator_loss(batch, objective.perform(batch), noise(objective, generator))
    assert places == [at]


def test_the_self_reconstruction_is_the_edit_to_the_sources_own_action_units(batch: Batch) -> None:
    objective = latent_objective()
    out = objective.perform(batch)
    torch.testing.assert_close(out.reconstruction, objective.model.edit(batch.I_i, batch.u_i, batch.u_i))
    torch.testing.assert_close(out.edit, objective.model.edit(batch.I_i, batch.u_i, batch.u_t))


# --- Compose form ----------------------------------------------------------------------------------------------------


def test_the_compose_form_is_taught_by_pairs_mask_and_paint(batch: Batch) -> None:
    objective = compose_objective("losses.mask=0.5", "losses.paint=3")
    out = objective.perform(batch)
    loss = objective.generator_loss(batch, out)
    loss.total.backward()
    assert set(loss.terms) == {"paired", "mask", "paint"}
    paired, mask, paint = (loss.terms[name].item() for name in ("paired", "mask", "paint"))
    assert loss.total.item() == pytest.approx(100 * paired + 0.5 * mask + 3 * paint)
    assert out.fields is not None
    assert batch.I_t is not None
    assert mask == pytest.approx(out.fields.mask.mean().item())
    assert paint == pytest.approx((out.fields.mask * (out.fields.colour - batch.I_t).abs()).mean().item())
    assert reached(objective) == {"E", "G"}
    assert objective.D_z is None
    assert objective.D_img is None


def test_the_compose_form_takes_the_papers_terms_but_the_latent_one(batch: Batch, generator: torch.Generator) -> None:
    weights = [f"losses.{term}=1" for term in (*GENERATOR_TERMS, "gradient_penalty")]
    objective = compose_objective(*weights)
    out = objective.perform(batch)
    assert set(objective.generator_loss(batch, out).terms) == GENERATOR_TERMS - {"latent"} | {"paired", "mask"}
    terms = objective.discriminator_loss(batch, out, noise(objective, generator)).terms
    assert set(terms) == DISCRIMINATOR_TERMS - {"D_z", "latent_penalty"}
    step(objective, batch, generator)
    assert reached(objective) == {"E", "G", "D_img"}


def test_a_hundred_steps_on_one_batch_lower_the_paired_loss(batch: Batch) -> None:
    objective = compose_objective("losses.mask=0")
    nn.init.zeros_(objective.model.G.to_fields.weight)
    optimizer = torch.optim.Adam(objective.model.parameters(), lr=3e-3)
    losses = []
    for _ in range(100):
        loss = objective.generator_loss(batch, objective.perform(batch))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss.terms["paired"].item())
    assert losses[-1] < 0.25 * losses[0]


def test_twenty_critic_steps_on_one_batch_tell_real_images_from_edits(batch: Batch, generator: torch.Generator) -> None:
    objective = latent_objective("losses.latent=0", "losses.gradient_penalty=1")
    optimizer = torch.optim.Adam(objective.D_img.parameters(), lr=3e-3, betas=(0.5, 0.999))
    with torch.no_grad():
        out = objective.perform(batch)
    for _ in range(20):
        loss = objective.discriminator_loss(batch, out, noise(objective, generator))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert loss.terms["D_img"] < -0.1
    assert objective.D_img(batch.I_i).min() > objective.D_img(out.edit).max()


def test_without_pairs_the_sources_are_what_is_real_to_the_critic(batch: Batch, generator: torch.Generator) -> None:
    objective, unpaired = latent_objective(), replace(batch, I_t=None)
    out = objective.perform(unpaired)
    terms = objective.discriminator_loss(unpaired, out, noise(objective, generator)).terms
    with torch.no_grad():
        expected = losses.critic_loss(objective.D_img(batch.I_i), objective.D_img(out.edit))
    torch.testing.assert_close(terms["D_img"], expected)


# --- The critic that is told -----------------------------------------------------------------------------------------


def told_objective() -> Objective:
    """The compose form with a critic that knows the source and the request, its projection drawn at random."""
    weights = ("losses.adversarial=1", "losses.gradient_penalty=1", "losses.penalty_at=interpolates")
    objective = compose_objective("critic_is_told=true", *weights)
    nn.init.normal_(objective.D_img.asked.weight, std=0.1)
    return objective


def test_a_told_critic_scores_each_image_beside_its_own_source_and_request(
    batch: Batch, generator: torch.Generator
) -> None:
    objective = told_objective()
    out, drawn = objective.perform(batch), noise(objective, generator)
    terms = objective.generator_loss(batch, out).terms | objective.discriminator_loss(batch, out, drawn).terms

    def D_img(x: Tensor) -> Tensor:
        rows = zip(x, batch.I_i, batch.u_i, batch.u_t, strict=True)
        return torch.cat([objective.D_img(*(part.unsqueeze(0) for part in row)) for row in rows])

    expected = {
        "adversarial": -D_img(out.edit).mean(),
        "D_img": losses.critic_loss(D_img(batch.I_t), D_img(out.edit)),
        "gradient_penalty": losses.gradient_penalty(D_img, batch.I_t, out.edit, "interpolates", drawn.place),
    }
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value.detach())


def test_a_told_critic_tells_by_the_request_alone_which_of_two_real_images_is_right(batch: Batch) -> None:
    objective = told_objective()
    differ = ~torch.isclose(batch.u_i, batch.u_t).all(dim=1)
    assert differ.any()
    to_target, back = (replace(batch, u_i=torch.zeros_like(batch.u_i), u_t=u) for u in (batch.u_t, batch.u_i))
    optimizer = torch.optim.Adam(objective.D_img.parameters(), lr=3e-3)
    for _ in range(40):
        forth, wrong = objective.score(torch.cat([batch.I_t, batch.I_i]), to_target).chunk(2)
        home, astray = objective.score(torch.cat([batch.I_i, batch.I_t]), back).chunk(2)
        optimizer.zero_grad()
        # Each pair is ranked: in a difference of means, which has no bound, those that differ most drown the others.
        (nn.functional.softplus(wrong - forth) + nn.functional.softplus(astray - home)).sum().backward()
        optimizer.step()
    assert (forth > wrong)[differ].all()
    assert (home > astray)[differ].all()


def test_both_steps_with_a_told_critic_reach_all_networks(batch: Batch, generator: torch.Generator) -> None:
    objective = told_objective()
    step(objective, batch, generator)
    assert reached(objective) == {"E", "G", "D_img"}
    assert objective.D_img.asked.weight.grad.any()


def test_an_edit_without_a_true_image_counts_by_what_C_exp_reads_alone(
    batch: Batch, generator: torch.Generator
) -> None:
    objective = compose_objective(
        "critic_is_told=true", *(f"losses.{term}=1" for term in ("au", "adversarial", "mask", "paint"))
    )
    assert objective.C_exp is not None
    assert batch.I_t is not None
    nn.init.normal_(objective.D_img.asked.weight, std=0.05)
    unpaired = torch.tensor([True, False, True, False])
    mixed = replace(batch, unpaired=unpaired)
    out, dice = objective.perform(mixed), noise(objective, generator)

    def terms(batch: Batch) -> dict[str, Tensor]:
        return objective.generator_loss(batch, out).terms | objective.discriminator_loss(batch, out, dice).terms

    told = terms(mixed)
    edits, pairs = out.edit, batch[~unpaired]
    assert pairs.I_t is not None
    expected = losses.paired_loss(edits[[1, 3]], pairs.I_t, pairs.I_i if objective.weights.relative else None)
    torch.testing.assert_close(told["paired"], expected)
    read = losses.au_loss(objective.C_exp(edits), batch.u_t)
    torch.testing.assert_close(told["au"], read)
    I_t = torch.where(unpaired.view(4, 1, 1, 1), -batch.I_t, batch.I_t)
    torch.testing.assert_close(terms(replace(mixed, I_t=I_t)), told)
    plain = terms(batch)
    assert all(plain[name] != told[name] for name in ("paired", "adversarial", "D_img", "paint"))
    assert all(plain[name] == told[name] for name in ("au", "mask")), "what needs no true image counts everywhere"


def test_shade_is_priced_where_no_true_image_says_how_light_falls(batch: Batch) -> None:
    objective = compose_objective("losses.shade=2", "losses.mask=0", "losses.au=1", "unpaired=3", "photos=there")
    unpaired = torch.tensor([True, False, True, False])
    mixed = replace(batch, unpaired=unpaired)
    out = objective.perform(mixed)
    assert out.fields is not None
    fields = out.fields._replace(shade=torch.tensor([0.1, 0.6, -0.3, 0.6]).view(4, 1, 1, 1))
    loss = objective.generator_loss(mixed, out._replace(fields=fields))
    assert loss.terms["shade"].item() == pytest.approx(0.2)
    parts = 100 * loss.terms["paired"] + loss.terms["au"] + 2 * loss.terms["shade"]
    torch.testing.assert_close(loss.total.detach(), parts)
