"""The configuration: checked against its schema, completed with the schema's defaults, contradictions refused.

``config/schema.yaml`` is the one place of types, defaults and descriptions; ``config/README.md`` is made from
it by ``manual``.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from segswap.errors import InputError

Section = dict[str, Any]

SCHEMA = Path(__file__).parent.parent / "config" / "schema.yaml"
"""The schema of this checkout."""


def read_config(path: str | os.PathLike) -> Section:
    """Read a configuration file (YAML), check it and complete it with the defaults of ``SCHEMA``.

    Raises:
        InputError: when the file is missing, is not YAML, or is not a usable configuration.
    """
    return complete_config(with_base(_read_yaml(path)), read_schema(SCHEMA))


def _read_yaml(path: str | os.PathLike) -> Section:
    try:
        with open(path, encoding="utf-8") as file:
            given = yaml.safe_load(file) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable as a configuration in YAML ({' '.join(str(error).split())})") from None
    if not isinstance(given, dict):
        raise InputError(f"{path}: expected keys and values in YAML, found {type(given).__name__}")
    return given


def read_schema(path: str | os.PathLike) -> Section:
    """Read a schema file (YAML)."""
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def merged(base: Section, changes: Section) -> Section:
    """Return a section with changes: sections are merged key by key, everything else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = merged(base[key], value) if both else value
    return result


def with_base(given: Section) -> Section:
    """Return a configuration over the file that its key ``base`` names, and that one's, and so on.

    Raises:
        InputError: when such a file is not readable, or is its own base.
    """
    files: list[str] = []
    while base := given.get("base"):
        if base in files:
            raise InputError(f"{base}: is its own base, by way of {' and '.join(files)}; remove one key 'base'")
        files.append(base)
        given = merged(_read_yaml(base), {key: value for key, value in given.items() if key != "base"})
    return given


_COMMON = ("base", "run", "runs", "demo", "compute", "downloads")
"""Keys of a study as a whole, which no run can have otherwise than the others."""


def study_runs(given: Section, schema: Section) -> dict[str, Section]:
    """Return the complete configuration of each run of a study, by the run's name.

    Without a key ``runs`` that is one run, named ``run``; else a run ``<run>-<name>`` for each name in ``runs``.

    Args:
        given: over its base (``with_base``), not completed.
        schema: of ``read_schema``.

    Raises:
        InputError: as ``complete_config``, naming the run.
    """
    study = complete_config(given, schema)
    if not study["runs"]:
        return {study["run"]: study}
    shared = {key: value for key, value in given.items() if key != "runs"}
    runs = {}
    for name, changes in study["runs"].items():
        if common := sorted(set(changes) & set(_COMMON)):
            raise InputError(f"runs.{name}.{common[0]}: is the same for all runs of a study; move it to the top")
        full_name = f"{study['run']}-{name}"
        try:
            runs[full_name] = complete_config(merged(shared, {**changes, "run": full_name}), schema)
        except InputError as error:
            raise InputError(f"runs.{name}: {error}") from None
    return runs


