"""The judges: who reads Action Units off an edit, and who says whether it still shows the same person.

The built-in ones (`eggan.estimator`, `eggan.verifier`) ship with the package; OpenFace, dlib and LightCNN are those
that papers use and a user may have. Images are aligned faces (N, 3, H, H) in [-1, 1], eyes at (44.7, 50.5) and
(83.4, 50.5) of 128.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, normalize, pad

from eggan.action_units import COLUMNS
from eggan.data import Faces
from eggan.data.openface import OpenFace, most_confident
from eggan.errors import EgganError
from eggan.networks import resized
from eggan.pixels import to_bytes, to_floats
from eggan.verifier import FaceVerifier

__all__ = [
    "ActionUnitJudge",
    "BuiltInVerifier",
    "DlibJudge",
    "IdentityJudge",
    "LightCNN",
    "LightCNNJudge",
    "OpenFaceJudge",
    "RealPairs",
    "best_threshold",
    "calibrate",
    "draw_real_pairs",
]


class ActionUnitJudge(Protocol):
    """Reads Action Units. `name` is what the report calls it."""

    name: str

    def read(self, images: Tensor) -> Tensor:
        """Intensities (N, 17) in 0..5 of images (N, 3, H, H) in [-1, 1]; NaN rows where it found no face."""


class IdentityJudge(Protocol):
    """Says how alike two faces are; from `threshold` up they are one person. `name` is what the report calls it."""

    name: str
    threshold: float

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Of a[k] and b[k], images (N, 3, H, H) in [-1, 1]: (N,), higher for the same person."""


# --- Action Units ----------------------------------------------------------------------------------------------------


class OpenFaceJudge:
    """OpenFace, the annotator of the paper; see `eggan.data.openface`.

    Faces smaller than `SIDE` pixels are enlarged, since its detector misses small ones.
    """

    name = "OpenFace"
    SIDE = 256

    def __init__(self, executable: str | Path | None = None) -> None:
        """Find the executable, as `OpenFace` does."""
        self.openface = OpenFace(executable)

    def read(self, images: Tensor) -> Tensor:
        """Intensities (N, 17) in 0..5 of images (N, 3, H, H) in [-1, 1]; NaN rows where no face counts.

        Raises:
            EgganError: the program fails, writes nothing, or its output is not as it should be.
        """
        side = max(self.SIDE, images.shape[-1])
        pictures = (_pixels(resized(image[None], side))[0] for image in images)
        best = [most_confident(readings) for readings in self.openface.read(pictures)]
        rows = [None if reading is None else reading.action_units for reading in best]
        return torch.tensor([row or [float("nan")] * len(COLUMNS) for row in rows]).view(-1, len(COLUMNS))


# --- Identity --------------------------------------------------------------------------------------------------------


