# What the rules share: the checked configuration, names of files, and small functions on them.
#
# A wildcard {run} stands for a run of the study, {part} for a result that runs may share (segswap/sharing.py).

import json
import re
import shlex
from functools import cache
from pathlib import Path

from segswap import sharing, versions
from segswap.config import complete_config, read_schema, study_runs, with_base
from segswap.named_inputs import missing_inputs
from segswap.errors import InputError
from segswap.files import content_key

try:
    schema = read_schema(Path(workflow.basedir) / "config/schema.yaml")
    study = with_base(config)
    RUNS = study_runs(study, schema)
    config = complete_config(study, schema)
except InputError as error:
    raise WorkflowError(str(error)) from None

RESULTS = "results/{run}"
LOGS = "logs/{run}"
SHARED = sharing.FOLDER
SHARED_LOGS = "logs/shared"
STUDY = config["run"]
DEMO = "resources/demo"
KINDS = sharing.KINDS
SPLITS = sharing.SPLITS
MATCHERS = sharing.MATCHERS
DETAILS = sharing.DETAILS
PLACES = sharing.PLACES
COLLECTIONS = sharing.COLLECTIONS
ENVIRONMENT = "../../envs/segswap.yaml"

# What runs share, by stage and name.
PARTS = {
    (part.stage, part.name): part
    for run in RUNS.values()
    for part in sharing.all_parts(run)
}

# How programs run, as a resource: a change of it reruns nothing, unlike one of a parameter.
COMPUTE = json.dumps(config["compute"])
DEVICE = config["compute"]["device"]

TRAINING_GPUS = max(run["train"]["processes"] for run in RUNS.values())

# Snakemake hands out the cores that it is told of; there may be fewer. A program that knows both takes its share.
try:
    CORES = workflow.cores
except WorkflowError:
    CORES = ""  # a plan, or a cluster, where a job has the cores that it asks for

# The programs find the package of this folder, also where it is not installed (--sdm conda), and know what process
# started them.
shell.prefix(
    "set -euo pipefail;"
    f" export SEGSWAP_CORES={CORES} SEGSWAP_STARTER=$PPID;"
    ' export PYTHONPATH="$PWD${{PYTHONPATH:+:$PYTHONPATH}}"; '
)


wildcard_constraints:
    run="|".join(re.escape(run) for run in RUNS),
    part="[A-Za-z0-9_.-]+",
    split="|".join(SPLITS),
    kind="|".join(KINDS),
    shard="[0-9]{6}",
    chunk="[0-9]+",
    matcher="|".join(MATCHERS),
    places="|".join(PLACES),
    details="|".join(DETAILS),
    task="|".join(COLLECTIONS),
    benchmark="|".join(("pairs", *DETAILS, *PLACES, *COLLECTIONS)),
    collection="[A-Za-z0-9_.-]+",


# Values for rules: functions of the wildcards


def setting(*keys):
    """Return a function that looks a value up in the run's configuration; a key may name a wildcard: ``{places}``."""

    def look_up(wildcards):
        value = RUNS[wildcards.run]
        for key in keys:
            value = value[wildcards.get(key[1:-1]) if key.startswith("{") else key]
        return value

    return look_up


def section(*keys):
    """Return a function that gives a section of the run's configuration as JSON."""
    look_up = setting(*keys)
    return lambda wildcards: json.dumps(look_up(wildcards))


def shared(stage, *keys):
    """Return a function that looks a value up in what decides a shared part."""

    def look_up(wildcards):
        value = PARTS[stage, wildcards.part].settings
        for key in keys:
            value = value[key]
        return value

    return look_up


def shared_json(stage, *keys):
    """Return a function that gives what decides a shared part, or some of it, as JSON."""
    look_up = shared(stage, *keys)
    return lambda wildcards: json.dumps(look_up(wildcards))


def memory(megabytes):
    """Return a function that asks for memory in MB: for a job that has failed once twice as much, then three times.

    Not more: a training that meets its time limit takes many attempts, and none needs more for it.
    """
    return lambda wildcards, attempt: megabytes * min(attempt, 3)


def flags(**values):
    """Return command-line flags of the values that are given: ``flags(vgg="a")`` is ``--vgg a``."""
    return " ".join(
        f"--{name} {shlex.quote(str(value))}" for name, value in values.items() if value
    )


# Published files by where they go, below resources/.
DOWNLOADS = {
    "coco2017/train2017.zip": config["downloads"]["coco_train_images"],
    "coco2017/val2017.zip": config["downloads"]["coco_val_images"],
    "coco2017/annotations_trainval2017.zip": config["downloads"]["coco_annotations"],
    "weights/moco_v2_800ep_pretrain.pth.tar": config["downloads"]["moco"],
    "weights/vgg_normalised.pth": config["downloads"]["adain_vgg"],
    "weights/decoder.pth": config["downloads"]["adain_decoder"],
    "brueghel/Brueghel.zip": config["downloads"]["brueghel_images"],
    "brueghel/labels.json": config["downloads"]["brueghel_labels"],
    "ObjectDiscovery-data.zip": config["downloads"]["internet"],
}
