"""The recipe of a pair: every random choice, drawn from an address, enough to render the pair again.

A pair is a pure function of (seed, kind, index) and of the object table: whatever the shard size, the number
of workers, the order or the machine (paper section 3.1; choices as in the shared specification of the pairs).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from segswap.pairs.objects import ObjectTable
from segswap.versions import RECIPE

RECIPE_VERSION = RECIPE
"""Meaning of a recipe's fields and of the order of its draws; changes with either."""

KINDS = ("1obj", "2obj")

_SEPARATOR = "; "

# Boxes (x1, y1, x2, y2) of the two objects, in units of half the target's side; "-" and "+" are one cell
# before and after the middle. All 16 are equally likely.
_LAYOUTS = (
    ("0 0 m -", "0 + m S"),
    ("0 0 - -", "+ + S S"),
    ("0 0 - m", "+ 0 S m"),
    ("0 0 m -", "0 + S S"),
    ("0 0 - m", "+ 0 S S"),
    ("0 m - S", "+ m S S"),
    ("0 + - S", "+ 0 S -"),
    ("0 + m S", "0 0 S -"),
    ("0 m - S", "+ 0 S S"),
    ("m + S S", "m 0 S -"),
    ("m + S S", "0 0 S -"),
    ("+ m S S", "0 0 - S"),
    ("+ 0 S m", "0 0 - S"),
    ("m 0 S -", "0 + S S"),
    ("0 0 S -", "0 + S S"),
    ("0 0 - S", "+ 0 S S"),
)


def layout_boxes(layout: int, size: int) -> tuple[tuple[int, int, int, int], ...]:
    """Return the target boxes (x1, y1, x2, y2), in pixels, of the objects of a two-object layout (0 to 15)."""
    half, cell = size // 2, 16
    value = {"0": 0, "-": half - cell, "m": half, "+": half + cell, "S": size}
    return tuple(tuple(value[symbol] for symbol in box.split()) for box in _LAYOUTS[layout])


@dataclasses.dataclass(frozen=True)
class PairSettings:
    """How pairs are made; the defaults of the configuration are the published values.

    Attributes:
        size: side of both images in pixels, a multiple of 16.
        dilation: city-block distance in pixels, at the photo's own size, by which masks grow.
        crop_probability: chance that a one-object source is cut at the object's nearest border.
        stretch: bounds of the independent scalings of width and height.
        rotation: largest rotation in degrees, both ways.
        fit_steps: number of sizes relative to the largest that fits, evenly spaced up to 1.
        fit_decay: size k has a probability proportional to exp(-k / fit_decay).
        fit_min: smallest of these sizes, by kind.
        min_cells: smallest sum of each final mask, in cells.
        max_attempts: draws for one pair before it is an error.
        blending: how objects are put into the target, ``poisson`` or ``paste``.
    """

    size: int
    dilation: int
    crop_probability: float
    stretch: Sequence[float]
    rotation: float
    fit_steps: int
    fit_decay: float
    fit_min: dict[str, float]
    min_cells: float
    max_attempts: int
    blending: str = "poisson"


@dataclasses.dataclass(frozen=True)
class Placement:
    """One object's way into the target.

    Attributes:
        annotation_id: the object, in the object table.
        stretch_x, stretch_y: scalings of the square source.
        angle: rotation in degrees, counter-clockwise as seen.
        fit: size relative to the largest that fits the box.
        position_x, position_y: place within the room that is left, 0 (left, top) to 1.
    """

    annotation_id: int
    stretch_x: float
    stretch_y: float
    angle: float
    fit: float
    position_x: float
    position_y: float


