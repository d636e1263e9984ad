"""The search: windows of all pictures, then the matcher on the best ones, then what the scores mean."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from segswap.errors import InputError
from segswap.images import UnreadableImage, resize
from segswap.matching.crops import Box
from segswap.matching.match import AS_GIVEN, Turn
from segswap.models.segswap import SegSwap
from segswap.progress import progress
from segswap.randomness import generator
from segswap.search.calibration import negatives_needed, p_values, threshold
from segswap.search.cells import projected
from segswap.search.confirm import Confirmed, confirm, query_features
from segswap.search.index import Index
from segswap.search.query import Query
from segswap.search.windows import (
    PLACE_SHARE,
    QUERY_SIDE,
    Window,
    best_score,
    best_window,
    fitted_size,
    further_places,
)

FIRST_LOOK = 500
"""Pictures that are looked at closely; of a larger collection those that a first look likes best."""

FIRST_SIZES = 4
"""Smaller sizes of a picture at which a first look compares it with the query at half its side."""

AGREEMENT_WEIGHT = 0.5
"""Weight of the matcher's agreement beside the window's cosine."""


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """How to search.

    Attributes:
        shortlist: places that are listed, the best ones; 0: those of all pictures.
        matched: of these, how many the matcher looks at; 0: none.
        side: side in pixels of the square of a query's area as the matcher sees it, a multiple of 16.
        turns: versions of the query that are tried.
        negatives: pictures without the query that scores are compared with.
        false_positives: share of pictures without the query that may come out above the threshold, in (0, 1).
        keep_self: whether a picture with the same bytes as the query's takes part.
        seed: of the choice of negatives.
    """

    shortlist: int = 50
    matched: int = 8
    side: int = QUERY_SIDE
    turns: tuple[Turn, ...] = (AS_GIVEN,)
    negatives: int = 200
    false_positives: float = 0.01
    keep_self: bool = False
    seed: int = 1

    def checked(self) -> SearchSettings:
        """Return these settings; raise ``InputError`` where one is out of range."""
        wrong = {
            f"--shortlist {self.shortlist}: expected 0 (all) or more": self.shortlist < 0,
            f"--matched {self.matched}: expected 0 (none) or more": self.matched < 0,
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
    """A place in a picture that may show the query.

    Attributes:
        image, number: name and number of the picture in the index.
        score: the window's, and half of the matcher's agreement where it has looked.
        similarity: the window's score: mean cosine over the query's cells, in [-1, 1].
        agreement: the matcher's, in [0, 1]; None where it has not looked.
        turn: of the query, in the version that was found.
        p_value: share of pictures without the query that score as high, in (0, 1]; None without negatives.
        above: whether the p-value is at most ``false_positives``; None where no threshold can be given.
        box: where the query lies, in pixels of the picture.
        mask: the same on the whole picture, float32 (h, w) in [0, 1]; None where the matcher has not looked.
        lines: cells that correspond, float32 (n, 4): normalised (x, y) in the query's region and in the picture.
        is_query: whether the picture's file has the same bytes as the query's.
    """

    image: str
    number: int
    score: float
    similarity: float
    agreement: float | None
    turn: Turn
    p_value: float | None
    above: bool | None
    box: Box
    mask: np.ndarray | None
    lines: np.ndarray
    is_query: bool


@dataclasses.dataclass(frozen=True)
class Result:
    """What a search has found.

    Attributes:
        query: that was searched.
        hits: best score first (ties by name); one picture may have several.
        searched: pictures that took part.
        threshold: the smallest score that a picture which is not among the negatives needs; None: see ``remark``.
        negatives: how many there were.
        left_out: pictures that are the query's own, and took no part.
        remark: why there is no threshold, and what to do; empty where there is one.
    """

    query: Query
    hits: list[Hit]
    searched: int
    threshold: float | None
    negatives: int
    left_out: tuple[str, ...]
    remark: str

    @property
    def matched(self) -> int:
        """The number of hits that the matcher has looked at."""
        return sum(hit.agreement is not None for hit in self.hits)


def search(
    index: Index, model: SegSwap, query: Query, settings: SearchSettings, negatives: Index | None = None
) -> Result:
    """Search one query; see ``search_all``."""
    return next(search_all(index, model, [query], settings, negatives))


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
        negatives: index of pictures that do not hold the queries, with the projection of the other one; None: a sample
            of the index itself takes their place. The few of them that do hold a query make p-values larger, and so
            err on the safe side; a picture among them is compared with the others.
        show_progress: of the steps of each query.

    Raises:
        InputError: when a setting is out of range.
    """
    settings.checked()
    if negatives is not None and negatives.projection.key != index.projection.key:
        raise ValueError("the negatives' index has another projection, so that scores do not compare")
    for query in queries:
        versions = _versions(index, model, query, settings.turns, QUERY_SIDE)
        yield _search_one(index, _Asked(model, query, settings, versions, show_progress), negatives)


