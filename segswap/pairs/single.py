"""Any single pair of a configured set, made from its address alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from segswap import sharing
from segswap.errors import InputError
from segswap.pairs.objects import ObjectTable
from segswap.pairs.recipe import PairSettings
from segswap.pairs.render import Photos, make_pair
from segswap.pairs.shards import StyledPair, stylised_pairs
from segswap.pairs.style import StyleStatistics, Stylist, open_style


@dataclasses.dataclass(frozen=True)
class PairSource:
    """What the pairs of a split are made from: a pair is a function of this, its kind and its index."""

    photos: Photos
    settings: PairSettings
    stylist: Stylist | None
    styles: StyleStatistics | None
    seed: int
    jpeg_quality: int

    def make(self, kind: str, index: int) -> StyledPair:
        """Make one pair: the same as in the shard that holds it, whether that exists or not.

        Raises:
            InputError: when no draw of it is usable.
        """
        pair = make_pair(self.photos, self.settings, self.seed, kind, index)
        return next(stylised_pairs(iter([pair]), self.stylist, self.styles))


def open_source(config: dict[str, Any], split: str, device: str = "auto") -> PairSource:
    """Open what a configured split's pairs are made from: photos, object table, style.

    Args:
        config: a complete configuration. The object table and the style statistics are those that its run uses.
        split: ``train`` or ``heldout``.
        device: torch device, for AdaIN.

    Raises:
        InputError: naming the file that the workflow has not made yet, and the command that makes it.
    """
    table = Path(sharing.objects(config, split).folder, "objects.parquet")
    statistics = Path(sharing.styles(config).folder, "statistics.npz")
    style = config["style"]
    wanted = [table] if style["method"] == "none" else [table, statistics]
    absent = [str(path) for path in wanted if not path.is_file()]
    if absent:
        raise InputError(
            f"{' and '.join(absent)}: not there; make it with `snakemake --cores 1 {' '.join(absent)} --configfile "
            "<the configuration>`, in the folder of the Snakefile"
        )
    return PairSource(
        Photos(ObjectTable.read(table), *sharing.photo_folders(config, split)),
        PairSettings(**sharing.pair_settings(config, split)),
        *open_style(style["method"], statistics, style["vgg"], style["decoder"], device, style["precision"]),
        config["seed"],
        config["pairs"]["jpeg_quality"],
    )
