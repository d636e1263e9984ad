"""The transformer and the training step, against the form that the released code has, side by side in one process.

    python bench/bench_train.py --quick        # the transformer, forward and backward, on three pairs, under 50 s
    python bench/bench_train.py                # the transformer, forward and backward, on the published batch
    python bench/bench_train.py --step         # also a whole training step, its parts, and the wait for the loader

The joint form is written down here from the method's description: both images are one sequence of 2N tokens, and a
boolean mask of 2N x 2N says who may attend to whom: half of every attention matrix is computed and thrown away. The
forms have the same weights and take turns; their results are compared. The last line is JSON: ratios are the joint
form's time divided by ours, medians of alternating runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import torch
from timing import alternate, print_result, timed, timed_parts
from torch import nn
from torch.nn import functional as F

from segswap.config import SCHEMA, complete_config, read_schema
from segswap.demo_world.coco import draw_coco, draw_style_images
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.segswap import SegSwap
from segswap.models.transformer import EPSILON, SIZES, Transformer, TransformerSettings
from segswap.pairs.annotations import ObjectSettings
from segswap.pairs.coco import build_object_table
from segswap.pairs.objects import ObjectTable
from segswap.pairs.recipe import KINDS, PairSettings
from segswap.pairs.render import Photos
from segswap.pairs.shards import shard_name, write_set_manifest, write_shard
from segswap.pairs.style import Reinhard, StyleStatistics, compute_style_statistics
from segswap.training import step as training_step
from segswap.training.batches import BatchSettings, PairBatches, load_batches
from segswap.training.losses import Losses
from segswap.training.numerics import Numerics
from segswap.training.processes import Processes
from segswap.training.step import Execution, LossSettings, batch_losses

DEFAULTS = complete_config({}, read_schema(SCHEMA))["train"]
BATCH, LOSS = BatchSettings(**DEFAULTS["batch"]), LossSettings(**DEFAULTS["loss"])


class JointTransformer(nn.Module):
    """The transformer on one joint sequence, with the layers of another.

    ``fused`` gives the mask to the fused attention kernel of today's PyTorch; else attention is written out, as in the
    form that was released, where no such kernel applied.
    """

    def __init__(self, other: Transformer, fused: bool) -> None:
        super().__init__()
        self.other, self.fused, self.heads = other, fused, SIZES[other.settings.size][1]
        self.dropout = other.settings.dropout
        blocks = [layer for block in other.net.encoder_blocks for layer in (block.layer1, block.layer2)]
        self.layers = [
            (name.startswith("inner"), module)
            for block in blocks
            for name, module in block.named_children()
            if name in ("inner_encoder_layer", "cross_encoder_layer")
        ]

    def forward(
        self, x: torch.Tensor, y: torch.Tensor, x_hidden: torch.Tensor | None, y_hidden: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        net, shape = self.other.net, x.shape[-2:]
        n = shape[0] * shape[1]
        sides = (self.other.feature_dropout(net.feat_proj(side)) for side in (x, y))
        tokens = torch.cat([side.flatten(2).transpose(1, 2) for side in sides], dim=1)
        code = self.other._code(x).repeat(1, 2, 1)
        same_image = torch.zeros(2 * n, 2 * n, dtype=torch.bool)
        same_image[:n, :n] = same_image[n:, n:] = True
        nothing = torch.zeros(len(x), n, dtype=torch.bool)
        hidden = [nothing if each is None else each.flatten(1) for each in (x_hidden, y_hidden)]
        # Where a picture is hidden as a whole, nothing of it is.
        hidden = [each & ~each.all(1, keepdim=True) for each in hidden]
        ignored = torch.cat(hidden, dim=1)[:, None, None, :]
        for inner, layer in self.layers:
            mask = (~same_image if inner else same_image) | ignored
            tokens = tokens + code if inner else tokens
            tokens = layer.norm1(tokens + self._drop(self._attention(tokens, layer.self_attn, mask)))
            tokens = layer.norm2(tokens + self._drop(layer.linear2(self._drop(layer.linear1(tokens).relu()))))
        maps = net.final_linear(tokens.transpose(1, 2).unflatten(2, (2 * shape[0], shape[1])))
        maps = maps.sigmoid().clamp(EPSILON, 1 - EPSILON)
        return maps[:, :, : shape[0]], maps[:, :, shape[0] :]

    def _drop(self, values: torch.Tensor) -> torch.Tensor:
        return F.dropout(values, self.dropout, self.training)

    def _attention(self, tokens: torch.Tensor, weights: nn.Module, mask: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in F.linear(tokens, weights.in_proj_weight, weights.in_proj_bias).chunk(3, dim=-1)
        )
        if self.fused:
            dropout = self.dropout if self.training else 0.0
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=~mask, dropout_p=dropout)
        else:
            scores = (q / q.shape[-1] ** 0.5) @ k.transpose(-2, -1)
            mixed = self._drop(scores.masked_fill(mask, -torch.inf).softmax(-1)) @ v
        return weights.out_proj(mixed.transpose(1, 2).flatten(2))


def compare_transformers(pairs: int, cells: int, rounds: int) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Return how many times faster forward and backward are in two sequences than in a joint one, and their seconds."""
    torch.manual_seed(0)
    model = Transformer(TransformerSettings("small", 1024, dropout=0.0)).train()
    x, y = (F.normalize(torch.randn(pairs, 1024, cells, cells), dim=1) for _ in range(2))
    # Half of the pairs hide the background of b: all but a quarter of its cells.
    hidden = torch.rand(pairs, 1, cells, cells) < 0.75
    hidden[::2] = False
    forms = {
        "ours": model,
        "joint": JointTransformer(model, fused=False),
        "joint, fused attention": JointTransformer(model, fused=True),
    }
    forward: dict[str, list[float]] = {name: [] for name in forms}

    def run(name: str) -> list[torch.Tensor]:
        model.zero_grad(set_to_none=True)
        started = time.perf_counter()
        maps = forms[name](x, y, None, hidden)
        forward[name].append(time.perf_counter() - started)
        sum(each.square().sum() for each in maps).backward()
        return [each.detach() for each in maps]

    totals, outputs = alternate({name: partial(run, name) for name in forms}, rounds)
    seconds = {}
    for name, total in totals.items():
        first = statistics.median(forward[name])
        seconds[name] = {"forward": first, "backward": total - first, "all": total}
    ratios = {}
    ours = seconds["ours"]
    for name in list(forms)[1:]:
        difference = max((a - b).abs().max().item() for a, b in zip(outputs["ours"], outputs[name], strict=True))
        assert difference < 1e-5, f"{name}: results differ by {difference}"
        other = seconds[name]
        ratios[name] = other["all"] / ours["all"]
        print(
            f"encoder against {name}: forward {other['forward']:.2f} to {ours['forward']:.2f} s, backward "
            f"{other['backward']:.2f} to {ours['backward']:.2f} s, ratio {ratios[name]:.2f}; results differ by "
            f"{difference:.1e}",
            flush=True,
        )
    return ratios, seconds


