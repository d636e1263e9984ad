"""What trainings are validated by after each epoch: held-out pairs, and, where it is asked for, Brueghel."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import torch

from segswap.benchmarks import brueghel
from segswap.benchmarks.brueghel_matching import score_retrieval
from segswap.benchmarks.metrics import mean_over_categories
from segswap.benchmarks.pairs import metrics
from segswap.benchmarks.pairs_matching import HeldOutPairs, predict
from segswap.benchmarks.pictures import pairs_sheet
from segswap.matching.features import FeatureStore
from segswap.models.segswap import SegSwap
from segswap.training.loop import Validate, Validation

_PICTURED = 8
"""Pairs in the picture of a validation."""


def on_heldout_pairs(
    manifests: Sequence[str | os.PathLike],
    stores: Sequence[str | os.PathLike],
    count: int,
    protocol: str,
    device: torch.device,
) -> Validate:
    """Return a validation on held-out pairs: the numbers of that benchmark, and a sheet of some pairs.

    Args:
        manifests: one- and two-object held-out sets.
        stores: their feature stores.
        count: pairs of each kind.
        protocol: ``corrected`` or ``published``.
        device: where the model is.
    """

    def validate(model: SegSwap) -> Validation:
        heldout = HeldOutPairs.load(manifests, stores, model.backbone, count)
        table = predict(heldout, model.matcher, device, protocol)
        return Validation(metrics(heldout.sets, table), pairs_sheet(heldout.sets, {"SegSwap": table}, _PICTURED))

    return validate


@dataclasses.dataclass(frozen=True)
class BrueghelFiles:
    """What a validation on Brueghel reads.

    Attributes:
        images: folder of the paintings.
        labels: of all queries.
        validation: labels of the queries to validate on, or None: see ``brueghel.validation_queries``.
        database, queries: feature stores.
    """

    images: str
    labels: str
    validation: str | None
    database: str
    queries: str


def and_on_brueghel(
    validate: Validate, files: BrueghelFiles, settings: brueghel.BrueghelSettings, device: torch.device
) -> Validate:
    """Return a validation that adds ``brueghel_map``: retrieval mAP of the validation queries, as published.

    These queries are a part of the benchmark's, so a model that was selected by them has seen some of the test.
    """

    def also(model: SegSwap) -> Validation:
        found = validate(model)
        dataset = brueghel.load(files.images, files.labels)
        queries = FeatureStore(files.queries, model.backbone, brueghel.query_names(dataset))
        database = FeatureStore(files.database, model.backbone, dataset.images)
        chosen = brueghel.validation_queries(dataset, files.validation)
        part, table = score_retrieval(dataset, chosen, queries, database, model.matcher, settings, device)
        mean = mean_over_categories(brueghel.by_category(brueghel.retrieval_results(part, table)))
        return dataclasses.replace(found, numbers={**found.numbers, "brueghel_map": mean})

    return also
