"""What an edit costs: E, G and whole, by PyTorch eager and compiled and by onnxruntime, on 1 and 2 threads.

    python benchmarks/edit.py [MODEL...]

Batch 1. Beside every figure stand, measured in the same rounds, a fixed GEMM and StarGAN's generator of published shape
at the same side: on a shared machine the ratios are what counts. A round calls each thing once, so a neighbour's load
falls on all alike; figures are medians over rounds. The CPU time of one thread is what the clock would show on a core
of one's own; of two threads it is the sum, with their waiting for each other. A model of the compose form is also
measured at 128 px (its networks are convolutional, its weights fit any side), and there with its slider: from a further
target for a face that the editor knows to the finished picture.
"""

import sys
import tempfile
import time

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from eggan import Editor
from eggan.action_units import NUMBERS
from eggan.data import read_faces
from eggan.editor import DEFAULT_MODEL
from eggan.estimator import ActionUnitEstimator
from eggan.export import load_onnx
from eggan.model import EGGAN

ROUNDS, GEMM = 30, 1024


class StarGANGenerator(nn.Module):
    """The published shape (Choi et al. 2018, Table 4), with 17 conditions tiled onto the input."""

    def __init__(self, conditions=17, width=64):
        super().__init__()
        layers = _block(nn.Conv2d(3 + conditions, width, 7, 1, 3, bias=False))
        for w in (width, 2 * width):
            layers += _block(nn.Conv2d(w, 2 * w, 4, 2, 1, bias=False))
        layers += [Residual(4 * width) for _ in range(6)]
        for w in (4 * width, 2 * width):
            layers += _block(nn.ConvTranspose2d(w, w // 2, 4, 2, 1, bias=False))
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 3, 7, 1, 3, bias=False), nn.Tanh())

    def forward(self, image, u):
        return self.layers(torch.cat([image, u[:, :, None, None].expand(-1, -1, *image.shape[2:])], dim=1))


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        first, second = (nn.Conv2d(width, width, 3, 1, 1, bias=False) for _ in range(2))
        self.layers = nn.Sequential(*_block(first), second, nn.InstanceNorm2d(width, affine=True))

    def forward(self, x):
        return x + self.layers(x)


def _block(conv):
    return [conv, nn.InstanceNorm2d(conv.out_channels, affine=True), nn.ReLU()]


def main(*names):
    star = StarGANGenerator().eval().to(memory_format=torch.channels_last)
    parameters = sum(p.numel() for p in star.parameters())
    with FlopCounterMode(display=False) as flops, torch.inference_mode():
        star(torch.zeros(1, 3, 128, 128), torch.zeros(1, 17))
    print(f"StarGAN's generator: {parameters / 1e6:.2f} M parameters, ", end="")
    print(f"{flops.get_total_flops() / 1e9:.1f} GFLOP at 128 px.")
    for name in names or [DEFAULT_MODEL]:
        with tempfile.TemporaryDirectory() as folder:
            model = EGGAN.from_pretrained(name)
            measure(name, name, star)
            if model.composes and model.config.image_size != 128:
                large = EGGAN(model.config.model_copy(update={"image_size": 128})).eval()
                large.load_state_dict(model.state_dict())
                large.save_pretrained(folder, "")
                measure(f"{name} at 128 px", folder, star)


def measure(label, model, star):
    """Print a table for one model, 1 and 2 threads."""
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.compiler.reset()
        eager, compiled = EGGAN.from_pretrained(model), EGGAN.from_pretrained(model)
        compiled.E, compiled.G = torch.compile(compiled.E), torch.compile(compiled.G)
        runtimes = {"eager": eager, "compiled": compiled, "ONNX": load_onnx(model)}
        side = eager.config.image_size
        image, u_i = torch.rand(1, 3, side, side) * 2 - 1, torch.zeros(1, 17)
        square = torch.rand(GEMM, GEMM)
        photo = read_faces("data/facsynth/test.parquet", 128).images[0].permute(1, 2, 0).numpy()
        calls = {"GEMM": lambda square=square: square @ square, "StarGAN G": lambda i=image, u=u_i: star(i, u)}
        with torch.inference_mode():
            for name, network in runtimes.items():
                calls[f"{name} E"] = lambda n=network, i=image, u=u_i: n.encode(i, u)
                code = network.encode(image, u_i)
                calls[f"{name} G"] = lambda n=network, c=code, u=u_i: n.generate(c, u)
                calls[f"{name} whole"] = lambda n=network, i=image, u=u_i: n.edit(i, u, u)
                if name != "compiled" and network.composes and side == 128:
                    calls[f"{name} slider"] = slider(network, photo)
            ms = medians(calls)
            u_t = torch.rand(1, 17)
            apart = (runtimes["ONNX"].edit(image, u_i, u_t) - eager.edit(image, u_i, u_t)).abs().max()
        print(f"\n**{label}, {side} px, {threads} thread{'s' * (threads > 1)}** (by the clock / of CPU): ", end="")
        print(f"GEMM {GEMM}³ {both(ms['GEMM'])} ms, StarGAN's generator {both(ms['StarGAN G'])} ms; ", end="")
        print(f"ONNX differs from eager by {apart:.0e}\n")
        print("| | E ms | G ms | whole ms | G passes/s | × StarGAN | slider ms |")
        print("|---|---|---|---|---|---|---|")
        for name in runtimes:
            e, g, whole = (ms[f"{name} {part}"] for part in ("E", "G", "whole"))
            last = both(ms[f"{name} slider"]) if f"{name} slider" in ms else ""
            rates = " / ".join(f"{1000 / t:.0f}" for t in g)
            faster = " / ".join(f"{ratio:.1f}" for ratio in ms["StarGAN G"] / g)
            print(f"| {name} | {both(e)} | {both(g)} | {both(whole)} | {rates} | {faster} | {last} |", flush=True)


def both(ms):
    return f"{ms[0]:.1f} / {ms[1]:.1f}"


def slider(network, photo):
    """A call that moves AU 12 of a known face of 128 px: the whole of `Editor.edit`, with the face put back."""
    editor = Editor(network, ActionUnitEstimator.from_pretrained())
    values = iter(np.linspace(0, 5, 10_000))
    return lambda: editor.edit(photo, {NUMBERS[8]: float(next(values))})


def medians(calls):
    """Milliseconds of each call by the clock and of CPU: medians over rounds in which each call is made once."""
    taken = {name: [] for name in calls}
    for _ in range(3):
        for call in calls.values():
            call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            before = time.perf_counter(), time.process_time()
            call()
            after = time.perf_counter(), time.process_time()
            taken[name].append([(end - start) * 1000 for start, end in zip(before, after, strict=True)])
    return {name: np.median(times, axis=0) for name, times in taken.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
