"""What runs share: results that only a part of the configuration decides, each named by a key of that part.

Runs whose configurations agree in that part use the same files, below ``results/shared/<stage>/<name>``. A part names
the parts that it is made from, so its key changes with theirs. How programs run (device, number format chosen by it,
workers) is in no key. Versions of stages (``segswap.versions``) are in none either, but for pairs: a new meaning
replaces the files.

What does depend on a run's own model lies in the run's folder. Where several runs of a study would make the same of it
(a baseline's results), the first of them makes it, and the others use its files: ``calibration``, ``candidate_pairs``
and ``results`` say what decides these.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from segswap import versions
from segswap.errors import InputError
from segswap.files import content_key, is_repository, read_json, write_json

Config = dict[str, Any]
SPLITS = ("train", "heldout")
KINDS = ("1obj", "2obj")
FOLDER = "results/shared"


@dataclasses.dataclass(frozen=True)
class Part:
    """A result that runs may share.

    Attributes:
        stage: kind of result, the name of a folder.
        title: beginning of its name, for people; letters, digits, ``_``, ``.`` and ``-``.
        settings: everything that decides it, a JSON object.
    """

    stage: str
    title: str
    settings: Config

    @property
    def name(self) -> str:
        """The title and a key of the settings."""
        return f"{self.title}-{content_key([self.stage, self.settings])[:10]}"

    @property
    def folder(self) -> str:
        """Where its files lie, relative to the working folder."""
        return str(PurePosixPath(FOLDER, self.stage, self.name))


def source_tables(config: Config, split: str) -> list[Part]:
    """The object table of each source that a split lists; none where it has one source, which it does not list."""
    return [_source_table(config["objects"], source) for source in config["objects"][split].get("sources", [])]


def _source_table(section: Config, source: Config) -> Part:
    kind, bad = source["source"], section["max_bad_share"]
    read = _described(source)
    if kind == "segments":
        return Part("objects", kind, {**read, "settings": {**section["segments"], "max_bad_share": bad}})
    areas = {key: section[key] for key in ("min_area_share", "max_area_share")}
    # A frame that is not given goes without saying, as before there was another.
    frame = {key: source[key] for key in ("frame",) if key in source}
    return Part("objects", kind, {**read, "settings": {**areas, "max_bad_share": bad, **frame}})


def _described(source: Config) -> Config:
    """Return the files and folders that a source reads, in one order whatever the configuration's: text is compared."""
    read = ("images",) if source["source"] == "segments" else ("annotations", "labels", "names", "images")
    return {key: source[key] for key in read if key in source}


def objects(config: Config, split: str) -> Part:
    """The object table of a split: of its one source, or joined from those that it lists.

    Joined training objects are of other photos than the held-out ones, so they depend on them.
    """
    section = config["objects"]
    data = section[split]
    tables = source_tables(config, split)
    if not tables:
        return _source_table(section, data)
    settings: Config = {
        "sources": [{"source": source["source"], **_described(source)} for source in data["sources"]],
        "tables": [table.name for table in tables],
    }
    if split == "train":
        settings["heldout"] = {"table": objects(config, "heldout").name, "images": photo_folders(config, "heldout")}
    return Part("objects", "joined", settings)


def photo_folders(config: Config, split: str) -> list[str]:
    """Return the folders of a split's photos: of its one source, or of all in order (``pairs.sources.photo_path``)."""
    data = config["objects"][split]
    return [source["images"] for source in data.get("sources") or [data]]


def _images(config: Config, split: str) -> str | list[str]:
    """Return the folders of a split's photos; one alone is described as it was before there could be several."""
    folders = photo_folders(config, split)
    return folders[0] if len(folders) == 1 else folders


def origin_of_objects(config: Config, split: str) -> str:
    """Return where a split's objects come from: ``annotations`` in any format, ``segments``, or ``both``."""
    data = config["objects"][split]
    found = {source["source"] == "segments" for source in data.get("sources") or [data]}
    return "both" if len(found) == 2 else "segments" if found == {True} else "annotations"


def styles(config: Config) -> Part:
    """The statistics of the style images, or what says that there are none."""
    section = config["style"]
    used = {"adain": ("folder", "vgg", "decoder"), "reinhard": ("folder",), "none": ()}[section["method"]]
    return Part("styles", section["method"], {"method": section["method"], **{key: section[key] for key in used}})


def pair_settings(config: Config, split: str) -> Config:
    """Return how the pairs of a split are made: the fields of ``segswap.pairs.recipe.PairSettings``."""
    other = ("train", "heldout", "pairs_per_shard", "jpeg_quality", "gallery", "blending")
    settings = {key: value for key, value in config["pairs"].items() if key not in other}
    return {**settings, "blending": config["pairs"]["blending"][split]}


