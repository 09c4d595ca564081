"""Presets, changes to them, and the sentence that a wrong setting gets."""

from __future__ import annotations

import pytest
import yaml
from pydantic import ValidationError

from eggan.errors import EgganError
from eggan.objective import LossConfig
from eggan.training.config import TrainConfig, load_config, presets


def refusal(preset: str, *changes: str) -> str:
    """The sentence that a user reads."""
    with pytest.raises(EgganError) as error:
        load_config(preset, changes)
    return str(error.value)


def test_the_shipped_presets_are_known() -> None:
    assert {"paper", "small", "small-paper"} <= set(presets())


@pytest.mark.parametrize("preset", presets())
def test_every_preset_loads(preset: str) -> None:
    assert load_config(preset).model.image_size == load_config(preset).image_size


@pytest.mark.parametrize("preset", presets())
def test_a_resolved_configuration_reads_back_the_same(preset: str) -> None:
    config = load_config(preset, ["seed=3", "losses.mask=0.5"])
    assert TrainConfig.model_validate(yaml.safe_load(config.to_yaml())) == config


def test_the_paper_preset_has_the_papers_weights() -> None:
    losses = load_config("paper").losses
    assert (losses.au, losses.identity, losses.perceptual, losses.reconstruction) == (100, 60, 20, 100)
    assert losses.gradient_penalty == 20
    assert (losses.latent, losses.adversarial, losses.ms_ssim) == (1, 1, 1)
    assert losses.penalty_at == "data"


def test_the_paper_preset_has_nothing_beyond_the_paper() -> None:
    config = load_config("paper")
    assert (config.losses.paired, config.losses.mask) == (0, 0)
    assert config.network.form == "latent"


def test_the_paper_preset_trains_as_the_paper_does() -> None:
    config = load_config("paper")
    assert (config.image_size, config.batch_size, config.learning_rate) == (128, 8, 1e-4)
    assert config.decay_from == 0.5
    assert config.classifiers.learning_rate == 2e-4
    assert config.precision == "float32"


def test_the_paper_preset_has_the_papers_layers() -> None:
    config = load_config("paper")
    assert config.network.encoder_widths == (16, 32, 64, 128, 256)
    assert len(config.network.generator_widths) == 1 + 6
    assert len(config.critic_widths) == 6
    assert config.classifiers.width == 64


def test_the_papers_weights_are_the_defaults() -> None:
    assert load_config("paper").losses == LossConfig()
    assert load_config("small-paper").losses == LossConfig(penalty_at="interpolates", latent_penalty=10)


def test_changes_reach_their_keys_and_no_other() -> None:
    plain, changed = (
        load_config("small", changes).model_dump()
        for changes in (
            [],
            ["steps=7", "losses.paired=3.5", "network.widths=[8,16]", "precision=float32", "data=a.parquet"],
        )
    )
    assert changed["steps"] == 7
    assert changed["losses"].pop("paired") == 3.5
    assert changed["network"].pop("widths") == (8, 16)
    assert changed["precision"] == "float32"
    assert str(changed["data"]) == "a.parquet"
    plain["losses"].pop("paired")
    plain["network"].pop("widths")
    for key in ("steps", "precision", "data"):
        plain.pop(key), changed.pop(key)
    assert plain == changed


def test_the_last_of_two_changes_counts() -> None:
    assert load_config("small", ["steps=7", "steps=8"]).steps == 8


@pytest.mark.parametrize(
    "term", ["latent", "adversarial", "au", "identity", "perceptual", "reconstruction", "ms_ssim", "gradient_penalty"]
)
def test_a_term_can_be_ablated(term: str) -> None:
    losses = load_config("paper", [f"losses.{term}=0"]).losses
    assert losses == LossConfig(**{term: 0})


@pytest.mark.parametrize("preset", ["papper", "", "../presets/paper", "paper.yaml"])
def test_an_unknown_preset_is_named_beside_the_known(preset: str) -> None:
    message = refusal(preset)
    assert f'"{preset}"' in message
    assert all(name in message for name in presets())


