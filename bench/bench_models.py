"""Nc-Net against the form with a stack of 3-D convolutions on the whole volume, and beside the transformer.

    python bench/bench_models.py --quick        # one pair of 24 x 24 cells, under 50 s
    python bench/bench_models.py                # one pair of the published 30 x 30 cells: two minutes
    python bench/bench_models.py --memory       # only the memory of a training step at the paper's batch

The plain form is written down here from the method's description: the volume of all pairs of cells, in which what is
not kept is 0; a convolution in four dimensions as the sum of three in the last three of them; the volume with exchanged
images on its own; a softmax over all. It has the same weights, and results and gradients are compared. No cell is
hidden, and features are random: of 30 x 30 cells each, 10,569 of 810,000 entries are kept.

The last line is JSON. Ratios ``ncnet, ...`` (10 kept correlations of each cell) and ``ncnet dense, ...`` (all) are
the plain form's time divided by ours; ``transformer to ncnet, ...`` and ``transformer to ncnet dense, ...`` are the
published transformer's time divided by Nc-Net's, so below 1 where Nc-Net is slower. ``inference`` is forward without
gradients, ``training`` forward and backward; medians of alternating runs. With ``--memory`` the ratios are the
transformer's memory divided by Nc-Net's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from timing import alternate, largest_memory, print_result
from torch import nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from segswap.models.ncnet import NcNet, NcNetSettings
from segswap.models.transformer import EPSILON, Transformer, TransformerSettings
from segswap.sampling import cell_centres

CHANNELS = 1024
TOP_K = 10
BATCH = 25
"""Pairs of the paper's second stage: 5 positives, 15 negatives, 5 hard negatives."""


