"""Several processes that train one model: the gradients of one process with the joint batch, and one run of files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.checkpoint import load_checkpoint, save_checkpoint
from segswap.models.ncnet import NcNet, NcNetSettings
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.training.batches import BatchSettings, PairBatches, negative_indices
from segswap.training.losses import Targets, pair_losses
from segswap.training.processes import Processes
from segswap.training.step import _features, _warped, unrelated

TESTS = Path(__file__).parent

COMMON = """
import sys
from pathlib import Path

import torch

from segswap.models.checkpoint import load_checkpoint
from segswap.training.batches import BatchSettings, PairBatches
from segswap.training.numerics import Numerics
from segswap.training.processes import training_processes
from segswap.training.step import Execution, HardNegatives, LossSettings, batch_losses

torch.set_num_threads(1)
folder, manifests = Path(sys.argv[1]), sys.argv[2:]
"""

GRADIENTS = (
    COMMON
    + """
BATCH = BatchSettings(3, 6, 0.5, 0.5, 0.5, (4,), 0.5, 0.0)
with training_processes(torch.device("cpu")) as (processes, device):
    batches = PairBatches(manifests, BATCH, 5, None, processes.rank, processes.count)
    # Each process holds hard negatives of its own, of which there may be more in one than in the other.
    noise = torch.randn(2, 1 + processes.rank, 32, 8, 8, generator=torch.Generator().manual_seed(processes.rank))
    noise = torch.nn.functional.normalize(noise, dim=2)
    for initial in ("initial.pt", "ncnet.pt"):
        model, _ = load_checkpoint(folder / initial)
        execution = Execution.of(model, device, Numerics(), processes)
        losses = batch_losses(model, batches[2], 6, LossSettings(8.0, "all", True), execution, HardNegatives(*noise))
        (losses.total * processes.count).backward()
        gradients = {name: parameter.grad for name, parameter in model.matcher.named_parameters()}
        content = {"gradients": gradients, "total": losses.total.detach()}
        torch.save(content, folder / f"rank-{processes.rank}-{initial}")
"""
)


def torchrun(script: str, folder: Path, *arguments: object, count: int = 2) -> str:
    """Run a script in several processes and return what it says."""
    path = folder / "script.py"
    path.write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), path]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*map(str, command), *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


@pytest.fixture
def initial(tmp_path):
    torch.manual_seed(1)
    trunk = ResNet(ResNetSettings("resnet10", width=8))
    matcher = Transformer(TransformerSettings("tiny", trunk.channels, dropout=0.0, initialisation="matching"))
    save_checkpoint(tmp_path / "initial.pt", SegSwap(trunk, matcher), {})
    save_checkpoint(tmp_path / "ncnet.pt", SegSwap(trunk, NcNet(NcNetSettings(trunk.channels))), {})
    return tmp_path / "initial.pt"


@pytest.fixture
def manifests(tiny_world):
    return [tiny_world.pairs["1obj"], tiny_world.pairs["2obj"]]


def joint_gradients(initial: Path, manifests: list[Path]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return gradients and loss of one process that holds the batches of both, side by side."""
    cpu, (model, _) = torch.device("cpu"), load_checkpoint(initial)
    settings = BatchSettings(3, 6, 0.5, 0.5, 0.5, (4,), 0.5, 0.0)
    outputs, targets, negatives = [], [], []
    for rank in range(2):
        batch = PairBatches(manifests, settings, 5, None, rank, 2)[2]
        b, own = _warped(batch, cpu)
        x, y = _features(model, batch.a, cpu), _features(model, b, cpu)
        hidden = (own.mask_b < 0.5) & batch.hide[:, None, None, None]
        outputs.append(model.matcher(x, y, None, hidden))
        targets.append(own)
        first, second = negative_indices(3, 6)
        honest = unrelated(batch, first, second)
        first, second = [first[n] for n in honest], [second[n] for n in honest]
        negatives += model.matcher(x[first], y[second], None, hidden[second])
        noise = torch.randn(2, 1 + rank, 32, 8, 8, generator=torch.Generator().manual_seed(rank))
        negatives += model.matcher(*torch.nn.functional.normalize(noise, dim=2))
    joined = Targets(*(torch.cat([getattr(own, name) for own in targets]) for name in Targets.__dataclass_fields__))
    output_a, output_b = (torch.cat([each[side] for each in outputs]) for side in (0, 1))
    losses = pair_losses(output_a, output_b, joined, negatives, 8.0, "all")
    losses.total.backward()
    return {name: p.grad for name, p in model.matcher.named_parameters()}, losses.total.detach()


