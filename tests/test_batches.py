"""Batches: what a step sees is a pure function of the seed and its number."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import pickle
import resource
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from segswap.errors import InputError
from segswap.matching.features import FeatureStore, extract_features
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.pairs.pair_set import PairSet, picture_name
from segswap.training.batches import BatchSettings, PairBatches, load_batches
from segswap.training.numerics import Numerics
from segswap.training.photometric import PhotometricSettings, change_pictures
from segswap.training.processes import Processes
from segswap.training.step import Execution, LossSettings, batch_losses, unrelated

PLAIN = BatchSettings(
    positives=4,
    negatives=4,
    two_object_share=0.5,
    stylise_probability=0.0,
    warp_probability=0.0,
    warp_grids=(4, 6),
    hide_probability=0.0,
    swap_probability=0.0,
)
AUGMENTED = dataclasses.replace(
    PLAIN, stylise_probability=0.5, warp_probability=0.5, hide_probability=0.5, swap_probability=0.5
)
CHANGED = dataclasses.replace(
    AUGMENTED,
    photometric=PhotometricSettings(gain=0.3, gamma=0.3, contrast=0.3, saturation=0.3, grey=0.3, blur=0.3, noise=0.1),
)
LOSS = LossSettings(eta=8.0, correspondence_cells="all", transport=True)


def on_cpu(model: SegSwap) -> Execution:
    return Execution.of(model, torch.device("cpu"), Numerics(), Processes())


SEED = 5


@pytest.fixture(scope="module")
def manifests(tiny_world):
    return [tiny_world.pairs["1obj"], tiny_world.pairs["2obj"]]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    trunk = ResNet(ResNetSettings("resnet10", width=8))
    matcher = Transformer(TransformerSettings("tiny", trunk.channels, initialisation="matching"))
    return SegSwap(trunk, matcher).eval()


@pytest.fixture(scope="module")
def stores(manifests, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    opened = []
    for number, manifest in enumerate(manifests):
        pairs = PairSet(manifest)
        items = [(n, name) for n in range(len(pairs)) for name in pairs.pictures]
        names = [picture_name(pairs, *item) for item in items]
        loaders = [lambda pairs=pairs, item=item: pairs.picture(*item) for item in items]
        extract_features(names, loaders, model.backbone, (128, 128), folder / f"{number}.npy")
        opened.append(FeatureStore(folder / f"{number}.npy", model.backbone))
    return opened


def assert_equal_batches(first, second) -> None:
    """Compare batches, or parts of them, field by field."""
    for field in dataclasses.fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if dataclasses.is_dataclass(a):
            assert_equal_batches(a, b)
        elif isinstance(a, torch.Tensor):
            assert torch.equal(a, b), field.name
        else:
            assert a == b, field.name


def draws(batches: PairBatches, steps) -> list[tuple[int, int]]:
    return [pair for step in steps for pair in batches.positions(step)]


# The order


@pytest.mark.parametrize("passes", [1, 2])
def test_every_pair_is_seen_once_a_pass(manifests, passes):
    batches = PairBatches(manifests, PLAIN, SEED)
    sizes = [len(pairs) for pairs in batches.sets]
    assert sizes == [24, 24]
    counts = Counter(draws(batches, range(passes * 48 // PLAIN.positives)))
    assert counts == {(which, n): passes for which in (0, 1) for n in range(24)}


def test_each_pass_and_each_seed_has_its_own_order(manifests):
    batches = PairBatches(manifests, PLAIN, SEED)
    first, second = draws(batches, range(12)), draws(batches, range(12, 24))
    assert first != second
    assert first != draws(PairBatches(manifests, PLAIN, SEED + 1), range(12))
    assert first == draws(PairBatches(manifests, PLAIN, SEED), range(12))


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.25, 12), (0.5, 24), (1.0, 48)])
def test_two_object_pairs_have_their_share(manifests, share, expected):
    batches = PairBatches(manifests, dataclasses.replace(PLAIN, two_object_share=share), SEED)
    which = [which for which, _ in draws(batches, range(12))]
    assert sum(which) == expected
    for step in range(12):
        assert sum(which for which, _ in batches.positions(step)) == 4 * share, "evenly over the steps"


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_pairs_without_loss_or_overlap(manifests, world_size):
    alone = draws(PairBatches(manifests, PLAIN, SEED), range(12))
    processes = [PairBatches(manifests, PLAIN, SEED, rank=r, world_size=world_size) for r in range(world_size)]
    together = [pair for step in range(12 // world_size) for p in processes for pair in p.positions(step)]
    assert together == alone


def test_excluded_pairs_are_replaced_by_others(manifests):
    batches = PairBatches(manifests, PLAIN, SEED)
    before = draws(batches, range(12))
    batches.excluded = frozenset((which, n) for which in (0, 1) for n in range(0, 24, 2))
    after = draws(batches, range(12))
    assert not set(after) & batches.excluded
    kept = [(a, b) for a, b in zip(before, after, strict=True) if a not in batches.excluded]
    assert all(a == b for a, b in kept), "the other pairs stay where they were"
    assert [which for which, _ in after] == [which for which, _ in before]


# A batch


def test_a_batch_depends_on_nothing_but_its_step(manifests):
    batches = PairBatches(manifests, CHANGED, SEED)
    expected = batches[7]
    assert_equal_batches(batches[7], expected)
    fresh = PairBatches(manifests, CHANGED, SEED)
    for step in (0, 11, 7):
        found = fresh[step]
    assert_equal_batches(found, expected)
    with pytest.raises(AssertionError):
        assert_equal_batches(batches[8], expected)


def test_worker_processes_change_nothing(manifests):
    batches = PairBatches(manifests, CHANGED, SEED)
    inline = list(load_batches(batches, 2, 8, workers=0))
    ahead = list(load_batches(batches, 2, 8, workers=2))
    assert len(inline) == len(ahead) == 6
    for first, second, step in zip(inline, ahead, range(2, 8), strict=True):
        assert_equal_batches(first, second)
        assert_equal_batches(first, batches[step])


THREADED = """
import sys
import cv2
import numpy as np
import torch
from segswap.training.batches import BatchSettings, PairBatches, load_batches

