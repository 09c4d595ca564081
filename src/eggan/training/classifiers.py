"""C_exp and C_id (Sec. 3.3): trained on real images before the rest, and kept by a hash of what they depend on."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from eggan.action_units import NUMBERS
from eggan.data import Faces
from eggan.data.batches import CPU, Batch, TrainingRows, draw_batch
from eggan.files import write_atomically
from eggan.losses import LEVELS, au_loss, identity_loss
from eggan.method import ClassifierName, JudgedConfig
from eggan.networks import AttributeClassifier, channels_last
from eggan.progress import track

__all__ = ["classifier"]


def classifier(
    name: ClassifierName,
    config: JudgedConfig,
    faces: Faces,
    cache: Path,
    say: Callable[[str], None],
    device: torch.device = CPU,
) -> AttributeClassifier:
    """The classifier for a run: from the cache if one was trained on the same images in the same way, else trained.

    Args:
        name: `C_exp` (17 × 6 logits, Eq. 3) or `C_id` (one logit a person, Eq. 4).
        config: the run's configuration; its seed, image size, `randomised` and `classifiers` count.
        faces: the training faces.
        cache: folder of `NAME-HASH.safetensors` files.
        say: receives a line for the log.
        device: where it is to be.
    """
    outputs = len(NUMBERS) * LEVELS if name == "C_exp" else len(faces.people)
    torch.manual_seed(config.seed + (1 if name == "C_exp" else 2))
    network = channels_last(AttributeClassifier(config.classifiers.width, outputs)).to(device)
    path = cache / f"{name}-{_depends_on(name, config, faces)}.safetensors"
    if path.is_file():
        network.load_state_dict(load_file(path))
        say(f"{name} taken from {path}.")
        return network
    accuracy = _fit(name, network, config, faces, device)
    tensors = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    write_atomically(path, lambda beside: save_file(tensors, beside))
    say(f"{name} trained, accuracy on its last batches {accuracy:.3f}; kept as {path}.")
    return network


def _fit(
    name: ClassifierName,
    network: AttributeClassifier,
    config: JudgedConfig,
    faces: Faces,
    device: torch.device,
) -> float:
    c = config.classifiers
    generator = torch.Generator().manual_seed(torch.initial_seed())
    optimizer = torch.optim.Adam(network.parameters(), lr=c.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=c.steps)
    loss_of = _au_loss if name == "C_exp" else _identity_loss
    rows, right = TrainingRows(faces), deque[Tensor](maxlen=100)
    for _ in track(range(c.steps), f"training {name}"):
        batch = draw_batch(
            rows, c.batch_size, paired=True, generator=generator, device=device, randomised=config.randomised
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            logits = network(batch.I_t)  # whose AUs are exact; those of a randomised source are not
        loss, correct = loss_of(logits.float(), batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        right.append(correct)
    return torch.stack(list(right)).mean().item()


def _au_loss(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    levels = logits.unflatten(1, (-1, LEVELS)).argmax(2)
    return au_loss(logits, batch.u_t), ((levels / 5 - batch.u_t).abs() <= 0.1).float().mean()


def _identity_loss(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    return identity_loss(logits, batch.c_i), (logits.argmax(1) == batch.c_i).float().mean()


def _depends_on(name: str, config: JudgedConfig, faces: Faces) -> str:
    digest = hashlib.sha256()
    for path in faces.files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    facts = [name, config.seed, config.image_size, config.precision, config.randomised, config.classifiers.model_dump()]
    digest.update(json.dumps(facts).encode())
    return digest.hexdigest()[:16]
