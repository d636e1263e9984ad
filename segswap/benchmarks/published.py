"""Published results, as plain data, and the measure of this project that each corresponds to.

Numbers are as printed: percent for Brueghel and place recognition, shares for Internet. This project's metrics
are shares everywhere; ``Column.printed`` converts.
"""

from __future__ import annotations

import dataclasses

# The paper's names of what its four models differ in, by this project's.
_SOURCES = {
    "annotations": "COCO segments",
    "segments": "unsupervised segments",
    "both": "COCO and unsupervised segments",
}
_ARCHITECTURES = {"transformer": "transformer", "ncnet": "Nc-Net"}


def repeated_method(source: str, architecture: str) -> str:
    """Return the published method that a model repeats: the name of its row, which is the same in all tables.

    No model of objects of both kinds was published: no table has a row of its name.

    Args:
        source: of the objects in the training pairs: ``annotations``, ``segments`` or ``both``.
        architecture: of the matcher: ``transformer`` or ``ncnet``.

    Raises:
        KeyError: for another source or architecture: it was not published.
    """
    return f"SegSwap, {_SOURCES[source]}, {_ARCHITECTURES[architecture]}"


@dataclasses.dataclass(frozen=True)
class Column:
    """One measure of a table.

    Attributes:
        key: of the measure in the benchmark's metrics.
        heading: of the column.
        percent: whether it is printed in percent; else as a share.
        decimals: digits after the point, as printed.
    """

    key: str
    heading: str
    percent: bool
    decimals: int

    def printed(self, share: float) -> float:
        """Bring a share in [0, 1] to the unit of the table."""
        return 100 * share if self.percent else share

    def text(self, value: float) -> str:
        """Format a value in the unit of the table as the field prints it: 84.4, or .941."""
        formatted = f"{value:.{self.decimals}f}"
        return formatted if self.percent else formatted.removeprefix("0")


@dataclasses.dataclass(frozen=True)
class Row:
    """One method: its numbers in the order of the columns, None where none is published; a note on what is printed."""

    method: str
    values: tuple[float | None, ...]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """The published table of a benchmark."""

    benchmark: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def _rows(text: str, n_columns: int, notes: dict[str, str] | None = None) -> tuple[Row, ...]:
    """Read rows of ``method | number number ...``; a dash is no number."""
    rows = []
    for line in text.strip().splitlines():
        method, numbers = (part.strip() for part in line.split("|"))
        values = tuple(None if value == "-" else float(value) for value in numbers.split())
        if len(values) != n_columns:
            raise ValueError(f"{method}: {len(values)} numbers, the table has {n_columns} columns")
        rows.append(Row(method, values, (notes or {}).get(method, "")))
    return tuple(rows)


_RECALLS = tuple(Column(f"recall@{count}", f"R@{count}", percent=True, decimals=1) for count in (1, 5, 10))

_INTERNET = tuple(
    Column(f"{measure}{suffix}", f"{symbol}, {name}", percent=False, decimals=decimals)
    for suffix, name in (("_Airplane100", "airplane"), ("_Car100", "car"), ("_Horse100", "horse"), ("", "mean"))
    for measure, symbol, decimals in (("precision", "P", 3), ("jaccard", "J", 2))
)