def _versions(index: Index, model: SegSwap, query: Query, turns: Sequence[Turn], side: int) -> list[torch.Tensor]:
    """Return the cells of a query's versions, as large as a square of ``side`` pixels, float32 (h, w, K) each."""
    fitted = resize(query.detail, fitted_size(query.detail.shape[1::-1], side))
    return [projected(model, index.projection, turn.apply(fitted)) for turn in turns]


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A query, ready to be compared with windows and by the matcher."""

    model: SegSwap
    query: Query
    settings: SearchSettings
    versions: list[torch.Tensor]
    show_progress: bool

    def windows(self, index: Index, numbers: np.ndarray) -> dict[int, Window]:
        """Return the best window of pictures, by number; of many, those that a first look likes best."""
        if len(numbers) > FIRST_LOOK:
            numbers = numbers[np.argsort(-self._first_look(index, numbers), kind="stable")[:FIRST_LOOK]]
        return self.close_windows(index, numbers)

    def _first_look(self, index: Index, numbers: np.ndarray) -> np.ndarray:
        """Return a rough score of each picture, (n,): the query is half as large, the pictures have smaller sizes."""
        halves = _versions(index, self.model, self.query, self.settings.turns, QUERY_SIDE // 2)
        scores = []
        for number in self._shown(numbers, "first look (pictures)"):
            levels = index.levels(number, FIRST_SIZES)
            # A query that fills more than half of a picture's sides is compared as a whole, with the first size.
            small = levels.first(1)
            rough = [best_score(levels, half) for half in halves]
            scores.append(max(rough + [best_score(small, whole) for whole in self.versions]))
        return np.array(scores)

    def close_windows(self, index: Index, numbers: Sequence[int] | np.ndarray) -> dict[int, Window]:
        """Return the best window of each picture, by number."""
        shown = self._shown(numbers, "windows (pictures)")
        return {int(n): best_window(int(n), index.size(n), index.levels(n), self.versions) for n in shown}

    def shortlist(self, index: Index, windows: dict[int, Window]) -> list[Window]:
        """Return the best places, best first: the best window of each picture, and further ones that are as good."""
        # A picture's further places are below its best: of pictures that are not listed themselves, none would be.
        found = self._listed(index, windows.values())
        least = PLACE_SHARE * max((window.score for window in found), default=0.0)
        for window in [window for window in found if window.score >= least > 0]:
            number = window.picture
            found += further_places(window, index.size(number), index.levels(number), self.versions, least)
        return self._listed(index, found)

    def _listed(self, index: Index, windows: Iterable[Window]) -> list[Window]:
        """Return as many of the windows as are listed, best first (ties by name)."""
        ordered = sorted(windows, key=lambda window: (-window.score, index.names[window.picture]))
        return ordered[: self.settings.shortlist or None]

    def confirmed(self, places: Sequence[tuple[Index, Window]]) -> dict[tuple[Index, Window], Confirmed]:
        """Return what the matcher says of windows; of pictures that have gone since, nothing."""
        features = query_features(self.model, self.query.detail, self.settings.side, self.settings.turns)
        found = {}
        for index, window in self._shown(places, "matched (windows)"):
            turn = self.settings.turns[window.version]
            with contextlib.suppress(UnreadableImage):
                picture = index.read(window.picture)
                found[index, window] = confirm(self.model, {turn: features[turn]}, picture, window, self.settings.side)
        return found

    def _shown(self, items: Sequence[Any] | np.ndarray, what: str) -> Iterable[Any]:
        return progress(items, what) if self.show_progress and len(items) else items


@torch.inference_mode()
def _search_one(index: Index, asked: _Asked, negatives: Index | None) -> Result:
    settings = asked.settings
    own = index.copies(asked.query.file)
    others = np.setdiff1d(np.arange(len(index)), own)
    windows = asked.windows(index, np.arange(len(index)) if settings.keep_self else others)
    listed = asked.shortlist(index, windows)

    if negatives is None:
        judges, known, eligible = index, windows, others
    else:
        judges, known = negatives, {}
        eligible = np.setdiff1d(np.arange(len(negatives)), negatives.copies(asked.query.file))
    sample = generator(settings.seed, "search", "negatives").permutation(eligible)[: settings.negatives].tolist()
    known = known | asked.close_windows(judges, [number for number in sample if number not in known])

    # Pictures without the query go the same way as those that may hold it: the matcher looks at the best of all.
    places = {(index, window) for window in listed} | {(judges, known[number]) for number in sample}
    best = sorted(places, key=lambda place: (-place[1].score, place[0] is judges, place[0].names[place[1].picture]))
    confirmed = asked.confirmed(best[: settings.matched])

    against = {number: _score(known[number], confirmed.get((judges, known[number]))) for number in sample}
    limit = threshold(np.array(list(against.values())), settings.false_positives)
    hits = []
    for window in listed:
        hit = _hit(index, asked, window, confirmed.get((index, window)), window.picture in own)
        # A picture among the negatives is judged by the others: else one would always score as high, itself.
        others_scores = [score for number, score in against.items() if negatives is not None or number != hit.number]
        hits.append(_judged(hit, others_scores, limit, settings.false_positives))
    left_out = () if settings.keep_self else tuple(index.names[number] for number in own)
    return Result(
        query=asked.query,
        hits=sorted(hits, key=lambda hit: (-hit.score, hit.image)),
        searched=len(index) - len(left_out),
        threshold=limit,
        negatives=len(against),
        left_out=left_out,
        remark=_remark(limit, len(against), settings),
    )


def _score(window: Window, confirmed: Confirmed | None) -> float:
    return window.score + (AGREEMENT_WEIGHT * confirmed.agreement if confirmed else 0.0)


def _hit(index: Index, asked: _Asked, window: Window, confirmed: Confirmed | None, is_query: bool) -> Hit:
    """Return a window as a hit, not yet judged."""
    turn = asked.settings.turns[window.version]
    return Hit(
        image=index.names[window.picture],
        number=window.picture,
        score=_score(window, confirmed),
        similarity=window.score,
        agreement=confirmed.agreement if confirmed else None,
        turn=turn,
        p_value=None,
        above=None,
        box=_box(window, turn.apply(asked.query.detail).shape[1::-1], index.size(window.picture)),
        mask=confirmed.mask if confirmed else None,
        lines=confirmed.lines if confirmed else np.zeros((0, 4), np.float32),
        is_query=is_query,
    )


def _box(window: Window, detail: tuple[int, int], size: tuple[int, int]) -> Box:
    """Return a window with the query's own aspect, which no whole number of cells has, cut at the picture's border.

    The window says better where the query lies than the matcher's correspondences do (docs/search.md).

    Args:
        window: to be shown.
        detail, size: (width, height) of the query's version, and of the picture.
    """
    low, high = np.array(window.box).reshape(2, 2)
    half = np.array(detail) * np.sqrt((high - low).prod() / np.prod(detail)) / 2
    corners = np.clip([(low + high) / 2 - half, (low + high) / 2 + half], 0, size)
    return tuple(corners.flatten().tolist())


def _judged(hit: Hit, negatives: Sequence[float], limit: float | None, rate: float) -> Hit:
    """Return a hit with its p-value among the scores of pictures without the query."""
    p_value = float(p_values(np.array([hit.score]), np.array(negatives))[0]) if negatives else None
    above = None if limit is None else p_value is not None and p_value <= rate
    return dataclasses.replace(hit, p_value=p_value, above=above)


def _remark(limit: float | None, count: int, settings: SearchSettings) -> str:
    if limit is not None:
        return ""
    needed = negatives_needed(settings.false_positives)
    return (
        f"no threshold: a false-positive rate of {settings.false_positives:g} needs at least {needed} pictures without "
        f"the query to compare with, there are {count}; give a folder of such pictures with --negatives, or a larger "
        "--false-positives"
    )
