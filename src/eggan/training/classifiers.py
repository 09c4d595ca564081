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
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from eggan import __version__
from eggan.action_units import MAX_INTENSITY, NUMBERS
from eggan.data import Faces, augment, relight
from eggan.data.batches import CPU, Batch, TrainingRows, draw_batch
from eggan.errors import EgganError
from eggan.files import write_atomically
from eggan.losses import LEVELS, au_loss, identity_loss
from eggan.method import ClassifierName, JudgedConfig
from eggan.networks import AttributeClassifier, channels_last, resized
from eggan.pixels import to_bytes, to_floats
from eggan.progress import track
from eggan.training.clock import moving_average, risen_and_fallen
from eggan.training.disturbance import among_photographs, disturb
from eggan.training.estimator import distinctness, draw_rows
from eggan.training.precision import in_bfloat16
from eggan.weights import read_given

__all__ = ["classifier", "read_levels"]

WEIGHT_DECAY = 0.02
TEACHER_FROM = 0.15
"""Share of the steps before which C_exp learns from renders alone."""
COARSE_UNTIL = 0.7
"""Share of the steps in which C_exp sees pictures at half its side, at a third of the price (Karras et al. 2018 let
networks grow so); what is fine (furrows, lids, a slit between lips) comes after."""
SMALLEST = 16
"""Side in pixels that VGG19's four pools leave one position of."""
PHOTOGRAPHS = 0.5
"""Weight of what the moving average reads off photographs, beside that of the labels of renders."""