TABLES: dict[str, Table] = {
    table.benchmark: table
    for table in (
        Table(
            "brueghel",
            "Brueghel: one-shot retrieval and detection (IoU > 0.3), mAP in %",
            (
                Column("map", "retrieval", percent=True, decimals=1),
                Column("detection_map_cosine", "detection", percent=True, decimals=1),
            ),
            _rows(
                """
                ArtMiner features + cosine | 75.5 75.3
                ArtMiner features + discovery score | 76.6 76.4
                MoCo v2 + cosine | 79.0 78.7
                MoCo v2 + discovery score | 80.8 79.6
                SegSwap, unsupervised segments, transformer | 81.8 79.4
                SegSwap, unsupervised segments, Nc-Net | 82.8 73.4
                SegSwap, COCO segments, transformer | 84.4 81.8
                SegSwap, COCO segments, Nc-Net | 83.3 73.7
                """,
                2,
                {repeated_method(source, "ncnet"): "in this table printed as Sparse-NcNet" for source in _SOURCES},
            ),
        ),
        Table(
            "tokyo247",
            "Tokyo 24/7: place recognition, recall in %",
            _RECALLS,
            _rows(
                """
                AP-GeM | 40.3 55.6 65.4
                DenseVLAD | 59.4 67.3 72.1
                NetVLAD | 73.3 82.9 86.0
                CRN | 75.2 83.8 87.3
                SARE | 79.7 86.7 90.5
                IBL | 85.4 91.1 93.3
                Patch-NetVLAD (re-rank 100) | 81.9 85.7 87.9
                Patch-NetVLAD + RANSAC | 86.0 88.6 90.5
                SuperGlue (pose and depth supervision) | 88.2 90.2 90.2
                SegSwap, unsupervised segments, transformer | 74.0 82.9 86.0
                SegSwap, unsupervised segments, Nc-Net | 84.1 87.0 88.9
                SegSwap, COCO segments, transformer | 80.0 86.0 87.9
                SegSwap, COCO segments, Nc-Net | 85.4 88.3 89.2
                """,
                3,
            ),
        ),
        Table(
            "pitts30k",
            "Pitts30k-test: place recognition, recall in %",
            _RECALLS,
            _rows(
                """
                AP-GeM | 75.3 89.3 92.5
                DenseVLAD | 77.7 88.3 91.6
                NetVLAD | 86.0 93.2 95.1
                Patch-NetVLAD (re-rank 100) | 88.6 94.5 95.8
                Patch-NetVLAD + RANSAC | 88.7 94.5 95.9
                SuperGlue (pose and depth supervision) | 88.7 95.1 96.4
                SegSwap, unsupervised segments, transformer | 85.2 93.5 95.4
                SegSwap, unsupervised segments, Nc-Net | 86.4 94.3 95.6
                SegSwap, COCO segments, transformer | 84.7 93.5 95.6
                SegSwap, COCO segments, Nc-Net | 86.8 94.4 95.8
                """,
                3,
            ),
        ),
        Table(
            "internet",
            "Internet: co-segmentation, share of pixels right (P) and intersection over union (J)",
            _INTERNET,
            _rows(
                """
                DOCS (strong supervision) | .946 .64 .940 .83 .914 .65 .933 .70
                Sun et al. | .886 .36 .870 .73 .876 .55 .877 .55
                Rubinstein et al. | .880 .56 .854 .64 .828 .52 .827 .43
                Chen et al. [10] | .902 .40 .876 .65 .893 .58 .890 .54
                Quan et al. | .910 .56 .885 .67 .893 .58 .896 .60
                Chang et al. | .726 .27 .759 .36 .797 .36 .761 .33
                Lee et al. | .528 .36 .647 .42 .701 .39 .625 .39
                Jerripothula et al. | .905 .61 .880 .71 .883 .61 .889 .64
                Hsu et al. | .936 .66 .914 .79 .876 .59 .909 .68
                Chen et al. [11] | .941 .65 .940 .82 .922 .63 .935 .70
                SegSwap, unsupervised segments, transformer | .925 .65 .914 .79 .909 .60 .916 .68
                SegSwap, unsupervised segments, Nc-Net | .746 .25 .874 .68 .836 .38 .819 .44
                SegSwap, COCO segments, transformer | .941 .67 .928 .82 .916 .60 .928 .70
                SegSwap, COCO segments, Nc-Net | .655 .23 .857 .61 .873 .43 .795 .42
                """,
                8,
                {"Rubinstein et al.": "means as printed; the columns average to .854 and .57"},
            ),
        ),
    )
}
"""Published tables by benchmark; held-out pairs have none."""


def is_published(method: str) -> bool:
    """Return whether any table has a row of a method."""
    return any(row.method == method for table in TABLES.values() for row in table.rows)


def published_share(benchmark: str, key: str, method: str | None) -> float | None:
    """Return a published number as a share in [0, 1], None where there is none.

    Args:
        benchmark: its name. key: of the measure in the benchmark's metrics.
        method: of a row of the table; None has no number.
    """
    table = TABLES.get(benchmark)
    if table is None:
        return None
    for row in table.rows:
        for column, value in zip(table.columns, row.values, strict=True):
            if row.method == method and column.key == key and value is not None:
                return round(value / 100, 6) if column.percent else value
    return None