if __name__ == "__main__":
    # Threads of both libraries run before the workers start.
    cv2.setNumThreads(2)
    torch.set_num_threads(2)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (31, 31), 5)
    torch.randn(500, 500) @ torch.randn(500, 500)
    batches = PairBatches(sys.argv[1:], BatchSettings(2, 2, 0.5, 0.5, 0.5, (4,), 0.5, 0.5), 1)
    print(sum(len(batch.keys) for batch in load_batches(batches, 0, 4, workers=2)))
"""


def test_workers_start_beside_the_threads_of_any_library(manifests):
    """Forked from a process with threads they would wait forever."""
    command = [sys.executable, "-c", THREADED, *map(str, manifests)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "8", done.stderr


def test_workers_map_stored_features_themselves(manifests, stores):
    """What travels to another process is small, whatever the store's size."""
    batches = PairBatches(manifests, PLAIN, SEED, stores)
    assert len(pickle.dumps(stores[0])) < 10_000 + 100 * len(stores[0])
    for inline, ahead in zip(load_batches(batches, 0, 3, 0), load_batches(batches, 0, 3, 1), strict=True):
        assert_equal_batches(ahead, inline)


def test_a_full_shared_memory_ends_the_reading_with_the_key_to_change(manifests):
    loader = load_batches(PairBatches(manifests, PLAIN, SEED), 0, 100, workers=1)
    next(loader)
    for process in multiprocessing.active_children():
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, 4096))  # of files in memory, too
    with pytest.raises(InputError, match=r"/dev/shm may be full.* lower compute.workers; with 0 ") as error:
        list(loader)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_pair_is_named_alike_by_any_process(manifests, tmp_path, workers):
    folder = tmp_path / "1obj"
    shutil.copytree(manifests[0].parent, folder)
    for tar in folder.glob("*.tar"):
        tar.write_bytes(bytes(tar.stat().st_size))
    batches = PairBatches([folder / "manifest.json", manifests[1]], PLAIN, SEED)
    with pytest.raises(InputError, match="is damaged") as error:
        list(load_batches(batches, 0, 2, workers))
    assert "\n" not in str(error.value)


def test_pictures_labels_and_keys_belong_together(manifests):
    batches = PairBatches(manifests, dataclasses.replace(PLAIN, stylise_probability=0.5), SEED)
    styled = 0
    for step in range(4):
        batch = batches[step]
        for n, (which, position) in enumerate(batches.positions(step)):
            pairs = batches.sets[which]
            for side, key in zip((batch.a, batch.b), batch.keys[n], strict=True):
                name = key.removeprefix(f"{pairs.key(position)}.")
                styled += "s." in name
                expected = torch.from_numpy(pairs.picture(position, name)).permute(2, 0, 1)
                assert torch.equal(side.images[n], expected)
            labels = pairs.labels(position)
            np.testing.assert_array_equal(batch.targets.mask_b[n, 0], labels.mask_b)
            np.testing.assert_array_equal(batch.targets.corr_a[n], labels.corr_a)
            assert batch.photos_a[n] == {pairs.photos(position)[0]}
            assert batch.photos_b[n] == set(pairs.photos(position))
    assert 0 < styled < 32, "plain and stylised ones occur"


