"""The model card that a run writes beside its weights."""

from __future__ import annotations

from eggan.method import RunConfig
from eggan.training.config import TrainConfig

__all__ = ["model_card", "rival_card"]

USE = "Not for deceiving anybody about what a person felt or did, nor for judging people by their faces.\n"


def model_card(config: TrainConfig, step: int, phi: str | None, sizes: dict[str, int]) -> str:
    """Markdown: what it is, what it learned from, with which terms, how large, what it must not be used for."""
    weights = config.losses.model_dump(exclude={"vgg19", "relative"})
    unused = {"ms_ssim"} if not weights["reconstruction"] else set()
    unused |= {"gradient_penalty", "penalty_at"} if not weights["adversarial"] else set()
    terms = ", ".join(f"{name} {value}" for name, value in weights.items() if value and name not in unused)
    if config.losses.relative:
        terms += "; faint changes count as much as broad ones"
    if config.losses.adversarial and config.critic_is_told:
        terms += "; the critic sees source and AUs beside the image"
    form = "compose head on a U-Net of the source" if config.network.form == "compose" else "the paper's latent form"
    seen_by = f"- **φ₃ of the perceptual loss**: {phi}\n" if phi else ""
    start = f"- **Started from**: the weights of `{config.init}`\n" if config.init else ""
    if config.learn == "conditioning":
        start += "- **What learned**: the conditioning alone, from AUs to FiLM's scales and shifts\n"
    if config.critic_init:
        start += f"- **Critic started from**: the weights of `{config.critic_init}`\n"
    return (
        f"# eggan model, {form}, {config.image_size} px\n\n"
        "Edits a frontal, aligned face to 17 Action Unit intensities. Weights: moving average of E and G.\n\n"
        f"- **Data**: `{config.data.name}` (facsynth has a data card of its own)\n"
        f"{start}{_photographs(config)}"
        f"- **Training**: {step} of {config.steps} steps of batch {config.batch_size}, seed {config.seed}, "
        f"{config.precision}\n"
        f"- **Terms of the objective and their weights**: {terms}\n"
        f"{seen_by}\n"
        f"{_table(sizes)}\n\n{USE}"
    )


def rival_card(config: RunConfig, step: int, about: str, sizes: dict[str, int]) -> str:
    """Markdown of the same facts of a rival, `about` in a sentence."""
    weights = config.model_dump()["losses"]
    terms = ", ".join(f"{name} {value}" for name, value in weights.items() if value and not isinstance(value, str))
    taken = f"moving average of decay {config.ema:g}" if config.ema else "those of the last step"
    return (
        f"# {about.split()[0].rstrip(':')} by eggan, {config.image_size} px\n\n{about}\n\n"
        f"- **Data**: `{config.data.name}` (facsynth has a data card of its own)\n"
        f"- **Training**: {step} of {config.steps} steps, each of {config.critic_steps} batches of {config.batch_size} "
        f"for the critics, the last of them for the generator; seed {config.seed}, {config.precision}\n"
        f"- **Weights**: {taken}\n"
        f"- **Terms and their weights** (those of the adversarial terms are 1): {terms}\n\n"
        f"{_table(sizes)}\n\n{USE}"
    )


def _photographs(config: TrainConfig) -> str:
    if config.photos is None:
        return ""
    part = ""
    if config.unpaired:
        part = (
            f", and one of {config.unpaired} sources is one; of its edit, and of a render's that changes one AU, "
            "C_exp alone says what it shows"
        )
    return f"- **Photographs without labels**: `{config.photos.name}`, for backgrounds and tones{part}\n"


def _table(sizes: dict[str, int]) -> str:
    rows = "\n".join(f"| {name} | {count:,} |" for name, count in sizes.items())
    return f"| network | parameters |\n|---|---|\n{rows}"