class BuiltInVerifier:
    """The verifier that ships: cosine similarity of its embeddings, threshold from its configuration."""

    name = "built-in verifier"

    def __init__(self, verifier: FaceVerifier | None = None) -> None:
        self.verifier = verifier or FaceVerifier.from_pretrained()
        self.threshold = self.verifier.config.threshold

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Cosine of the embeddings of a[k] and b[k], (N,) in -1..1."""
        x, y = _embed_once(self.verifier.embed, a, b)
        return (x * y).sum(dim=1)


class DlibJudge:
    """dlib's face recognition ResNet (King 2017), 128 numbers a face; similarity is minus the Euclidean distance.

    The network wants 150×150 chips as `dlib.get_face_chip` cuts them. The faces here are aligned already, so a fixed
    window does: on val it tells people apart as well as chips by dlib's detector and landmarks do.

    Attributes:
        threshold: the best on real pairs, where such are given; else dlib's own for photographs, a distance of 0.6,
            at which it takes one in six pairs of different rendered people for one person.
    """

    name = "dlib"
    WINDOW = (178, 150, 25)
    """Faces resampled to 178, and of these 150 from row 25: eyes and nose where dlib's mean face has them."""

    def __init__(self, real: Faces | None = None) -> None:
        """Load the network and find its threshold.

        Args:
            real: real faces, not those to be judged, with people in two sessions.

        Raises:
            EgganError: dlib or its weights are not installed.
        """
        models = find_spec("face_recognition_models")  # found, not imported: it imports pkg_resources, which is gone
        if find_spec("dlib") is None or models is None or not models.submodule_search_locations:
            raise EgganError("The judge dlib is not installed: pip install dlib-bin face_recognition_models.")
        weights = Path(models.submodule_search_locations[0], "models", "dlib_face_recognition_resnet_model_v1.dat")
        if not weights.is_file():
            raise EgganError(f"{weights} is missing: install face_recognition_models anew.")
        import dlib

        self.network = dlib.face_recognition_model_v1(str(weights))
        self.threshold = -0.6
        if real is not None:
            self.threshold = calibrate(self, real)[0]

    def embed(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """Descriptors (N, 128) of images (N, 3, H, H) in [-1, 1]; their norms vary."""
        descriptors: list[object] = []
        for chunk in images.split(batch_size):
            descriptors += self.network.compute_face_descriptor(list(_pixels(_window(chunk, *self.WINDOW))))
        return torch.from_numpy(np.array(descriptors, dtype=np.float32).reshape(-1, 128))

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Minus the distance of the descriptors of a[k] and b[k], (N,): 0 for the same picture."""
        x, y = _embed_once(self.embed, a, b)
        return -(x - y).norm(dim=1)


class LightCNN(nn.Module):
    """LightCNN-29 v2 (Wu et al., A Light CNN for Deep Face Representation with Noisy Labels, 2018).

    | layer                                  | output          |
    |----------------------------------------|-----------------|
    | 5×5 conv, MFM, pool                    | 48 × 64 × 64    |
    | residual block, group, pool            | 96 × 32 × 32    |
    | 2 residual blocks, group, pool         | 192 × 16 × 16   |
    | 3 residual blocks, group               | 128 × 16 × 16   |
    | 4 residual blocks, group, pool         | 128 × 8 × 8     |
    | FC                                     | 256             |

    MFM: the larger of the two halves of the channels. Pool: 2×2 maximum plus 2×2 mean. Group: 1×1 conv, MFM, 3×3
    conv, MFM. v2 differs from the paper's LightCNN-29 in its pools and in its FC, which has no MFM: 10.5 M parameters
    for 12.6 M. Tensors are named as in the authors' checkpoint.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _MaxFeatureMap(1, 48, 5)
        widths = (48, 96, 192, 128, 128)
        for k, (width, after) in enumerate(pairwise(widths), start=1):
            self.add_module(f"block{k}", nn.Sequential(*(_LightResidual(width) for _ in range(k))))
            self.add_module(f"group{k}", _LightGroup(width, after))
        self.fc = nn.Linear(128 * 8 * 8, 256)

    def forward(self, x: Tensor) -> Tensor:
        """Grey faces (B, 1, 128, 128) in [0, 1] to embeddings (B, 256) of norm 1."""
        x = _pool(self.conv1(x))
        for k in (1, 2, 3, 4):
            x = self.get_submodule(f"group{k}")(self.get_submodule(f"block{k}")(x))
            x = x if k == 3 else _pool(x)
        return normalize(self.fc(x.flatten(1)))


class LightCNNJudge:
    """LightCNN-29 v2 from a weights file that the user has; cosine similarity.

    Attributes:
        threshold: its authors publish none, so it is the best on real pairs.
    """

    name = "LightCNN-29 v2"

    WINDOW = (143, 128, 18)
    """Eyes at row 40 and mouth 48 rows below, as in the authors' test set."""

    def __init__(self, weights: str | Path, real: Faces) -> None:
        """Load the network and find its threshold.

        Args:
            weights: the authors' checkpoint (.pth, .pth.tar) or its state dict as .safetensors.
            real: real faces, not those to be judged, with people in two sessions.

        Raises:
            EgganError: the file is not there, cannot be read or does not hold LightCNN-29 v2.
        """
        self.network = LightCNN()
        _load_light_cnn(Path(weights), self.network)
        self.network.eval()
        self.threshold = 0.0
        self.threshold = calibrate(self, real)[0]

    @torch.inference_mode()
    def embed(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """Embeddings (N, 256) of norm 1 of images (N, 3, H, H) in [-1, 1]."""
        luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        embeddings = []
        for chunk in images.split(batch_size):
            grey = (_window(chunk, *self.WINDOW) * luma).sum(dim=1, keepdim=True)
            embeddings.append(self.network(((grey + 1) / 2).clamp(0, 1)))
        return torch.cat(embeddings)

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Cosine of the embeddings of a[k] and b[k], (N,) in -1..1."""
        x, y = _embed_once(self.embed, a, b)
        return (x * y).sum(dim=1)


class _MaxFeatureMap(nn.Module):
    def __init__(self, before: int, width: int, kernel: int) -> None:
        super().__init__()
        self.filter = nn.Conv2d(before, 2 * width, kernel, 1, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.filter(x).chunk(2, dim=1)
        return torch.maximum(one, other)


class _LightResidual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _MaxFeatureMap(width, width, 3)
        self.conv2 = _MaxFeatureMap(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x))


class _LightGroup(nn.Module):
    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.conv_a = _MaxFeatureMap(before, before, 1)
        self.conv = _MaxFeatureMap(before, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv_a(x))


def _pool(x: Tensor) -> Tensor:
    return max_pool2d(x, 2) + avg_pool2d(x, 2)


def _load_light_cnn(path: Path, network: LightCNN) -> None:
    """Load a checkpoint; its `state_dict` may lie inside, and names may begin with `module.`; the classifier is left.

    Raises:
        EgganError: as `LightCNNJudge`.
    """
    if not path.is_file():
        raise EgganError(f"There is no file {path}: give the weights of LightCNN-29 v2 (.pth, .pth.tar, .safetensors).")
    try:
        held: object = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EgganError(f"{path} cannot be read as weights ({reason}); save its state dict as .safetensors.") from None
    tensors = held.get("state_dict", held) if isinstance(held, Mapping) else None
    named = {str(k).removeprefix("module."): t for k, t in tensors.items()} if isinstance(tensors, Mapping) else {}
    try:
        network.load_state_dict({name: t for name, t in named.items() if not name.startswith("fc2")})
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EgganError(f"{path} does not hold the weights of LightCNN-29 v2 ({reason}).") from None


# --- Real pairs ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RealPairs:
    """Pairs of true images, (N,) each: rows of the faces, and whether the two show one person."""

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray


def draw_real_pairs(faces: Faces, count: int, *, seed: int = 0) -> RealPairs:
    """Half the pairs of one person in two sessions, whatever the expressions, and as many of two people.

    Args:
        faces: people in two sessions at least.
        count: number of pairs; fewer where the file has not enough of one person.
        seed: of the draw.

    Raises:
        EgganError: nobody is in two sessions, or there is one person only.
    """
    rng = np.random.default_rng(seed)
    _, who = np.unique(faces.identity.astype(str), return_inverse=True)
    rows = [np.flatnonzero(who == person) for person in range(who.max() + 1)]
    i, j = (np.concatenate(side) for side in zip(*(np.triu_indices(len(r), 1) for r in rows), strict=True))
    start = np.repeat([0, *np.cumsum([len(r) for r in rows])[:-1]], [len(r) * (len(r) - 1) // 2 for r in rows])
    order = np.concatenate(rows)
    one = np.stack([order[start + i], order[start + j]], axis=1)
    one = one[faces.session[one[:, 0]] != faces.session[one[:, 1]]]
    if not len(one) or len(rows) < 2:
        raise EgganError(f"{faces.path} needs two people at least, and images of one in two sessions, to verify faces.")
    one = rng.permutation(one)[: max(1, count // 2)]
    two = rng.integers(len(who), size=(0, 2))
    while len(two) < len(one):
        more = rng.integers(len(who), size=(len(one), 2))
        two = np.concatenate([two, more[who[more[:, 0]] != who[more[:, 1]]]])[: len(one)]
    first, second = np.concatenate([one, two]).T
    return RealPairs(first, second, np.arange(2 * len(one)) < len(one))


def best_threshold(similarity: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """The threshold that decides most pairs rightly, and the share it decides rightly.

    Args:
        similarity: (N,), higher for the same person.
        same: (N,) whether the two are.

    Returns:
        Threshold, half way between the two similarities beside it (the middle one of several equals), and accuracy.
    """
    order = np.argsort(similarity, kind="stable")
    s, is_same = similarity[order].astype(float), same[order]
    right = np.concatenate([[0], np.cumsum(~is_same)]) + is_same.sum() - np.concatenate([[0], np.cumsum(is_same)])
    cuts = np.concatenate([[s[0] - 1e-6], (s[:-1] + s[1:]) / 2, [s[-1] + 1e-6]])
    between = np.concatenate([[True], s[:-1] < s[1:], [True]])
    best = np.flatnonzero(between & (right == right[between].max()))
    k = best[len(best) // 2]
    return float(cuts[k]), float(right[k] / len(s))


def calibrate(judge: IdentityJudge, faces: Faces, *, count: int = 500, seed: int = 0) -> tuple[float, float]:
    """A judge's best threshold on real pairs of the faces, and its accuracy there."""
    pairs = draw_real_pairs(faces, count, seed=seed)
    a, b = (to_floats(faces.images[torch.from_numpy(rows)]) for rows in (pairs.first, pairs.second))
    return best_threshold(judge.similarity(a, b).numpy(), pairs.same)


# --- Pictures --------------------------------------------------------------------------------------------------------


def _embed_once(embed: Callable[[Tensor], Tensor], a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings of a and of b, each picture embedded once however often it comes: one source has many edits."""
    images, found = torch.cat([a, b]), dict[bytes, int]()
    place = [found.setdefault(sha256(image.numpy().tobytes()).digest(), len(found)) for image in images]
    first = [place.index(k) for k in range(len(found))]
    x, y = embed(images[first])[place].split([len(a), len(b)])
    return x, y


def _window(images: Tensor, side: int, size: int, top: int) -> Tensor:
    """The size×size window from row `top`, in the middle of the columns, of images resampled to `side`.

    The last row is repeated where the window goes beyond it.
    """
    x = pad(resized(images, side), (0, 0, 0, max(0, top + size - side)), mode="replicate")
    left = (side - size) // 2
    return x[..., top : top + size, left : left + size]


def _pixels(images: Tensor) -> np.ndarray:
    """Images (N, 3, H, H) in [-1, 1] as uint8 (N, H, H, 3)."""
    return to_bytes(images).permute(0, 2, 3, 1).contiguous().numpy()