def test_photometric_changes_have_an_address_of_their_own(manifests):
    """Each step, process and side has others, and all else is as without them."""
    plain, batches = (PairBatches(manifests, settings, SEED) for settings in (AUGMENTED, CHANGED))
    sides = [side for step in (3, 4) for side in (batches[step].a, batches[step].b)]
    sides += [PairBatches(manifests, CHANGED, SEED, rank=1, world_size=2)[3].a]
    drawn = [tuple(side.changes.noise_seed.tolist()) for side in sides]
    assert len(set(drawn)) == 5 and all(len(seeds) == 4 for seeds in drawn)
    a, b = (dataclasses.replace(side, changes=None) for side in sides[:2])
    assert_equal_batches(dataclasses.replace(batches[3], a=a, b=b), plain[3])


def test_probabilities_of_one_and_zero_are_certain(manifests):
    never = PairBatches(manifests, PLAIN, SEED)[0]
    assert not never.warp.any() and not never.hide.any() and not never.swap
    assert all(key.endswith((".a.jpg", ".b.jpg")) for keys in never.keys for key in keys)
    always = dataclasses.replace(
        PLAIN, stylise_probability=1.0, warp_probability=1.0, hide_probability=1.0, swap_probability=1.0
    )
    batch = PairBatches(manifests, always, SEED)[0]
    assert batch.warp.all() and batch.hide.all() and batch.swap
    assert all(a.endswith(".as.jpg") and b.endswith(".bs.jpg") for a, b in batch.keys)
    grids = {PairBatches(manifests, always, SEED)[step].warp_random.shape[1] for step in range(12)}
    assert grids == {16, 36}


def test_stored_features_serve_as_the_pixels_do(manifests, stores, model):
    by_pixels, by_store = PairBatches(manifests, AUGMENTED, SEED), PairBatches(manifests, AUGMENTED, SEED, stores)
    warped = 0
    for step in range(4):
        pixels, stored = by_pixels[step], by_store[step]
        assert pixels.keys == stored.keys
        assert len(pixels.a.images) == 4 and pixels.a.features is None
        assert len(stored.a.images) == 0 and len(stored.a.features) == 4
        assert torch.equal(stored.b.image_rows, stored.warp.nonzero()[:, 0]), "only warped images need pixels"
        warped += len(stored.b.image_rows)
        with torch.no_grad():
            losses = [batch_losses(model, batch, 4, LOSS, on_cpu(model)) for batch in (pixels, stored)]
        assert losses[0].total.item() == pytest.approx(losses[1].total.item(), rel=1e-4)
        assert losses[0].correspondence.item() == pytest.approx(losses[1].correspondence.item(), rel=1e-4)
    assert 0 < warped < 16


# A step


@torch.no_grad()
def test_exchanged_roles_give_the_same_losses(manifests, model):
    batch = PairBatches(manifests, AUGMENTED, SEED)[1]
    there, back = (
        batch_losses(model, dataclasses.replace(batch, swap=swap), 4, LOSS, on_cpu(model)) for swap in (False, True)
    )
    assert there.total.item() == pytest.approx(back.total.item(), rel=1e-5)


@torch.no_grad()
def test_photometric_changes_reach_plain_and_restyled_pictures_alike(manifests, model):
    """The losses are those of pictures that were changed beforehand."""
    settings = dataclasses.replace(CHANGED, warp_probability=0.0)
    batch = PairBatches(manifests, settings, SEED)[1]
    names = {name.split(".")[1] for keys in batch.keys for name in keys}
    assert names == {"a", "as", "b", "bs"}

    def beforehand(side):
        images = 255 * change_pictures(side.images.float() / 255, side.changes)
        return dataclasses.replace(side, images=images, changes=None)

    def losses(batch):
        found = batch_losses(model, batch, 4, LOSS, on_cpu(model))
        return [found.mask.item(), found.correspondence.item()]

    plain = dataclasses.replace(batch, **{s: dataclasses.replace(getattr(batch, s), changes=None) for s in "ab"})
    changed = dataclasses.replace(batch, a=beforehand(batch.a), b=beforehand(batch.b))
    assert losses(batch) == pytest.approx(losses(changed), rel=1e-3)
    assert losses(batch) != pytest.approx(losses(plain), rel=1e-3)