def complete_config(given: Section, schema: Section) -> Section:
    """Return the configuration with every key: the given values, else the schema's defaults.

    Keys and sections that the schema marks ``later: true`` are left out where they have their defaults. Results that
    were made before such a key existed keep their description, so Snakemake does not make them again.

    Args:
        given: what the configuration files and the command line say, nested dictionaries.
        schema: of ``read_schema``.

    Raises:
        InputError: one line for each problem, each naming its key: an unknown key (with the nearest known one), a
            wrong type or value, or values that contradict each other.
    """
    given = _typed(given, schema)
    problems = [_in_words(error) for error in jsonschema.Draft202012Validator(schema).iter_errors(given)]
    if not problems:
        config = complete_part(given, schema)
        problems = [*_contradictions(config), *_source_problems(config["objects"], schema)]
    if problems:
        raise InputError("the configuration is not usable:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return config


def _typed(value: Any, entry: Section) -> Any:
    """Read text as the number, truth value or null that the schema wants there.

    Snakemake hands values of ``--config`` over as text below the first level, and YAML takes 1e-4 for text.
    What cannot be read so stays as it is, for the schema to refuse.
    """
    if isinstance(value, dict):
        known, others = entry.get("properties", {}), entry.get("additionalProperties")
        return {k: _typed(v, known.get(k, others if isinstance(others, dict) else {})) for k, v in value.items()}
    if isinstance(value, list):
        return [_typed(item, entry.get("items", {})) for item in value]
    types = entry.get("type", "string")
    types = types if isinstance(types, list) else [types]
    if not isinstance(value, str):
        return value
    if "null" in types and value in ("null", "~", ""):
        return None
    if "boolean" in types and value.lower() in ("true", "false"):
        return value.lower() == "true"
    for name, kind in (("integer", int), ("number", float)):
        if name in types:
            try:
                return kind(value)
            except ValueError:
                continue
    return value


def complete_part(given: Section, schema: Section) -> Section:
    """Return a checked section with every key of its part of the schema; see ``complete_config``."""
    completed = {}
    for key, entry in schema["properties"].items():
        value = _completed(given, key, entry)
        if not entry.get("later") or value != _completed({}, key, entry):
            completed[key] = value
    return completed


def _completed(given: Section, key: str, entry: Section) -> Any:
    if "properties" in entry:
        return complete_part(given.get(key, {}), entry)
    return copy.deepcopy(given.get(key, entry["default"]))


def _in_words(error: jsonschema.ValidationError) -> str:
    key = ".".join(str(part) for part in error.absolute_path) or "the configuration"
    if error.validator == "additionalProperties" and "properties" in error.schema:
        prefix = "".join(f"{part}." for part in error.absolute_path)
        unknown = sorted(set(error.instance) - set(error.schema["properties"]), key=str)
        named = ", ".join(prefix + str(name) for name in unknown)
        return f"{named}: unknown key; {_suggestion(str(unknown[0]), error.schema, prefix)}"
    if error.validator == "type":
        wanted = error.validator_value
        wanted = " or ".join(wanted) if isinstance(wanted, list) else wanted
        return f"{key}: {error.instance!r} is of type {_type_name(error.instance)}, expected {wanted}"
    return f"{key}: {error.message}"


def _suggestion(unknown: str, section: Section, prefix: str) -> str:
    # Late: only a mistaken configuration needs it.
    import difflib

    known = section["properties"]
    deeper = [f"{name}.{unknown}" for name, entry in known.items() if unknown in entry.get("properties", {})]
    meant = deeper or difflib.get_close_matches(unknown, known, n=1)
    if meant:
        return f"did you mean {' or '.join(prefix + name for name in meant)}?"
    return f"known here: {', '.join(known)}"


def _type_name(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null" if value is None else type(value).__name__)


def _contradictions(config: Section) -> Iterator[str]:
    """Yield what is wrong with values that are each right by themselves."""
    pairs, style, batch = config["pairs"], config["style"], config["train"]["batch"]
    objects, mining = config["objects"], config["train"]["stage2"]["mining"]
    if config["run"] == "shared":
        yield "run: 'shared' cannot be the run's name; results/shared holds what runs share"
    if objects["min_area_share"] >= objects["max_area_share"]:
        yield "objects.min_area_share: must be below objects.max_area_share"
    if objects["segments"]["min_area_share"] >= objects["segments"]["max_area_share"]:
        yield "objects.segments.min_area_share: must be below objects.segments.max_area_share"
    photometric = batch.get("photometric", {})
    altered = config["benchmarks"].get("altered", {})
    for key, bounds in (
        ("pairs.stretch", pairs["stretch"]),
        ("train.stage2.mining.crop_scale", mining["crop_scale"]),
        ("train.batch.photometric.blur_radius", photometric.get("blur_radius", [0, 0])),
        ("benchmarks.altered.share", altered.get("share", [0, 0])),
    ):
        if bounds[0] > bounds[1]:
            yield f"{key}: {bounds} has its lower bound above its upper one"
    cells = (pairs["size"] // 16) ** 2
    if pairs["min_cells"] >= cells / 2:
        yield f"pairs.min_cells: {pairs['min_cells']} is half or more of the {cells} cells of pairs.size"
    if style["method"] == "adain" and not (style["vgg"] and style["decoder"]):
        yield "style.method: adain needs style.vgg and style.decoder"
    if style["method"] == "none" and batch["stylise_probability"] > 0:
        yield "train.batch.stylise_probability: must be 0 where style.method is none"
    pretrained = config["backbone"]["weights"] == "pretrain"
    if style["method"] == "none" and pretrained and config["backbone"]["pretrain"]["stylise_probability"] > 0:
        yield "backbone.pretrain.stylise_probability: must be 0 where style.method is none"
    changing = any(value for key, value in photometric.items() if key != "blur_radius")
    if changing and config["train"]["store_features"]:
        yield (
            "train.batch.photometric: stored features are those of unchanged pictures; set train.store_features to "
            "false, or every strength to 0"
        )
    positives, negatives = batch["positives"], batch["negatives"]
    if negatives > positives * (positives - 1):
        yield f"train.batch.negatives: {positives} positives make at most {positives * (positives - 1)} negatives"
    for kind, number in pairs["train"].items():
        if number < positives:
            yield f"pairs.train.{kind}: {number} pairs are fewer than train.batch.positives ({positives})"
        if pairs["heldout"][kind] < 4:
            yield f"pairs.heldout.{kind}: held-out pairs need at least 4, to have negatives"
    if mining["hard_above"] <= mining["zero_below"]:
        yield "train.stage2.mining.hard_above: must be above train.stage2.mining.zero_below"
    if pretrained and config["backbone"]["pretrain"]["pairs"] > min(pairs["train"].values()):
        yield "backbone.pretrain.pairs: a batch is larger than a training set of pairs"
    if "altered" in config["benchmarks"]["run"] and not altered.get("pictures"):
        yield "benchmarks.altered.pictures: must name a folder of pictures where benchmarks.run has 'altered'"
    yield from _backbone_contradictions(config["backbone"])


def _backbone_contradictions(backbone: Section) -> Iterator[str]:
    architecture, weights = backbone["architecture"], backbone["weights"]
    if architecture.startswith("resnet"):
        if "taps" in backbone:
            yield f"backbone.taps: must be null where architecture is {architecture}; it ends in layer3"
        if weights == "package":
            yield f"backbone.weights: no package brings weights of {architecture}; give a weight file"
        return
    if weights == "pretrain":
        yield f"backbone.weights: 'pretrain' trains ResNets only; give weights of {architecture}"
    for key, default in (("width", 64), ("projection", None)):
        if backbone[key] != default:
            yield f"backbone.{key}: is a setting of ResNets; leave it out where architecture is {architecture}"


_SOURCE_KEYS = {
    "annotations": (("annotations",), ("frame",)),
    "yolo": (("labels",), ("names", "frame")),
    "segments": ((), ()),
}
"""What a source of each kind needs beside its images, and what it may have."""


def _source_problems(objects: Section, schema: Section) -> Iterator[str]:
    """Yield what is wrong with the sources of objects."""
    for split in ("train", "heldout"):
        sources = objects[split].get("sources", [])
        known = schema["properties"]["objects"]["properties"][split]["properties"]
        for key in ("annotations", "images", "source", "frame"):
            if sources and objects[split].get(key, known[key]["default"]) != known[key]["default"]:
                yield f"objects.{split}.{key}: is not read beside objects.{split}.sources; make it one of the sources"
        for number, source in enumerate(sources):
            name, kind = f"objects.{split}.sources.{number}", source["source"]
            needed, optional = _SOURCE_KEYS[kind]
            for key in needed:
                if key not in source:
                    yield f"{name}.{key}: is missing; a source of {kind} needs it"
            for key in source:
                if key not in ("source", "images", *needed, *optional):
                    yield f"{name}.{key}: is not read of a source of {kind}; remove it"


INTRODUCTION = """\
# The configuration

| file | what |
|---|---|
| `config.yaml` | the demo world, the default |
| `demo-long.yaml` | the demo world with more pairs and a longer training, an hour on two cores |
| `custom.yaml` | photos of your own, a first run of minutes, which shows that your data work; no model to keep |
| `real.yaml` | a model of real photos: any folders of yours, annotated or not; a GPU |
| `real-cpu.yaml` | the same on two cores, over night |
| `paper.yaml` | the published study |
| `ablations.yaml` | the demo world again and again, each time with one thing changed, and one table |
| `demo-four-models.yaml` | the demo world with the paper's four models: two kinds of objects, two matchers |
| `paper-four-models.yaml` | the published study with all four |
| `schema.yaml` | every key with type, default and meaning; this page is made from it by `python -m segswap.config` |

A file given by `--configfile` stands alone: keys that it does not have take the defaults below, which are the
published values where there are any, not those of `config.yaml`; unless it names another file as its `base`. Single
keys are changed on the command line, for example `--config seed=2` or `--config 'train={"stage1": {"epochs": 3}}'`.

The configuration is checked before any job: an unknown key, a wrong type, or values that contradict each other stop the
run with a message that names the key. Paths are relative to the folder that `snakemake` runs in. What lies under
`resources/demo` is drawn, published files under `resources` are downloaded, everything else must be there.
"""


def manual(schema: Section) -> str:
    """Return the manual of every key as Markdown: a heading for each section, a table of its keys."""
    lines = [INTRODUCTION, "## Keys at the top", ""]

    def section(entry: Section, path: str, depth: int) -> None:
        own = {key: value for key, value in entry["properties"].items() if "properties" not in value}
        if path:
            lines.extend([f"{'#' * depth} `{path}`", "", entry["description"], ""])
        if own:
            lines.extend(["| key | type | default | meaning |", "|---|---|---|---|"])
            lines.extend(_manual_row(key, value) for key, value in own.items())
            lines.append("")
        for key, value in entry["properties"].items():
            if "properties" in value:
                section(value, f"{path}.{key}" if path else key, min(depth + 1, 4) if path else 2)

    section(schema, "", 2)
    return "\n".join(lines).rstrip() + "\n"


def _manual_row(key: str, entry: Section) -> str:
    kind = entry.get("type", "string")
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    limits = []
    if "enum" in entry:
        kind = "one of " + ", ".join("null" if value is None else f"`{value}`" for value in entry["enum"])
    for name, words in (("minimum", "at least"), ("maximum", "at most"), ("exclusiveMinimum", "above")):
        if name in entry:
            limits.append(f"{words} {entry[name]}")
    if "exclusiveMaximum" in entry:
        limits.append(f"below {entry['exclusiveMaximum']}")
    if "multipleOf" in entry:
        limits.append(f"multiple of {entry['multipleOf']}")
    kind = f"{kind} ({', '.join(limits)})" if limits else kind
    default = yaml.safe_dump(entry["default"], default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return f"| `{key}` | {kind} | `{default}` | {entry['description'].replace('|', '/')} |"


if __name__ == "__main__":
    from segswap.files import write_text

    write_text(SCHEMA.with_name("README.md"), manual(read_schema(SCHEMA)))