def make_pairs(folder: Path, size: int, count: int) -> list[Path]:
    """Make both pair sets of drawn photos; return their manifests."""
    draw_coco(folder / "coco", 1, "train", 60)
    draw_style_images(folder / "styles", 1, 8)
    build_object_table(
        folder / "coco/annotations.json",
        folder / "coco/images",
        folder / "t.parquet",
        folder / "p.json",
        ObjectSettings(0.01, 0.6, 0.1),
    )
    compute_style_statistics(folder / "styles", folder / "styles.npz", Reinhard())
    settings = PairSettings(size, 8, 0.2, (0.7, 1.0), 15, 10, 10, {"1obj": 0.4, "2obj": 0.6}, 4, 500)
    manifests = []
    for kind in KINDS:
        tar = folder / kind / shard_name(kind, 0)
        tar.parent.mkdir()
        photos = Photos(ObjectTable.read(folder / "t.parquet"), folder / "coco/images")
        styles = StyleStatistics.read(folder / "styles.npz")
        manifest = tar.with_suffix(".parquet")
        write_shard(photos, settings, Reinhard(), styles, (1, kind), range(count), tar, manifest, 95, 0.5)
        write_set_manifest([tar], tar.parent / "manifest.json", kind, {"size": size})
        manifests.append(tar.parent / "manifest.json")
    return manifests