class PlainNcNet(nn.Module):
    """Nc-Net on the whole volume, with the weights of another."""

    def __init__(self, other: NcNet) -> None:
        super().__init__()
        self.other = other

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        net, shape_x, shape_y = self.other, x.shape[-2:], y.shape[-2:]
        cosines = x.flatten(2).transpose(1, 2) @ y.flatten(2)
        kept = torch.ones_like(cosines, dtype=torch.bool)
        if net.settings.top_k:
            rows, columns = (cosines.topk(net.settings.top_k, dim).values for dim in (2, 1))
            kept = (cosines >= rows[:, :, -1:]) | (cosines >= columns[:, -1:])
        positive = cosines.relu()
        best = (positive.amax(dim, keepdim=True).clamp(min=EPSILON) for dim in (2, 1))
        volume = positive * (positive / next(best)) * (positive / next(best)) * kept
        volume, kept = (each.unflatten(2, shape_y).unflatten(1, shape_x) for each in (volume, kept))
        scores = self._branch(volume, kept) + exchanged(self._branch(exchanged(volume), exchanged(kept)))
        kept = kept.flatten(3).flatten(1, 2)
        scores = scores.flatten(3).flatten(1, 2).masked_fill(~kept, -torch.inf)
        of_x = (2 * scores - scores.amax(1, keepdim=True)).masked_fill(~kept, -torch.inf)
        of_y = (2 * scores - scores.amax(2, keepdim=True)).masked_fill(~kept, -torch.inf).transpose(1, 2)
        return self._maps(of_x, shape_x, shape_y), self._maps(of_y, shape_y, shape_x)

    def _branch(self, volume: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return both convolutions of volumes (B, hx, wx, hy, wy), masked after each."""
        net = self.other
        hidden = convolution(volume[:, :, None], net.weight1[:, None]) + net.bias1.view(-1, 1, 1, 1)
        return convolution(hidden.relu() * kept[:, :, None], net.weight2[None])[:, :, 0] * kept

    def _maps(self, scores: torch.Tensor, shape: torch.Size, other_shape: torch.Size) -> torch.Tensor:
        net = self.other
        centres = cell_centres(*other_shape).flatten(1).T
        position = (net.log_sharpness.exp() * scores).softmax(2) @ centres
        mask = (net.log_mask_scale.exp() * (scores.amax(2, keepdim=True) - net.mask_threshold)).sigmoid()
        maps = torch.cat([position, mask], dim=2).transpose(1, 2).unflatten(2, shape)
        return maps.clamp(EPSILON, 1 - EPSILON)


def convolution(volume: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Convolve volumes (B, hx, I, wx, hy, wy) with kernels (O, I, 3, 3, 3, 3): one ``conv3d`` for each row of taps."""
    batch, rows = volume.shape[:2]
    padded = F.pad(volume, (0, 0) * 4 + (1, 1))
    found = sum(
        F.conv3d(padded[:, tap : tap + rows].flatten(0, 1), kernels[:, :, tap], padding=1)
        for tap in range(kernels.shape[2])
    )
    return found.unflatten(0, (batch, rows))


def exchanged(volume: torch.Tensor) -> torch.Tensor:
    """Return volumes (B, hx, wx, hy, wy) with the images exchanged."""
    return volume.permute(0, 3, 4, 1, 2).contiguous()


def matchers(dropout: float) -> dict[str, nn.Module]:
    """Return the matchers at their published sizes."""
    torch.manual_seed(0)
    return {
        "transformer": Transformer(TransformerSettings("small", CHANNELS, dropout)).train(),
        "ncnet": NcNet(NcNetSettings(CHANNELS, TOP_K)).train(),
        "ncnet dense": NcNet(NcNetSettings(CHANNELS, 0)).train(),
    }


def features(pairs: int, cells: int) -> list[torch.Tensor]:
    """Return random features of both images, unit vectors, made in place: they are the most memory so far."""
    torch.manual_seed(1)
    made = [torch.randn(pairs, CHANNELS, cells, cells) for _ in range(2)]
    for each in made:
        each /= torch.linalg.vector_norm(each, dim=1, keepdim=True)
    return made


def infer(form: nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    """Return the outputs of a form."""
    with torch.no_grad():
        return list(form(x, y))


def train(form: nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    """Run a form forward and backward; return the gradients of its weights."""
    form.zero_grad(set_to_none=True)
    sum(side.square().sum() for side in form(x, y)).backward()
    return [parameter.grad for parameter in form.parameters()]


def difference(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Return the largest difference, as a share of the largest value of its tensor where that is above 1."""
    pairs = zip(found, expected, strict=True)
    return max(((a - b).abs().max() / b.abs().max().clamp(min=1)).item() for a, b in pairs)


def compare(pairs: int, cells: int, rounds: int) -> tuple[dict[str, float], dict[str, object]]:
    """Return all ratios, and the seconds of a pair of every form."""
    models = matchers(dropout=0.0)
    forms = models | {f"plain {name}": PlainNcNet(models[name]) for name in ("ncnet", "ncnet dense")}
    batch = features(pairs, cells)
    ratios, details = {}, {}
    # Gradients are sums over all entries in float32: conv3d's are up to 4e-4 from those of float64, ours 2e-5.
    for what, run, tolerance in (("inference", infer, 1e-5), ("training", train, 1e-3)):
        seconds, found = alternate({name: partial(run, form, *batch) for name, form in forms.items()}, rounds)
        details[what] = {name: value / pairs for name, value in seconds.items()}
        for name in ("ncnet", "ncnet dense"):
            apart = difference(found[name], found[f"plain {name}"])
            assert apart < tolerance, f"{name}, {what}: results differ by {apart}"
            ratios[f"{name}, {what}"] = seconds[f"plain {name}"] / seconds[name]
            ratios[f"transformer to {name}, {what}"] = seconds["transformer"] / seconds[name]
            each = details[what]
            print(
                f"{what}, {name}: {each[name]:.3f} s a pair, plain form {each[f'plain {name}']:.3f} s, ratio "
                f"{ratios[f'{name}, {what}']:.2f}, transformer {each['transformer']:.3f} s; results differ by "
                f"{apart:.1e}",
                flush=True,
            )
    weights = {name: sum(each.numel() for each in model.parameters()) for name, model in models.items()}
    return ratios, {"s_per_pair": details, "weights": weights}


def largest_sum(trace: Path) -> float:
    """Return the most memory, in GB, that a profile's allocations less what they freed have come to."""
    events = json.loads(trace.read_text())["traceEvents"]
    memory = sorted((each for each in events if each["name"] == "[memory]"), key=lambda each: each["ts"])
    total = most = 0
    for each in memory:
        total += each["args"]["Bytes"]
        most = max(most, total)
    return most / 1e9


def measure_memory(name: str, pairs: int, cells: int) -> dict[str, float]:
    """Return the largest memory of one forward and backward of a matcher above its features and weights, in GB."""
    model = matchers(dropout=0.1)[name]
    batch = features(pairs, cells)
    before = largest_memory()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        train(model, *batch)
    after = largest_memory()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        profiled = largest_sum(trace)
    return {
        "profiler_gb": profiled,
        "process_gb": after - before,
        "features_gb": sum(each.nbytes for each in batch) / 1e9,
        "process_all_gb": after,
    }


def compare_memory(pairs: int, cells: int, threads: int) -> dict[str, dict[str, float]]:
    """Measure each matcher in a process of its own; print a table."""
    rows = {}
    for name in matchers(dropout=0.1):
        job = [sys.executable, __file__, "--one", name, "--pairs", str(pairs), "--cells", str(cells)]
        job += ["--threads", str(threads)]
        rows[name] = row = json.loads(subprocess.run(job, stdout=subprocess.PIPE, text=True, check=True).stdout)
        print(
            f"{name}, {pairs} pairs of {cells} x {cells} cells, forward and backward: at most {row['profiler_gb']:.2f} "
            f"GB by the profiler, {row['process_gb']:.2f} GB by the process; features of the batch "
            f"{row['features_gb']:.2f} GB more, the whole process {row['process_all_gb']:.2f} GB",
            flush=True,
        )
    return rows


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one pair of at most 24 x 24 cells, 3 rounds")
    parser.add_argument("--pairs", type=int, help=f"(default: 1, with --memory {BATCH}, the paper's)")
    parser.add_argument("--cells", type=int, default=30, help="cells of a side (default: %(default)s, published)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="memory of a training step instead of time")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    pairs = args.pairs or (BATCH if args.memory else 1)
    torch.set_num_threads(args.threads)
    if args.one:
        print(json.dumps(measure_memory(args.one, pairs, args.cells)))
        return
    if args.quick:
        pairs, args.cells, args.rounds = 1, min(args.cells, 24), min(args.rounds, 3)
    details = {"threads": args.threads, "pairs": pairs, "cells": args.cells}
    print(json.dumps(details))
    if args.memory:
        memory = compare_memory(pairs, args.cells, args.threads)
        ratios = {
            f"memory, transformer to {name}": memory["transformer"]["profiler_gb"] / memory[name]["profiler_gb"]
            for name in ("ncnet", "ncnet dense")
        }
        print_result("models", ratios, details | {"memory": memory})
        return
    ratios, found = compare(pairs, args.cells, args.rounds)
    print_result("models", ratios, details | {"rounds": args.rounds} | found)


if __name__ == "__main__":
    main()