def test_two_processes_have_the_gradients_of_one_with_the_joint_batch(initial, manifests):
    folder = initial.parent
    torchrun(GRADIENTS, folder, folder, *manifests)
    for name in ("initial.pt", "ncnet.pt"):
        expected, total = joint_gradients(folder / name, manifests)
        scale = max(gradient.abs().max() for gradient in expected.values())
        for rank in range(2):
            found = torch.load(folder / f"rank-{rank}-{name}", weights_only=True)
            assert found["total"] == pytest.approx(total.item(), rel=1e-5), "both know the loss of the whole batch"
            for weight, gradient in expected.items():
                torch.testing.assert_close(found["gradients"][weight], gradient, rtol=0, atol=float(1e-5 * scale))


TRAINING = """
import sys

import pytest

sys.path.insert(0, {tests!r})
import test_training as t
from pathlib import Path

from segswap.training.loop import _Trainer
from segswap.weights import tensors_sha256

end_epoch = _Trainer._end_epoch


def noted(self, validate):
    path = folder / f"kept-{{self.at.epoch}}-{{self.processes.rank}}"
    path.write_text(tensors_sha256(self.kept.matcher.state_dict()))
    end_epoch(self, validate)


_Trainer._end_epoch = noted
folder, initial, *manifests = (Path(argument) for argument in sys.argv[1:])
training = t.Training(folder, initial, manifests)
try:
    training.start(time_limit={time_limit}, {settings})
except t.Interrupted as reason:
    print("interrupted:", reason)
"""
STAGES = {
    "stage 1": "",
    "stage 2 with weight decay, running mean, changes": "stage=t.ABLE, mining=t.MINING, batch=t.CHANGED",
}


@pytest.mark.parametrize("settings", STAGES.values(), ids=STAGES)
def test_a_stage_in_two_processes_writes_one_run_and_resumes_exactly(initial, manifests, tmp_path, settings):
    results = {}
    for name in ("through", "interrupted"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "interrupted":
            script = TRAINING.format(tests=str(TESTS), settings=settings, time_limit=1e-9)
            assert "interrupted: time limit" in torchrun(script, folder, folder, initial, *manifests)
            assert not (folder / "stage.pt").exists() and list((folder / "state").rglob("state.pt"))
        script = TRAINING.format(tests=str(TESTS), settings=settings, time_limit=None)
        said = torchrun(script, folder, folder, initial, *manifests)
        assert said.count("epoch 1: score") == 1, "the first process alone says what happens"
        kept = [[(folder / f"kept-{epoch}-{rank}").read_text() for epoch in range(2)] for rank in range(2)]
        assert kept[0] == kept[1] and kept[0][0] != kept[0][1], "both processes have the same after each epoch"
        results[name] = folder
    through, interrupted = (load_checkpoint(folder / "stage.pt") for folder in results.values())
    assert through[1] == interrupted[1] and through[1]["processes"] == 2
    for name, value in through[0].matcher.state_dict().items():
        assert torch.equal(interrupted[0].matcher.state_dict()[name], value)
    assert (results["through"] / "history.csv").read_text() == (results["interrupted"] / "history.csv").read_text()
    assert not list((results["interrupted"] / "state").rglob("*.pt"))


def test_a_single_process_needs_no_other():
    alone, values = Processes(), torch.ones(3, requires_grad=True)
    assert alone.first and alone.total(values) is values
    assert alone.from_first(lambda: 5) == 5
    assert alone.any(True, torch.device("cpu")) and not alone.any(False, torch.device("cpu"))