def measure_steps(size: int, steps: int, workers: int) -> tuple[float, dict[str, object]]:
    """Return how many times faster a whole training step at the published batch is than in the joint form, and parts.

    Dropout is on, as in training. Steps take turns; of ours the wait for the loader is among the parts.
    """
    torch.manual_seed(0)
    backbone = ResNet(ResNetSettings("resnet50"))
    model = SegSwap(backbone, Transformer(TransformerSettings("small", backbone.channels)))
    model.matcher.train()
    ours = Execution.of(model, torch.device("cpu"), Numerics(), Processes())
    joint = dataclasses.replace(ours, matcher=JointTransformer(model.matcher, fused=False).train())
    optimiser = torch.optim.Adam(model.matcher.parameters(), DEFAULTS["stage1"]["learning_rate"])
    parts: Counter[str] = Counter()

    def backward(losses: Losses) -> None:
        optimiser.zero_grad(set_to_none=True)
        losses.total.backward()

    with tempfile.TemporaryDirectory() as temporary:
        batches = PairBatches(make_pairs(Path(temporary), size, 40), BATCH, 1)
        started = time.perf_counter()
        for number in range(5):
            batches[number]
        decoding = (time.perf_counter() - started) / 5
        print(f"decoding a batch, one core: {decoding:.2f} s", flush=True)
        loader = iter(load_batches(batches, 0, steps + 1, workers))
        # Getting the first one also starts the workers.
        batch = next(loader)

        def our_step() -> None:
            nonlocal batch
            with timed_parts(parts, {"trunk": (training_step, "_features"), "warp": (training_step, "_warped")}):
                losses = timed(parts, "forward, losses", batch_losses)(model, batch, BATCH.negatives, LOSS, ours)
            timed(parts, "backward", backward)(losses)
            timed(parts, "optimiser", optimiser.step)()
            batch = timed(parts, "waiting for data", next)(loader)

        def joint_step() -> None:
            backward(batch_losses(model, batch, BATCH.negatives, LOSS, joint))
            optimiser.step()

        seconds, _ = alternate({"ours": our_step, "joint": joint_step}, steps)
    parts["forward, losses"] -= parts["trunk"] + parts["warp"]
    each = {name: value / steps for name, value in reversed(parts.most_common())}
    each["all"] = sum(each.values())
    for name, value in each.items():
        print(f"  {name:18s} {value:7.2f} s a step  {value / each['all']:6.1%}")
    ratio = seconds["joint"] / seconds["ours"]
    print(f"step: ours {seconds['ours']:.2f} s, joint {seconds['joint']:.2f} s, ratio {ratio:.2f}")
    return ratio, {"step": seconds, "parts": each, "decoding": decoding}


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the transformer alone: at most 3 pairs, 3 rounds")
    parser.add_argument("--pairs", type=int, default=20, help="pairs of a batch (default: %(default)s, published)")
    parser.add_argument("--cells", type=int, default=30, help="cells of a side (default: %(default)s, published)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--step", type=int, nargs="?", const=3, default=0, help="steps of a whole training as well")
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    if args.quick:
        args.pairs, args.rounds, args.step = min(args.pairs, 3), min(args.rounds, 3), 0
    torch.set_num_threads(args.threads)
    details = {"threads": args.threads, "pairs": args.pairs, "cells": args.cells}
    print(json.dumps(details))
    ratios, details["transformer_s"] = compare_transformers(args.pairs, args.cells, args.rounds)
    if args.step:
        ratios["step"], details["step_s"] = measure_steps(16 * args.cells, args.step, args.workers)
    print_result("train", ratios, details)


if __name__ == "__main__":
    main()