@pytest.mark.parametrize("key", ["stepz", "losses.identy", "network.depth", "classifiers.colour", "losses.a.b"])
def test_an_unknown_key_is_named(key: str) -> None:
    message = refusal("paper", f"{key}=1")
    assert key.removesuffix(".b") in message
    assert "not a known key" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", "many"), ("steps", "1.5"), ("steps", ""), ("steps", "0"), ("batch_size", "-8"),
        ("learning_rate", "0"), ("decay_from", "1"), ("ema", "1"), ("precision", "float8"), ("betas", "0.5"),
        ("network.latent_size", "big"), ("network.encoder_widths", "16"), ("classifiers.width", "wide"),
        ("losses", "5"), ("losses.identity", "much"), ("losses.identity", "-1"), ("losses.identity", ".nan"),
        ("losses.latent", "much"), ("losses.penalty_at", "nowhere"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_refused_with_its_key(key: str, value: str) -> None:
    assert f"Setting {key}:" in refusal("paper", f"{key}={value}").replace("betas.0", "betas")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("image_size=100", "image_size"),
        ("image_size=8", "image_size"),
        ("image_size=64", "generator_widths"),
        ("critic_widths=[8,8,8,8,8,8,8,8]", "critic_widths"),
        ("network.generator_widths=[8,8]", "generator_widths"),
    ],
)
def test_settings_that_do_not_fit_together_are_named(change: str, named: str) -> None:
    message = refusal("paper", change)
    assert named in message
    assert "\n" not in message


@pytest.mark.parametrize("change", ["steps", "", "steps:5", "--steps"])
def test_a_change_of_another_form_is_named(change: str) -> None:
    assert f'"{change}"' in refusal("paper", change)


@pytest.mark.parametrize("change", ["steps=[1", "steps={a: b", "steps=${oops}", "steps=${", "betas=[0.5,"])
def test_a_value_that_cannot_be_read_is_refused_with_its_change(change: str) -> None:
    message = refusal("paper", change)
    assert change in message
    assert "\n" not in message


def test_a_configuration_cannot_be_changed_once_made() -> None:
    config = load_config("small")
    with pytest.raises(ValidationError):
        config.steps = 5
    with pytest.raises(ValidationError):
        config.losses.paired = 5


def test_a_run_that_would_learn_nothing_is_refused() -> None:
    with pytest.raises(EgganError, match="nothing would be learned"):
        load_config("small", ["losses.paired=0"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (["unpaired=3"], "unpaired needs photos, the folder, and pairs beside them"),
        (["unpaired=3", "photos=here", "losses.paired=0", "losses.au=1"], "pairs beside them: set losses.paired"),
        (["unpaired=2", "photos=here", "losses.au=1"], "and n above 2"),
        (["critic_init=D_img.safetensors", "losses.adversarial=0", "losses.paired=1"], "critic_init needs losses.adv"),
        (["learn=conditioning"], "learn=conditioning needs init, weights of the compose form"),
        (["classifiers.steps=0"], "classifiers.steps=0 needs classifiers.init, the file of a trained C_exp"),
        (["losses.shade=3"], "losses.shade needs unpaired above 2"),
        (["unpaired=3", "photos=here"], "unpaired needs losses.au above 0"),
        (["critic_is_told=true", "losses.paired=0", "losses.au=1"], "critic_is_told needs losses.paired above 0"),
        (["unpaired=3", "photos=here", "losses.identity=1"], "nobody says who is on photographs"),
        (["from_neutral=0.5", "losses.paired=0", "losses.au=1"], "from_neutral needs a method that learns from pairs"),
    ],
)
def test_what_needs_pairs_or_no_identity_says_so(changes: list[str], reason: str) -> None:
    with pytest.raises(EgganError, match=reason):
        load_config("small", changes)


def test_the_latent_form_has_no_conditioning_to_learn_alone() -> None:
    with pytest.raises(EgganError, match="learn=conditioning needs init, weights of the compose form"):
        load_config("paper", ["learn=conditioning", "init=paper"])
