"""The model card that a run writes beside its weights."""

from __future__ import annotations

from eggan.training.config import TrainConfig

__all__ = ["model_card"]


def model_card(config: TrainConfig, step: int, phi: str, sizes: dict[str, int]) -> str:
    """Markdown: what it is, what it learned from, with which terms, how large, what it must not be used for."""
    weights = config.losses.model_dump(exclude={"vgg19"})
    unused = {"ms_ssim"} if not weights["reconstruction"] else set()
    unused |= {"gradient_penalty", "penalty_at"} if not weights["adversarial"] else set()
    terms = ", ".join(f"{name} {value}" for name, value in weights.items() if value and name not in unused)
    rows = "\n".join(f"| {name} | {count:,} |" for name, count in sizes.items())
    form = "compose head on a U-Net of the source" if config.network.form == "compose" else "the paper's latent form"
    start = f"- **Started from**: the weights of `{config.init}`\n" if config.init else ""
    return (
        f"# eggan model, {form}, {config.image_size} px\n\n"
        "Edits a frontal, aligned face to 17 Action Unit intensities. Weights: moving average of E and G.\n\n"
        f"- **Data**: `{config.data.name}` (facsynth has a data card of its own)\n"
        f"{start}"
        f"- **Training**: {step} of {config.steps} steps of batch {config.batch_size}, seed {config.seed}, "
        f"{config.precision}{f', starting from `{config.init}`' if config.init else ''}\n"
        f"- **Terms of the objective and their weights**: {terms}\n"
        f"- **φ₃ of the perceptual loss**: {phi}\n\n"
        f"| network | parameters |\n|---|---|\n{rows}\n\n"
        "Not for deceiving anybody about what a person felt or did, nor for judging people by their faces.\n"
    )
