"""Files and folders that a configuration names: those that are missing are said at once, each with its key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from segswap.files import is_repository

Section = dict[str, Any]

_SOURCE_FILES = {
    "annotations": ("annotations", "images"),
    "yolo": ("labels", "names", "images"),
    "segments": ("images",),
}
_STYLE_FILES = {"adain": ("folder", "vgg", "decoder"), "reinhard": ("folder",), "none": ()}
_BENCHMARK_FILES = {
    "brueghel": ("images", "labels"),
    "planted": ("paintings",),
    "altered": ("pictures", "hosts"),
    "internet": ("folder",),
}
"""Keys of benchmarks whose files must be there; places are not among them: absent, only their own benchmark fails."""


def named_inputs(config: Section) -> dict[str, str]:
    """Return the files and folders that a run reads, by the key that names each, whether they are there or not.

    Args:
        config: of a run, complete.
    """
    named: dict[str, Any] = {}

    def add(prefix: str, section: Section, keys: Iterable[str]) -> None:
        named.update({f"{prefix}.{key}": section.get(key) for key in keys})

    for split in ("train", "heldout"):
        data = config["objects"][split]
        for number, source in enumerate(data.get("sources", [])):
            add(f"objects.{split}.sources.{number}", source, _SOURCE_FILES[source["source"]])
        if not data.get("sources"):
            add(f"objects.{split}", data, _SOURCE_FILES[data["source"]])
    add("style", config["style"], _STYLE_FILES[config["style"]["method"]])
    weights = config["backbone"]["weights"]
    if weights not in ("pretrain", "package") and not is_repository(weights):
        add("backbone", config["backbone"], ("weights",))
    asked = config["benchmarks"]["run"]
    for name, keys in _BENCHMARK_FILES.items():
        if name in asked or (name == "brueghel" and "discovery" in asked):
            add(f"benchmarks.{name}", config["benchmarks"][name], keys)
    return {key: path for key, path in named.items() if path}


def missing_inputs(runs: Mapping[str, Section], is_made: Callable[[str], bool]) -> str:
    """Return a message that names all missing files and folders of some runs with their keys; empty where none is.

    Args:
        runs: complete configurations, by the name of the run.
        is_made: whether the workflow makes, draws or downloads a path.
    """
    missing = {
        (key, path): None
        for config in runs.values()
        for key, path in named_inputs(config).items()
        if not Path(path).exists() and not is_made(path)
    }
    if not missing:
        return ""
    lines = "\n".join(f"  - {key}: {path}" for key, path in missing)
    return (
        f"the configuration names files and folders that are not there:\n{lines}\n"
        f"Put them there, relative to {Path.cwd()}, or change these keys. What does not read them can be made without."
    )
