"""A model as one ONNX file, and such a file in the place of the model.

The file holds the whole edit at the model's size. What lies between E and G are outputs of it too, so that it can be
cut there: `load_onnx` runs the two parts apart, and a further edit of a face costs one pass of G.

| input | shape, range           |                                               |
|-------|------------------------|-----------------------------------------------|
| image | (B, 3, S, S) in [-1, 1]| aligned faces at the model's side S           |
| u_i   | (B, 17) in [0, 1]      | their own AUs / 5; the latent form ignores it |
| u_t   | (B, 17) in [0, 1]      | target AUs / 5                                |

| output                    | shape                    |                                                          |
|---------------------------|--------------------------|----------------------------------------------------------|
| edit                      | (B, 3, S, S)             | in [-1, 1]                                               |
| latent                    | (B, latent size)         | latent form: all that G needs of the image               |
| features_0, …             | (B, w, s, s)             | compose form: all that G needs of the image              |
| flow, shade, mask, colour | (B, 2 / 1 / 1 / 3, S, S) | compose form: to edit a picture of any size (`composed`) |

The warp of a larger picture stays outside of the graph: its sides would have to be dynamic, and torch 2.13 exports
neither `affine_grid` nor a resize that may also be by 1 with dynamic sides. S is fixed, B is free.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from eggan.errors import EgganError
from eggan.files import write_atomically
from eggan.model import EGGAN, ModelConfig
from eggan.networks import D, Fields

__all__ = ["OPSET", "export_onnx", "load_onnx", "to_onnx"]

OPSET = 20
"""The first with GridSample as torch has it; from 21 on GroupNormalization is one operator, which few runtimes have."""
EDIT = "edit"
FIELDS = list(Fields._fields)


def export_onnx(model: EGGAN, path: Path) -> None:
    """Write a model as one ONNX file; it appears whole or not at all.

    Raises:
        EgganError: the ending is not .onnx, a package is missing, or the file cannot be written.
    """
    if path.suffix.lower() != ".onnx":
        raise EgganError(f"{path} must end in .onnx.")
    data = to_onnx(model).SerializeToString()
    try:
        write_atomically(path, lambda beside: beside.write_bytes(data))
    except OSError as error:
        raise EgganError(f"{path} cannot be written ({error.strerror or error}).") from None


def to_onnx(model: EGGAN) -> Any:  # noqa: ANN401
    """The model as an `onnx.ModelProto`, with its configuration and the package's version as metadata.

    Raises:
        EgganError: a package of the extra `onnx` is missing.
    """
    from eggan import __version__

    for name in ("onnx", "onnxscript"):
        _package(name)
    side = model.config.image_size
    inputs = {"image": torch.zeros(2, 3, side, side), "u_i": torch.zeros(2, D), "u_t": torch.zeros(2, D)}
    names = [*_between(model.config), *(FIELDS if model.composes else []), EDIT]
    batch = torch.export.Dim("batch")
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _Whole(model).eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=names,
            dynamic_shapes={name: {0: batch} for name in inputs},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    for key, value in {"eggan_version": __version__, "eggan_config": model.config.model_dump_json()}.items():
        proto.metadata_props.add(key=key, value=value)
    return proto


def load_onnx(model: str | Path) -> EGGAN:
    """A model whose E and G run in onnxruntime on the CPU, on as many threads as torch has now.

    Args:
        model: a file of `export_onnx`; or a shipped name or folder, which is exported in memory first (some seconds).

    Raises:
        EgganError: there is no such model, the file is not one of ours, or a package is missing.
    """
    proto = _read(Path(model)) if Path(model).suffix == ".onnx" else to_onnx(EGGAN.from_pretrained(model))
    config = _config(proto, model)
    with torch.device("meta"):
        network = EGGAN(config)
    between = _between(config)
    network.E = _GraphEncoder(_Graph(proto, ["image"], between), network.composes)
    if network.composes:
        network.G = _GraphComposeGenerator(_Graph(proto, [*between, "u_i", "u_t"], FIELDS))
    else:
        network.G = _GraphGenerator(_Graph(proto, [*between, "u_t"], [EDIT]))
    return network.eval()


class _Whole(nn.Module):
    """E, G and what lies between them, as outputs in the order of the file."""

    def __init__(self, model: EGGAN) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, u_i: Tensor, u_t: Tensor) -> tuple[Tensor, ...]:
        code = self.model.encode(image, u_i)
        if not self.model.composes:
            assert code.latent is not None
            return code.latent, self.model.generate(code, u_t)
        fields = self.model.fields(code, u_t)
        return *code.features, *fields, self.model.composed(image, fields)


class _Graph:
    """A part of the file in onnxruntime.

    Args:
        proto: the whole file.
        inputs: where it is cut, in the order of the arguments.
        outputs: up to where it is run.
    """

    def __init__(self, proto: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:  # noqa: ANN401
        runtime = _package("onnxruntime")
        part = _package("onnx.utils").Extractor(proto).extract_model(list(inputs), list(outputs))
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = runtime.InferenceSession(part.SerializeToString(), options, ["CPUExecutionProvider"])
        self.inputs, self.outputs = list(inputs), list(outputs)

    def __call__(self, *tensors: Tensor) -> list[Tensor]:
        feeds = {name: t.contiguous().numpy() for name, t in zip(self.inputs, tensors, strict=True)}
        return [torch.from_numpy(array) for array in self.session.run(self.outputs, feeds)]


class _GraphEncoder(nn.Module):
    """In the place of `Encoder` or `PyramidEncoder`."""

    def __init__(self, graph: _Graph, composes: bool) -> None:
        super().__init__()
        self.graph, self.composes = graph, composes

    def forward(self, I: Tensor) -> Tensor | list[Tensor]:
        out = self.graph(I)
        return out if self.composes else out[0]


class _GraphGenerator(nn.Module):
    """In the place of `Generator`."""

    def __init__(self, graph: _Graph) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, l: Tensor, u: Tensor) -> Tensor:
        return self.graph(l, u)[0]


class _GraphComposeGenerator(nn.Module):
    """In the place of `ComposeGenerator`."""

    def __init__(self, graph: _Graph) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, features: Sequence[Tensor], u_i: Tensor, u_t: Tensor) -> Fields:
        return Fields(*self.graph(*features, u_i, u_t))


def _between(config: ModelConfig) -> list[str]:
    """Names of the tensors between E and G."""
    if config.network.form == "latent":
        return ["latent"]
    return [f"features_{k}" for k in range(len(config.network.widths))]


def _read(path: Path) -> Any:  # noqa: ANN401
    onnx = _package("onnx")
    try:
        return onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise EgganError(f"{path} cannot be read ({error.strerror or error}).") from None
    except Exception:  # protobuf's DecodeError, which lies elsewhere from version to version
        return onnx.ModelProto()


def _config(proto: Any, name: str | Path) -> ModelConfig:  # noqa: ANN401
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    try:
        return ModelConfig.model_validate(json.loads(metadata["eggan_config"]))
    except (KeyError, ValueError, ValidationError):
        raise EgganError(f"{name} is not a file that `eggan export` wrote: make one with it.") from None


def _package(name: str) -> Any:  # noqa: ANN401
    try:
        return import_module(name)
    except ImportError:
        raise EgganError(f'ONNX needs the package {name.split(".")[0]}: pip install "eggan[onnx]".') from None


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of torchvision, which we do not use, and of its own use of torch."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