def pairs(config: Config, split: str, kind: str) -> Part:
    """A set of pairs. Splits with equal settings would share it: what tells them apart is their photos.

    Its key holds the versions of its making. The manifest does not depend on the times of its shards, and Snakemake
    takes no notice of a changed parameter where such an input is made anew.
    """
    section = config["pairs"]
    settings = {
        "objects": objects(config, split).name,
        "images": _images(config, split),
        "max_bad_share": config["objects"]["max_bad_share"],
        "styles": styles(config).name,
        "settings": pair_settings(config, split),
        "pairs": section[split][kind],
        "pairs_per_shard": section["pairs_per_shard"],
        "jpeg_quality": section["jpeg_quality"],
        "seed": config["seed"],
        "version": [versions.RECIPE, versions.PAIRS],
    }
    if config["style"]["method"] == "adain":
        settings["precision"] = config["style"]["precision"]
    return Part("pairs", kind, settings)


def backbone(config: Config) -> Part:
    """The frozen backbone: its weights are given, or trained on the training pairs."""
    section = config["backbone"]
    trunk = {key: section[key] for key in ("architecture", "width", "projection", "taps") if key in section}
    if section["weights"] != "pretrain":
        return Part("backbones", section["architecture"], {"trunk": trunk, "weights": section["weights"]})
    settings = {
        "trunk": trunk,
        "pretrain": section["pretrain"],
        "pairs": [pairs(config, "train", kind).name for kind in KINDS],
        "seed": config["seed"],
    }
    return Part("backbones", "pretrained", settings)


def backbone_weights(part: Part) -> str:
    """Return the file of a backbone's weights: the one that is given, or one in the part's folder.

    The workflow makes the second: it trains it, or fetches it where a package or the Hugging Face hub has it.
    """
    given = part.settings.get("weights")
    is_made = given is None or given == "package" or is_repository(given)
    return f"{part.folder}/backbone.pt" if is_made else given


def matcher_settings(config: Config) -> Config:
    """Return what is trained on the features: the settings of its architecture, and which that is.

    A transformer goes without saying: how it is described, and with it what was trained, is as it was before there
    was another architecture.
    """
    architecture = config["model"]["architecture"]
    named = {} if architecture == "transformer" else {"architecture": architecture}
    return {**named, **config[architecture]}


def pair_features(config: Config, split: str, kind: str) -> Part:
    """The features of a set's pictures: of all pairs, or of the first ``limit`` where no more are needed."""
    train = config["train"]
    if split == "train":
        limit = None if train["store_features"] else train["validation_pairs"]
    else:
        limit = max(train["validation_pairs"], config["benchmarks"]["pairs"]["limit"])
    settings = {"pairs": pairs(config, split, kind).name, "backbone": backbone(config).name, "limit": limit}
    return Part("pair_features", kind, settings)


PLANTED_PROTOCOL = ("image_size", "query_size", "box_scales", "thresholds")


def planted(config: Config) -> Part:
    """Paintings with planted details."""
    section = config["benchmarks"]["planted"]
    read = {k: v for k, v in section.items() if k not in (*PLANTED_PROTOCOL, "paintings", "chunks")}
    settings = {
        "objects": objects(config, "heldout").name,
        "images": _images(config, "heldout"),
        "paintings": section["paintings"] or config["style"]["folder"],
        "styles": styles(config).name,
        "settings": {**read, "dilation": config["pairs"]["dilation"]},
        "seed": config["seed"],
    }
    if config["style"]["method"] == "adain":
        settings["precision"] = config["style"]["precision"]
    return Part("planted", "planted", settings)


def has_altered(config: Config) -> bool:
    """Return whether there are pictures for the benchmark of altered details."""
    return bool(config["benchmarks"].get("altered", {}).get("pictures"))


def altered(config: Config) -> Part:
    """The queries of altered details.

    Raises:
        InputError: when the configuration names no pictures for them.
    """
    if not has_altered(config):
        raise InputError(
            "benchmarks.altered.pictures: is not set; the benchmark 'altered' cuts details out of the pictures of a "
            "folder, name one there"
        )
    section = config["benchmarks"]["altered"]
    settings = {
        "pictures": section["pictures"],
        "hosts": [section["hosts"]] if section["hosts"] else photo_folders(config, "heldout"),
        "settings": {key: section[key] for key in ("details", "share")},
        "seed": config["seed"],
    }
    return Part("altered", "altered", settings)


