"""The search: a prefilter by alike regions, then the matcher on the shortlist, then what the scores mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from segswap.drawing import spread_cells
from segswap.errors import InputError
from segswap.matching.crops import Box, box_cells, scaled_box
from segswap.matching.details import direct_box, query_weights, target_masks
from segswap.matching.features import images_to_tensor
from segswap.matching.score import joint_mask, score_pairs
from segswap.models.segswap import SegSwap
from segswap.progress import progress
from segswap.randomness import generator
from segswap.sampling import cell_centres
from segswap.search.calibration import negatives_needed, p_values, threshold
from segswap.search.index import Index
from segswap.search.prefilter import most_alike, query_descriptors, similarities
from segswap.search.query import Query

_LINES = 16


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """How to search.

    Attributes:
        shortlist: pictures that are matched, the most alike ones; 0: all.
        negatives: pictures without the query that scores are compared with.
        false_positives: share of pictures without the query that may come out above the threshold, in (0, 1).
        keep_self: whether a picture with the same bytes as the query's takes part.
        seed: of the choice of negatives.
        batch: pairs that are matched at once.
    """

    shortlist: int = 100
    negatives: int = 200
    false_positives: float = 0.01
    keep_self: bool = False
    seed: int = 1
    batch: int = 32

    def checked(self) -> SearchSettings:
        """Return these settings; raise ``InputError`` where one is out of range."""
        wrong = {
            f"--shortlist {self.shortlist}: expected 0 (all) or more": self.shortlist < 0,
            f"--negative-count {self.negatives}: expected 0 (none) or more": self.negatives < 0,
            f"--false-positives {self.false_positives:g}: expected a share above 0 and below 1": (
                not 0 < self.false_positives < 1
            ),
        }
        for message, is_wrong in wrong.items():
            if is_wrong:
                raise InputError(message)
        return self


@dataclasses.dataclass(frozen=True)
class Hit:
    """A picture that may hold the query.

    Attributes:
        image, number: its name and number in the index.
        score: directed pair score, query to picture, 0 or more.
        similarity: by which it was shortlisted, in [-1, 1].
        p_value: share of pictures without the query that score as high, in (0, 1]; None without negatives.
        above: whether the p-value is at most ``false_positives``; None where no threshold can be given.
        box: where the query lies in it, in its pixels; zeros where nothing matches.
        mask: the same as float32 (h, w) in [0, 1], on its cells.
        lines: cells that correspond, float32 (n, 4): normalised (x, y) in the query's crop and in the picture.
        is_query: whether its file has the same bytes as the query's.
    """

    image: str
    number: int
    score: float
    similarity: float
    p_value: float | None
    above: bool | None
    box: Box
    mask: np.ndarray
    lines: np.ndarray
    is_query: bool


@dataclasses.dataclass(frozen=True)
class Result:
    """What a search has found.

    Attributes:
        query: that was searched.
        hits: all of the shortlist, best score first (ties by name).
        threshold: the smallest score that a picture which is not among the negatives needs; None: see ``remark``.
        negatives: how many there were.
        left_out: pictures that are the query's own, and took no part.
        remark: why there is no threshold, and what to do; empty where there is one.
    """

    query: Query
    hits: list[Hit]
    threshold: float | None
    negatives: int
    left_out: tuple[str, ...]
    remark: str


def search(
    index: Index, model: SegSwap, query: Query, settings: SearchSettings, negatives: Index | None = None
) -> Result:
    """Search one query; see ``search_all``."""
    return next(search_all(index, model, [query], settings, negatives))


@torch.inference_mode()
def search_all(
    index: Index,
    model: SegSwap,
    queries: Iterable[Query],
    settings: SearchSettings,
    negatives: Index | None = None,
    show_progress: bool = True,
) -> Iterator[Result]:
    """Search queries in an index, one result each, in order.

    Args:
        index: of the pictures to search.
        model: in evaluation mode, with the backbone of the index.
        queries: each is asked for when it is needed.
        negatives: index of pictures that do not hold the queries; None: a sample of the index itself, shortlisted
            pictures or not, takes their place. The few of them that do hold a query make p-values larger, and so err
            on the safe side; a picture among them is compared with the others.
        show_progress: of the batches of each query.

    Raises:
        InputError: when a setting is out of range.
    """
    settings.checked()
    device = next(model.parameters()).device
    for query in queries:
        features = model.features(images_to_tensor([query.crop], device))
        weight = query_weights(features, [query.cells], model.matcher)
        asked = _Asked(model, query, features, weight, settings.batch, show_progress)
        yield _search_one(index, asked, settings, negatives)


def _search_one(index: Index, asked: _Asked, settings: SearchSettings, negatives: Index | None) -> Result:
    similarity = similarities(asked.descriptors(), index.descriptors)
    everything = np.arange(len(index))
    own = index.copies(asked.query.file)
    others = np.setdiff1d(everything, own)
    shortlist = most_alike(similarity, everything if settings.keep_self else others, settings.shortlist)
    found = list(asked.hits(index, shortlist, similarity, own))
    if negatives is None:
        place, eligible, scores = index, others, {hit.number: hit.score for hit in found}
    else:
        place, scores = negatives, {}
        eligible = np.setdiff1d(np.arange(len(negatives)), negatives.copies(asked.query.file))
    sample = generator(settings.seed, "search", "negatives").permutation(eligible)[: settings.negatives]
    missing = np.array([number for number in sample if number not in scores], int)
    scores |= dict(zip(missing.tolist(), asked.scores(place, missing), strict=True))
    against = np.array([scores[number] for number in sample])
    among = set(sample.tolist()) if negatives is None else set()
    limit = threshold(against, settings.false_positives)
    hits = []
    for hit in sorted(found, key=lambda hit: (-hit.score, hit.image)):
        # A picture among the negatives is judged by the others: else it would be one as high as itself.
        rest = against[sample != hit.number] if hit.number in among else against
        p_value = float(p_values(np.array([hit.score]), rest)[0]) if len(rest) else None
        above = None if limit is None else p_value is not None and p_value <= settings.false_positives
        hits.append(dataclasses.replace(hit, p_value=p_value, above=above))
    left_out = () if settings.keep_self else tuple(index.names[number] for number in own)
    return Result(asked.query, hits, limit, len(against), left_out, _remark(limit, len(against), settings))


def _remark(limit: float | None, count: int, settings: SearchSettings) -> str:
    if limit is not None:
        return ""
    needed = negatives_needed(settings.false_positives)
    return (
        f"no threshold: a false-positive rate of {settings.false_positives:g} needs at least {needed} pictures without "
        f"the query to compare with, there are {count}; give a folder of such pictures with --negatives, or a larger "
        "--false-positives"
    )


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A query with its features and weight, to be matched with pictures of an index."""

    model: SegSwap
    query: Query
    features: torch.Tensor
    weight: torch.Tensor
    batch: int
    show_progress: bool

    def descriptors(self) -> torch.Tensor:
        """Return the descriptors of the windows of its box, (P, C)."""
        return query_descriptors(self.features, box_cells(self.query.crop_box))

    def _matched(self, index: Index, numbers: np.ndarray, what: str) -> Iterator[tuple]:
        """Match some pictures at a time: their numbers, both outputs, and scores."""
        starts = range(0, len(numbers), self.batch)
        for start in progress(starts, f"{what} (batches)") if self.show_progress and len(starts) else starts:
            some = numbers[start : start + self.batch]
            y = index.features.read(some).to(self.features.device)
            x, weight = (t.expand(len(some), -1, -1, -1) for t in (self.features, self.weight))
            maps_x, maps_y = self.model.matcher(x, y)
            yield some.tolist(), maps_x, maps_y, score_pairs(maps_x, maps_y, x, y, weight).tolist()

    def scores(self, index: Index, numbers: np.ndarray) -> list[float]:
        """Return the scores of pictures."""
        return [score for _, _, _, scores in self._matched(index, numbers, "negatives") for score in scores]

    def hits(self, index: Index, numbers: np.ndarray, similarity: np.ndarray, own: Sequence[int]) -> Iterator[Hit]:
        """Yield pictures as hits, without p-values."""
        for some, maps_x, maps_y, scores in self._matched(index, numbers, "shortlist"):
            joint = joint_mask(maps_x, maps_y, self.weight.expand(len(some), -1, -1, -1))
            masks = target_masks(maps_y, joint)[:, 0].float().cpu().numpy()
            for n, number in enumerate(some):
                box = direct_box(maps_x[n], joint[n, 0], self.query.crop_box)
                yield Hit(
                    image=index.names[number],
                    number=number,
                    score=scores[n],
                    similarity=float(similarity[number]),
                    p_value=None,
                    above=None,
                    box=scaled_box(box, index.sizes[number].tolist()),
                    mask=masks[n],
                    lines=_lines(maps_x[n], joint[n, 0]),
                    is_query=number in own,
                )


def _lines(maps: torch.Tensor, joint: torch.Tensor) -> np.ndarray:
    """Return cells spread over the query's joint mask and where they lie in the picture, float32 (n, 4)."""
    mask = joint.float().cpu().numpy()
    cells = spread_cells(mask / max(float(mask.max()), 1e-6), _LINES)
    ends = [
        centres[:, cells[:, 0], cells[:, 1]].float().cpu().numpy().T
        for centres in (cell_centres(*joint.shape), maps[:2])
    ]
    return np.concatenate(ends, axis=1)