def classifier(
    name: ClassifierName,
    config: JudgedConfig,
    faces: Faces,
    cache: Path,
    say: Callable[[str], None],
    device: torch.device = CPU,
    photos: Tensor | None = None,
) -> AttributeClassifier:
    """The classifier for a run: from the cache if one was trained on the same images in the same way, else trained.

    Args:
        name: `C_exp` (17 × 6 logits, Eq. 3) or `C_id` (one logit a person, Eq. 4).
        config: the run's configuration; its seed, image size, `randomised` and `classifiers` count.
        faces: the training faces.
        cache: folder of `NAME-HASH.safetensors` files.
        say: receives a line for the log.
        device: where it is to be.
        photos: aligned photographs uint8 (M, 3, S, S), nobody's AUs known, which C_exp is to read as well.

    Raises:
        EgganError: the file that `classifiers.init` names is not there or does not hold a C_exp of this width, or C_id
            has no steps.
    """
    c = config.classifiers
    outputs = len(NUMBERS) * LEVELS if name == "C_exp" else len(faces.people)
    torch.manual_seed(config.seed + (1 if name == "C_exp" else 2))
    network = channels_last(AttributeClassifier(c.width, outputs, c.image_size)).to(device)
    init = c.init if name == "C_exp" else None
    if init is not None:
        what = f"a C_exp of the width that classifiers.width says, {c.width}"
        read_given(init, network, "classifiers.init", what)
    if not c.steps:
        if init is None:
            raise EgganError("classifiers.steps=0 leaves C_id untrained: give it steps.")
        say(f"C_exp taken from {init}.")
        return network
    path = cache / f"{name}-{_depends_on(name, network, config, faces, photos)}.safetensors"
    if path.is_file():
        network.load_state_dict(load_file(path))
        say(f"{name} taken from {path}.")
        return network
    if photos is None:
        accuracy = _fit(name, network, config, faces, device)
    else:
        accuracy = _fit_to_photographs(network, config, faces, photos, device)
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
        with in_bfloat16(device, config.precision == "bfloat16"):
            logits = network(batch.I_t)  # whose AUs are exact; those of a randomised source are not
        loss, correct = loss_of(logits.float(), batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        right.append(correct)
    return torch.stack(list(right)).mean().item()


def _fit_to_photographs(
    network: AttributeClassifier, config: JudgedConfig, faces: Faces, photos: Tensor, device: torch.device
) -> float:
    """C_exp on renders that are disturbed as photographs are, and on photographs of which no AU is known.

    There it is to see in a disturbed picture what its moving average sees in the undisturbed one (mean teacher,
    Tarvainen and Valpola 2017), from where that average has learned something.
    """
    c, B = config.classifiers, config.classifiers.batch_size
    size = c.image_size or config.image_size
    generator = torch.Generator().manual_seed(torch.initial_seed())
    optimizer = torch.optim.AdamW(network.parameters(), lr=c.learning_rate, weight_decay=WEIGHT_DECAY)
    schedule = LambdaLR(optimizer, lambda step: risen_and_fallen(step + 1, step / c.steps))
    average = moving_average(network)
    teacher = average.module
    assert isinstance(teacher, AttributeClassifier)
    teacher.eval()
    telling = distinctness(faces.action_units)
    fine = [_shrunk(images, size) for images in (faces.images, photos)]
    coarse = fine if c.init else [_shrunk(images, max(size // 2, SMALLEST)) for images in fine]
    teacher_from = 0 if c.init else TEACHER_FROM * c.steps
    right = deque[Tensor](maxlen=100)
    for step in track(range(c.steps), "training C_exp"):
        renders, photos = coarse if step < COARSE_UNTIL * c.steps else fine
        rows = draw_rows(telling, B, generator)
        u = (faces.action_units[rows] / MAX_INTENSITY).to(device)
        x = among_photographs(renders[rows], photos, generator)
        told = None
        if step >= teacher_from:
            shown = photos[torch.randint(len(photos), (B // 2,), generator=generator)]
            seen = augment(shown.unsqueeze(1), generator).squeeze(1)
            with in_bfloat16(device, config.precision == "bfloat16"):
                told = _probabilities(teacher, seen.to(device)).float()
            x = torch.cat([x, relight(seen, generator)])
        x = disturb(x, generator).contiguous(memory_format=torch.channels_last)
        with in_bfloat16(device, config.precision == "bfloat16"):
            logits = network(x.to(device)).float()
        loss = au_loss(logits[:B], u)
        if told is not None:
            loss = loss + PHOTOGRAPHS * cross_entropy(_by_level(logits[B:]).flatten(0, 1), told.flatten(0, 1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
        right.append(_au_accuracy(logits[:B], u))
    network.load_state_dict(teacher.state_dict())
    return torch.stack(list(right)).mean().item()


def read_levels(C_exp: AttributeClassifier, images: Tensor) -> Tensor:
    """Intensities (M, 17) in 0..5 of images uint8 (M, 3, S, S): the mean level by C_exp, in evaluation mode."""
    device = next(C_exp.parameters()).device
    levels = torch.arange(LEVELS, dtype=torch.float32)
    return torch.cat([_probabilities(C_exp, to_floats(part).to(device)).cpu() @ levels for part in images.split(64)])


@torch.no_grad()
def _probabilities(C_exp: AttributeClassifier, images: Tensor) -> Tensor:
    """C_exp^(j,q) (B, 17, 6) of images (B, 3, S, S), the mean over a face and its mirror image."""
    both = torch.cat([images, images.flip(-1)]).contiguous(memory_format=torch.channels_last)
    return torch.stack(_by_level(C_exp(both)).softmax(2).chunk(2)).mean(dim=0)


def _by_level(logits: Tensor) -> Tensor:
    """Logits of C_exp (B, 17·6), AU by AU, as (B, 17, 6)."""
    return logits.unflatten(1, (-1, LEVELS))


def _shrunk(images: Tensor, size: int) -> Tensor:
    """Images uint8 (N, 3, S, S) at another size."""
    if images.shape[-1] == size:
        return images
    return torch.cat([to_bytes(resized(to_floats(part), size)) for part in images.split(256)])


def _au_accuracy(logits: Tensor, u: Tensor) -> Tensor:
    """Share of the AUs whose likeliest level is the true one, rounded."""
    return ((_by_level(logits).argmax(2) / 5 - u).abs() <= 0.1).float().mean()


def _au_loss(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    return au_loss(logits, batch.u_t), _au_accuracy(logits, batch.u_t)


def _identity_loss(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    return identity_loss(logits, batch.c_i), (logits.argmax(1) == batch.c_i).float().mean()


def _depends_on(
    name: str, network: AttributeClassifier, config: JudgedConfig, faces: Faces, photos: Tensor | None
) -> str:
    digest = hashlib.sha256()
    for path in faces.files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    if photos is not None:
        digest.update(photos.numpy().tobytes())
    init, c = config.classifiers.init, config.classifiers.model_dump(exclude={"init"})
    if init is not None and name == "C_exp":
        digest.update(init.read_bytes())
    facts = [__version__, name, config.seed, config.image_size, config.precision, config.randomised, c]
    shapes = [tuple(parameter.shape) for parameter in network.parameters()]
    digest.update(json.dumps([*facts, shapes]).encode())
    return digest.hexdigest()[:16]