def altered_index(config: Config) -> Part:
    """The index in which altered details are searched."""
    pictures = altered(config).settings["pictures"]
    return Part("indexes", "altered", {"pictures": pictures, "backbone": backbone(config).name})


def sift(config: Config) -> Part:
    """What SIFT gives on altered details."""
    queries = altered(config)
    return Part("sift", "altered", {"pictures": queries.settings["pictures"], "queries": queries.name})


def details_data(config: Config, benchmark: str) -> Config:
    """Return the paintings and the labels of a benchmark of details in paintings."""
    if benchmark == "planted":
        folder = planted(config).folder
        return {"images": f"{folder}/images", "labels": f"{folder}/labels.json"}
    return {key: config["benchmarks"]["brueghel"][key] for key in ("images", "labels")}


def details_protocol(config: Config, benchmark: str, unread: tuple[str, ...] = ()) -> Config:
    """Return the protocol of a benchmark of details in paintings.

    Lists that a stage does not read are left empty: a change of them must not run it again.
    """
    section = config["benchmarks"][benchmark]
    read = {key: [] if key in unread else section[key] for key in PLANTED_PROTOCOL}
    return {**read, "protocol": config["protocol"]}


def details_features(config: Config, benchmark: str) -> Part:
    """The features of paintings and queries."""
    settings = {
        **details_data(config, benchmark),
        "protocol": details_protocol(config, benchmark, ("box_scales", "thresholds")),
        "backbone": backbone(config).name,
    }
    return Part("details", benchmark, settings)


def places(config: Config, benchmark: str) -> Part:
    """The first ranking of a place recognition data set and the features of queries and candidates."""
    section = {key: value for key, value in config["benchmarks"][benchmark].items() if key != "chunks"}
    folder, files = section.pop("folder"), section.pop("files")
    settings = {
        "folder": folder,
        "files": files,
        "settings": {**section, "protocol": config["protocol"]},
        "backbone": backbone(config).name,
    }
    return Part("places", benchmark, settings)


def collection_features(config: Config, task: str, collection: str) -> Part:
    """The list of a collection's images, and their features."""
    section = config["benchmarks"][task]
    if task == "internet":
        data = {"folder": section["folder"], "class": collection}
    else:
        paintings = config["benchmarks"]["brueghel"]
        data = {"folder": paintings["images"], "labels": paintings["labels"]}
    settings = {"image_size": section["image_size"], "flip": section["flip"], "backbone": backbone(config).name}
    return Part("collections", f"{task}-{collection}", {**data, **settings})


def collections(config: Config, task: str) -> list[str]:
    """Return the names of the collections of a task: the classes of Internet, or the paintings."""
    return config["benchmarks"]["internet"]["classes"] if task == "internet" else ["paintings"]


DETAILS = ("brueghel", "planted")
PLACES = ("tokyo247", "pitts30k", "own_places")
COLLECTIONS = ("internet", "discovery")


MATCHERS = ("trained", "untrained", "baseline")


def calibration(config: Config) -> Config:
    """Return everything that decides the threshold of the cosine baseline."""
    return {
        "backbone": backbone(config).name,
        "pairs": [pairs(config, "train", kind).name for kind in KINDS],
        "number": config["train"]["validation_pairs"],
    }


def candidate_pairs(config: Config, task: str, collection: str) -> Config:
    """Return everything that decides which image pairs of a collection are matched."""
    section = config["benchmarks"][task]
    features = collection_features(config, task, collection).name
    return {"features": features, "candidates": section["candidates"], "windows": section["windows"]}


def results(config: Config, matcher: str, benchmark: str) -> Config:
    """Return everything that decides what a matcher gives on a benchmark, its predictions and its numbers.

    Runs of one study in which these values are equal have equal results.

    Args:
        matcher: of ``MATCHERS``; what is trained is the run's own.
        benchmark: ``pairs``, ``altered``, or one of ``DETAILS``, ``PLACES`` and ``COLLECTIONS``.

    Raises:
        InputError: when the benchmark is ``altered`` and has no pictures.
    """
    features = _benchmark_features(config, benchmark)
    decided_by = {"trained": _trained, "untrained": _untrained, "baseline": calibration}
    # How many jobs share the work changes nothing, and labels of `validation` are read by trainings only.
    section = {k: v for k, v in config["benchmarks"][benchmark].items() if k not in ("chunks", "validation")}
    return {
        "matcher": decided_by[matcher](config),
        "features": [part.name for part in features],
        "settings": section,
        "protocol": config["protocol"],
    }


def _trained(config: Config) -> Config:
    return {"run": config["run"]}


def _untrained(config: Config) -> Config:
    return {"backbone": backbone(config).name, "matcher": matcher_settings(config), "seed": config["seed"]}