@dataclasses.dataclass(frozen=True)
class PairRecipe:
    """Every random choice of a pair.

    Attributes:
        version: ``RECIPE_VERSION`` at drawing.
        seed, kind, index: the pair's address.
        source_image_id, target_image_id: photos, in the object table.
        crop: whether the source photo is cut at the object's nearest border (one object only).
        layout: 0 to 15 for two objects, -1 for one.
        placements: one per object.
        rejected: reasons of the draws before this one, in order.
    """

    version: int
    seed: int
    kind: str
    index: int
    source_image_id: int
    target_image_id: int
    crop: bool
    layout: int
    placements: tuple[Placement, ...]
    rejected: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The sample key in the shards, for example ``1obj-00000042``."""
        return pair_key(self.kind, self.index)

    def to_flat(self) -> dict[str, Any]:
        """Return the recipe as a flat dictionary of one type per key: lists hold one value per object, never none.

        An empty list has no type: readers that take types from the first samples (Hugging Face ``datasets``) would
        fail at the first pair with a rejected draw, so the reasons are one text.
        """
        flat = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "placements"}
        flat["rejected"] = _SEPARATOR.join(self.rejected)
        for field in dataclasses.fields(Placement):
            flat[field.name] = [getattr(p, field.name) for p in self.placements]
        return flat

    @classmethod
    def from_flat(cls, flat: dict[str, Any]) -> PairRecipe:
        """Rebuild a recipe from ``to_flat``'s dictionary; other keys are ignored.

        Raises:
            ValueError: when the recipe has another version.
        """
        if flat["version"] != RECIPE_VERSION:
            raise ValueError(f"recipe of version {flat['version']}, this program renders version {RECIPE_VERSION}")
        names = [f.name for f in dataclasses.fields(Placement)]
        placements = tuple(
            Placement(**dict(zip(names, values, strict=True)))
            for values in zip(*(flat[name] for name in names), strict=True)
        )
        own = {f.name: flat[f.name] for f in dataclasses.fields(cls) if f.name not in ("placements", "rejected")}
        return cls(**own, placements=placements, rejected=rejected_reasons(flat))


def rejected_reasons(flat: dict[str, Any]) -> tuple[str, ...]:
    """Return the reasons of rejected draws, in order, from ``PairRecipe.to_flat``'s dictionary."""
    return tuple(flat["rejected"].split(_SEPARATOR)) if flat["rejected"] else ()


def pair_key(kind: str, index: int) -> str:
    """Return the sample key of a pair in the shards."""
    return f"{kind}-{index:08d}"


class Rejected(Exception):
    """A draw that makes no usable pair; the message is the reason that is counted."""


def _draw_placement(
    table: ObjectTable, settings: PairSettings, rng: np.random.Generator, kind: str, row: int
) -> Placement:
    sizes = np.linspace(settings.fit_min[kind], 1.0, settings.fit_steps)
    weights = np.exp(-np.arange(settings.fit_steps) / settings.fit_decay)
    stretch_x, stretch_y = rng.uniform(*settings.stretch, 2)
    angle = rng.uniform(-settings.rotation, settings.rotation)
    fit = rng.choice(sizes, p=weights / weights.sum())
    position_x, position_y = rng.uniform(0, 1, 2)
    return Placement(
        annotation_id=table.annotation_of(row),
        stretch_x=float(stretch_x),
        stretch_y=float(stretch_y),
        angle=float(angle),
        fit=float(fit),
        position_x=float(position_x),
        position_y=float(position_y),
    )


def _draw_rows_1obj(table: ObjectTable, rng: np.random.Generator, target_image_id: int) -> list[int]:
    absent = table.categories_absent_from(target_image_id)
    if not len(absent):
        raise Rejected("background holds every category")
    return [int(rng.choice(table.objects_of(int(rng.choice(absent)))))]


def _draw_rows_2obj(table: ObjectTable, rng: np.random.Generator) -> list[int]:
    rows = table.objects_in(int(rng.choice(table.image_ids)))
    categories = np.unique([table.category_of(row) for row in rows])
    if len(categories) < 2:
        raise Rejected("source holds fewer than two categories")
    chosen = rng.choice(categories, 2, replace=False)
    return [int(rng.choice([row for row in rows if table.category_of(row) == category])) for category in chosen]


def draw_recipe(
    table: ObjectTable,
    settings: PairSettings,
    rng: np.random.Generator,
    address: tuple[int, str, int],
    rejected: Sequence[str] = (),
) -> PairRecipe:
    """Draw one recipe; whether its masks are large enough only the geometry tells (``render.make_pair``).

    Args:
        table: the objects.
        settings: how pairs are made.
        rng: the generator of the address; each call goes on where the last one stopped.
        address: (seed, kind, index).
        rejected: reasons of earlier draws of this pair.

    Raises:
        Rejected: when the drawn images offer no objects to choose.
    """
    seed, kind, index = address
    target_image_id = int(rng.choice(table.image_ids))
    if kind == "1obj":
        rows = _draw_rows_1obj(table, rng, target_image_id)
        crop, layout = bool(rng.uniform() < settings.crop_probability), -1
    else:
        rows = _draw_rows_2obj(table, rng)
        crop, layout = False, int(rng.integers(len(_LAYOUTS)))
    return PairRecipe(
        version=RECIPE_VERSION,
        seed=seed,
        kind=kind,
        index=index,
        source_image_id=table.image_of(rows[0]),
        target_image_id=target_image_id,
        crop=crop,
        layout=layout,
        placements=tuple(_draw_placement(table, settings, rng, kind, row) for row in rows),
        rejected=tuple(rejected),
    )