@torch.no_grad()
def test_a_hidden_background_has_no_influence_on_the_correspondences(manifests, stores, model):
    batch = PairBatches(manifests, PLAIN, SEED, stores)[1]
    masks = {name: (getattr(batch.targets, name) > 0.5).float() for name in ("mask_a", "mask_b")}
    batch = dataclasses.replace(batch, targets=dataclasses.replace(batch.targets, **masks))
    noise = torch.nn.functional.normalize(torch.randn(batch.b.features.shape, generator=torch.manual_seed(1)), dim=1)
    changed = torch.where(masks["mask_b"] > 0.5, batch.b.features, noise)
    other = dataclasses.replace(batch, b=dataclasses.replace(batch.b, features=changed))
    for hidden in (True, False):
        hide = torch.full((4,), hidden)
        losses = [
            batch_losses(model, dataclasses.replace(b, hide=hide), 0, LOSS, on_cpu(model)) for b in (batch, other)
        ]
        difference = abs(losses[0].correspondence - losses[1].correspondence).item()
        assert (difference < 1e-6) is hidden


def test_negatives_that_share_a_photo_are_left_out(manifests):
    batch = dataclasses.replace(
        PairBatches(manifests, PLAIN, SEED)[0],
        photos_a=[frozenset([1]), frozenset([2]), frozenset([3]), frozenset([4])],
        photos_b=[frozenset([1, 9]), frozenset([2, 1]), frozenset([3, 8]), frozenset([4, 7])],
    )
    assert unrelated(batch, [0, 1, 2, 3], [1, 2, 3, 0]) == [1, 2, 3]
    assert unrelated(batch, [0, 1], [0, 1]) == []


@torch.no_grad()
def test_left_out_negatives_are_as_if_never_asked_for(manifests, model):
    batch = PairBatches(manifests, PLAIN, SEED)[0]
    same_photo = dataclasses.replace(batch, photos_a=[frozenset([1])] * 4, photos_b=[frozenset([1, 2])] * 4)
    without = batch_losses(model, batch, 0, LOSS, on_cpu(model))
    assert batch_losses(model, same_photo, 4, LOSS, on_cpu(model)).total == without.total
    apart = dataclasses.replace(batch, photos_a=[frozenset([1])] * 4, photos_b=[frozenset([2])] * 4)
    assert batch_losses(model, apart, 4, LOSS, on_cpu(model)).mask != without.mask


# Errors


def test_more_negatives_than_the_positives_make_are_an_error(manifests):
    PairBatches(manifests, dataclasses.replace(PLAIN, negatives=12), SEED)
    with pytest.raises(InputError, match=r"train\.batch\.negatives 13: 4 positives make at most 12"):
        PairBatches(manifests, dataclasses.replace(PLAIN, negatives=13), SEED)


def test_changing_pictures_whose_features_are_stored_is_an_error(manifests, stores):
    with pytest.raises(InputError, match=r"train\.batch\.photometric: .* set train\.store_features to false"):
        PairBatches(manifests, CHANGED, SEED, stores)


def test_a_set_smaller_than_a_batch_is_an_error(manifests):
    with pytest.raises(InputError, match=r"manifest\.json: 24 pairs, fewer than a batch of 25"):
        PairBatches(manifests, dataclasses.replace(PLAIN, positives=25), SEED)


def test_a_set_without_style_is_an_error_only_where_style_is_asked_for(manifests, tmp_path):
    unstyled = []
    for number, manifest in enumerate(manifests):
        folder = tmp_path / str(number)
        shutil.copytree(manifest.parent, folder)
        for path in folder.glob("*.parquet"):
            table = pq.read_table(path)
            columns = [name for name in table.column_names if not name.endswith(("_as.jpg", "_bs.jpg"))]
            pq.write_table(table.select(columns), path)
        unstyled.append(folder / manifest.name)
    assert len(PairBatches(unstyled, PLAIN, SEED)[0].keys) == 4
    with pytest.raises(InputError, match="made without style; make it with another style"):
        PairBatches(unstyled, AUGMENTED, SEED)


def test_a_damaged_picture_is_an_error_that_names_shard_and_key(manifests, tmp_path):
    folder = tmp_path / "1obj"
    shutil.copytree(manifests[0].parent, folder)
    shard = folder / json.loads((folder / "manifest.json").read_text())["shards"][0]["shard"]
    row = pq.read_table(shard.with_suffix(".parquet")).to_pylist()[3]
    data = bytearray(shard.read_bytes())
    data[row["offset_b.jpg"] : row["offset_b.jpg"] + row["size_b.jpg"]] = bytes(row["size_b.jpg"])
    shard.write_bytes(data)
    batches = PairBatches([folder / "manifest.json", manifests[1]], PLAIN, SEED)
    step = next(step for step in range(12) if (0, 3) in batches.positions(step))
    with pytest.raises(InputError, match=rf"{shard.name}: member {row['key']}\.b\.jpg is damaged"):
        batches[step]