def _benchmark_features(config: Config, benchmark: str) -> list[Part]:
    """Return the features that a benchmark matches; their settings name its data."""
    if benchmark in DETAILS:
        return [details_features(config, benchmark)]
    if benchmark == "altered":
        return [altered(config), altered_index(config)]
    if benchmark in PLACES:
        return [places(config, benchmark)]
    if benchmark in COLLECTIONS:
        return [collection_features(config, benchmark, name) for name in collections(config, benchmark)]
    return [pair_features(config, "heldout", kind) for kind in KINDS]


def all_parts(config: Config) -> list[Part]:
    """Return every part of a run, also of benchmarks that it does not run."""
    return [
        styles(config),
        backbone(config),
        planted(config),
        *([altered(config), altered_index(config), sift(config)] if has_altered(config) else []),
        *(table for split in SPLITS for table in (objects(config, split), *source_tables(config, split))),
        *(pairs(config, split, kind) for split in SPLITS for kind in KINDS),
        *(pair_features(config, split, kind) for split in SPLITS for kind in KINDS),
        *(details_features(config, benchmark) for benchmark in DETAILS),
        *(places(config, benchmark) for benchmark in PLACES),
        *(collection_features(config, task, name) for task in COLLECTIONS for name in collections(config, task)),
    ]


def links(config: Config) -> dict[str, str]:
    """Return where the files of a run that others may share are found below its own folder: target by link."""
    found = {
        **{f"objects/{split}": objects(config, split).folder for split in SPLITS},
        **{
            f"objects/{split}-{number}": table.folder
            for split in SPLITS
            for number, table in enumerate(source_tables(config, split), 1)
        },
        **{f"pairs/{split}/{kind}": pairs(config, split, kind).folder for split in SPLITS for kind in KINDS},
        **{
            f"features/pairs/{split}-{kind}": pair_features(config, split, kind).folder
            for split in SPLITS
            for kind in KINDS
        },
    }
    if config["style"]["method"] != "none":
        found["styles"] = styles(config).folder
    if backbone_weights(backbone(config)) != config["backbone"]["weights"]:
        found["backbone"] = backbone(config).folder
    for benchmark in config["benchmarks"]["run"]:
        if benchmark in DETAILS:
            found[f"features/{benchmark}"] = details_features(config, benchmark).folder
        if benchmark == "planted":
            found["planted_details"] = planted(config).folder
        if benchmark == "altered":
            found["altered_details"] = altered(config).folder
            found["altered_sift"] = sift(config).folder
            found["features/altered"] = altered_index(config).folder
        if benchmark in PLACES:
            found[f"features/{benchmark}"] = places(config, benchmark).folder
        if benchmark in COLLECTIONS:
            for name in collections(config, benchmark):
                found[f"features/{benchmark}-{name}"] = collection_features(config, benchmark, name).folder
    return found


RECORD = "shared.json"
"""The file in a run's folder that lists the shared folders it uses, by link."""


def write_links(run_folder: str | os.PathLike, targets: Mapping[str, str], record: str | os.PathLike) -> None:
    """Make the symbolic links of a run into the shared folders, which need not exist yet, and list them in a file.

    Links of an earlier configuration that are not wanted any more are removed.

    Args:
        run_folder: ``results/<run>``.
        targets: of ``links``: folders relative to the working folder, by place below the run's folder.
        record: JSON to write, ``targets`` as it is.

    Raises:
        InputError: where something else than a link is in the way.
    """
    run_folder = Path(run_folder)
    shared = os.path.realpath(FOLDER) + os.sep
    for path in run_folder.rglob("*"):
        if path.is_symlink() and os.path.realpath(path).startswith(shared):
            path.unlink()
    for name, target in targets.items():
        link = run_folder / name
        if link.exists() or link.is_symlink():
            raise InputError(
                f"{link}: is no link into {FOLDER}, where this now lies; a version of the workflow that did not share "
                "results between runs has left it: move it away or delete it, and run again"
            )
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(target, link.parent))
    write_json(record, dict(targets))


def unused_parts(results: str | os.PathLike) -> Iterator[Path]:
    """Yield the shared folders below a folder of results that no run there uses.

    Raises:
        InputError: when a run's list of them is damaged.
    """
    results = Path(results)
    used = {Path(target).parts[-2:] for record in results.glob(f"*/{RECORD}") for target in read_json(record).values()}
    for folder in sorted(results.glob(f"{PurePosixPath(FOLDER).name}/*/*")):
        if folder.is_dir() and folder.parts[-2:] not in used:
            yield folder
