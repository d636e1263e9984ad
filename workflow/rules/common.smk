# What the rules share: the checked configuration, names of files, and small functions on them.

import json
import shlex
from pathlib import Path

from segswap import versions
from segswap.config import complete_config, read_schema
from segswap.errors import InputError

try:
    config = complete_config(
        config, read_schema(Path(workflow.basedir) / "config/schema.yaml")
    )
except InputError as error:
    raise WorkflowError(str(error)) from None

RESULTS = f"results/{config['run']}"
DEMO = "resources/demo"
KINDS = ("1obj", "2obj")
MATCHERS = ("trained", "untrained", "baseline")
DETAILS = ("brueghel", "planted")
PLACES = ("tokyo247", "pitts30k", "own_places")
COLLECTIONS = ("internet", "discovery")
ENVIRONMENT = "../../envs/segswap.yaml"

# How programs run, as a resource: a change of it reruns nothing, unlike one of a parameter.
COMPUTE = json.dumps(config["compute"])
DEVICE = config["compute"]["device"]

# Snakemake hands out the cores that it is told of; there may be fewer. A program that knows both takes its share.
try:
    CORES = workflow.cores
except WorkflowError:
    CORES = ""  # a plan, or a cluster, where a job has the cores that it asks for

# The programs find the package of this folder, also where it is not installed (--sdm conda).
shell.prefix(
    "set -euo pipefail;"
    f" export SEGSWAP_CORES={CORES};"
    ' export PYTHONPATH="$PWD${{PYTHONPATH:+:$PYTHONPATH}}"; '
)


wildcard_constraints:
    split="train|heldout",
    kind="1obj|2obj",
    shard="[0-9]{6}",
    chunk="[0-9]+",
    matcher="trained|untrained|baseline",
    places="|".join(PLACES),
    details="|".join(DETAILS),
    task="|".join(COLLECTIONS),
    benchmark="|".join(("pairs", *DETAILS, *PLACES, *COLLECTIONS)),
    collection="[A-Za-z0-9_.-]+",


def without(section, *keys):
    """Return a section of the configuration, less some keys, as JSON."""
    return json.dumps({key: value for key, value in section.items() if key not in keys})


def only(section, *keys):
    """Return some keys of a section of the configuration as JSON."""
    return json.dumps({key: section[key] for key in keys})


def shards(split, kind):
    """Return the tar files of a pair set, in order."""
    number = -(-config["pairs"][split][kind] // config["pairs"]["pairs_per_shard"])
    return [
        f"{RESULTS}/pairs/{split}/{kind}/{kind}-{shard:06d}.tar"
        for shard in range(number)
    ]


def shard_manifests(split, kind):
    """Return the Parquet manifests of a pair set's shards, in order."""
    return [tar.removesuffix(".tar") + ".parquet" for tar in shards(split, kind)]


def manifests(split):
    """Return the manifests of a split's one- and two-object sets."""
    return [f"{RESULTS}/pairs/{split}/{kind}/manifest.json" for kind in KINDS]


def pair_features(split):
    """Return the feature stores of a split's one- and two-object sets."""
    return [f"{RESULTS}/features/pairs/{split}-{kind}.npy" for kind in KINDS]


def features_limit(split):
    """Return how many pairs of each set have their features stored; None: all."""
    train = config["train"]
    if split == "train":
        return None if train["store_features"] else train["validation_pairs"]
    return max(train["validation_pairs"], config["benchmarks"]["pairs"]["limit"])


def style_inputs():
    """Return what restyling needs: statistics of the style images, and AdaIN's weights."""
    style = config["style"]
    if style["method"] == "none":
        return {}
    weights = (
        {"vgg": style["vgg"], "decoder": style["decoder"]}
        if style["method"] == "adain"
        else {}
    )
    return {"statistics": f"{RESULTS}/styles.npz", **weights}


def flags(**values):
    """Return command-line flags of the values that are given: ``flags(vgg="a")`` is ``--vgg a``."""
    return " ".join(
        f"--{name} {shlex.quote(str(value))}" for name, value in values.items() if value
    )


def style_flags(wildcards, input):
    """Return the flags of a restyling program."""
    style = config["style"]
    given = {name: input.get(name) for name in ("statistics", "vgg", "decoder")}
    precision = style["precision"] if style["method"] == "adain" else None
    return flags(style=style["method"], precision=precision, **given)


def backbone_weights():
    """Return the file of the backbone's weights; trained by the workflow where the configuration says so."""
    weights = config["backbone"]["weights"]
    return f"{RESULTS}/checkpoints/backbone.pt" if weights == "pretrain" else weights


def histories():
    """Return the training histories of a run, by name."""
    pretraining = (
        {"pretraining": "pretrain"}
        if config["backbone"]["weights"] == "pretrain"
        else {}
    )
    named = {**pretraining, "stage 1": "stage1", "stage 2": "stage2"}
    return {name: f"{RESULTS}/history/{file}.csv" for name, file in named.items()}


def launcher():
    """Return what starts a training: Python, or torchrun, which starts several processes of it."""
    processes = config["train"]["processes"]
    if processes == 1:
        return "python"
    return f"python -m torch.distributed.run --standalone --nproc-per-node {processes}"


def brueghel_selection(stage):
    """Return what a stage reads whose best model is chosen on Brueghel, by name; nothing for others."""
    if config["train"][stage]["select"] != "brueghel_map":
        return {}
    section = config["benchmarks"]["brueghel"]
    validation = section["validation"]
    return {
        "brueghel_images": section["images"],
        "brueghel_labels": section["labels"],
        "brueghel_database": f"{RESULTS}/features/brueghel/database.npy",
        "brueghel_queries": f"{RESULTS}/features/brueghel/queries.npy",
        **({"brueghel_validation": validation} if validation else {}),
    }


def brueghel_flags(stage):
    """Return the flags that make a stage validate on Brueghel too."""
    files = {
        name.removeprefix("brueghel_"): path
        for name, path in brueghel_selection(stage).items()
    }
    if not files:
        return ""
    named = json.dumps({"validation": None, **files})
    return f"--brueghel {shlex.quote(named)} --brueghel-settings {shlex.quote(details_protocol('brueghel', ('box_scales', 'thresholds')))}"


def stage2_settings():
    """Return the schedule of stage 2: an epoch has at most ``mining.max_steps`` steps."""
    stage = {
        key: value
        for key, value in config["train"]["stage2"].items()
        if key != "mining"
    }
    return json.dumps(
        {**stage, "steps_per_epoch": config["train"]["stage2"]["mining"]["max_steps"]}
    )


def matcher_inputs(wildcards):
    """Return the files of a matcher: its checkpoint, and the threshold of the cosine baseline."""
    stage = "stage2" if wildcards.matcher == "trained" else "untrained"
    baseline = (
        {"baseline": f"{RESULTS}/baseline.json"}
        if wildcards.matcher == "baseline"
        else {}
    )
    return {"checkpoint": f"{RESULTS}/checkpoints/{stage}.pt", **baseline}


def baseline_flag(wildcards, input):
    """Return the flag that makes a program match by cosine, where the matcher is the baseline."""
    return flags(baseline=input.get("baseline"))


def chunk_predictions(benchmark, matcher):
    """Return the prediction files of all chunks of a benchmark, in order."""
    chunks = config["benchmarks"][benchmark]["chunks"]
    return [
        f"{RESULTS}/{benchmark}/{matcher}/predictions-{chunk}.parquet"
        for chunk in range(chunks)
    ]


def matcher_metrics(benchmark, matcher):
    """Return the metrics of one matcher on a benchmark."""
    folder = "pairs_benchmark" if benchmark == "pairs" else benchmark
    return f"{RESULTS}/{folder}/{matcher}/metrics.json"


def segmentations(matcher):
    """Return the segmentations of all classes of Internet."""
    classes = config["benchmarks"]["internet"]["classes"]
    return [
        f"{RESULTS}/internet/{matcher}/{name}-segmentations.parquet" for name in classes
    ]


def soft_masks(matcher):
    """Return the soft masks of all classes of Internet."""
    return [
        path.replace("-segmentations.parquet", "-masks.npz")
        for path in segmentations(matcher)
    ]


DETAILS_PROTOCOL = ("image_size", "query_size", "box_scales", "thresholds")


def details_protocol(benchmark, unread=()):
    """Return the protocol of a benchmark of details in paintings as JSON.

    Lists that a stage does not read are left empty: a change of them must not run it again.
    """
    section = config["benchmarks"][benchmark]
    read = {key: [] if key in unread else section[key] for key in DETAILS_PROTOCOL}
    return json.dumps({**read, "protocol": config["protocol"]})


def details_settings(wildcards):
    """Return the protocol of a benchmark of details in paintings as JSON."""
    return details_protocol(wildcards.details)


def details_data(wildcards):
    """Return the paintings and the labels of a benchmark of details."""
    if wildcards.details == "planted":
        folder = f"{RESULTS}/planted_details"
        return {"images": f"{folder}/images", "labels": f"{folder}/labels.json"}
    section = config["benchmarks"]["brueghel"]
    return {"images": section["images"], "labels": section["labels"]}


def details_predictions(wildcards):
    """Return the predictions of a benchmark of details, by matcher."""
    return {
        matcher: chunk_predictions(wildcards.details, matcher) for matcher in MATCHERS
    }


def planted_paintings():
    """Return the folder of pictures that objects are planted in; the style images where none is named."""
    return config["benchmarks"]["planted"]["paintings"] or config["style"]["folder"]


def planted_settings():
    """Return how details are planted, as JSON."""
    section = config["benchmarks"]["planted"]
    left_out = (*DETAILS_PROTOCOL, "paintings", "chunks")
    return json.dumps(
        {
            **{key: value for key, value in section.items() if key not in left_out},
            "dilation": config["pairs"]["dilation"],
        }
    )


def place_settings(wildcards):
    """Return the protocol of a place recognition benchmark as JSON."""
    section = {**config["benchmarks"][wildcards.places], "protocol": config["protocol"]}
    return without(section, "folder", "files", "chunks")


def place_folder(wildcards):
    """Return the folder of a place recognition data set."""
    return config["benchmarks"][wildcards.places]["folder"]


def place_files(wildcards):
    """Return the names of the files of a place recognition data set as JSON."""
    return json.dumps(config["benchmarks"][wildcards.places]["files"])


def drawn_places(wildcards):
    """Return the folder of a place recognition data set where the workflow draws it; others must be there."""
    folder = place_folder(wildcards)
    return [folder] if folder.startswith(f"{DEMO}/") else []


def collection_section(wildcards):
    """Return the section of the configuration that says how a collection is looked through."""
    return config["benchmarks"][wildcards.task]


def collection_data(wildcards):
    """Return the images of a collection: a class of Internet, or Brueghel's paintings with their labels."""
    if wildcards.task == "internet":
        return {"folder": config["benchmarks"]["internet"]["folder"]}
    section = config["benchmarks"]["brueghel"]
    return {"folder": section["images"], "labels": section["labels"]}


def collection_flags(wildcards, input):
    """Return the flags that say which ground truth of a collection is checked."""
    if wildcards.task == "internet":
        return flags(**{"class-name": wildcards.collection})
    return flags(labels=input.labels)


def collection_settings(wildcards, *keys):
    """Return some keys of a collection's section, and the protocol, as JSON."""
    section = {**collection_section(wildcards), "protocol": config["protocol"]}
    return only(section, *keys, "protocol")


def collection_predictions(wildcards):
    """Return the predictions of all chunks of a collection's pairs, in order."""
    return [
        f"{RESULTS}/{wildcards.task}/{wildcards.matcher}/{wildcards.collection}-predictions-{chunk}.npz"
        for chunk in range(collection_section(wildcards)["chunks"])
    ]


def graph_settings(wildcards):
    """Return how a collection's predictions become a graph, as JSON; sigma may differ by class of Internet."""
    section = collection_section(wildcards)
    sigma = section["sigma"]
    if wildcards.task == "internet":
        sigma = sigma.get(wildcards.collection, sigma["default"])
    keys = ("top_k", "mask_threshold", "two_cycles", "mask_weighting")
    return json.dumps(
        {
            **{key: section[key] for key in keys},
            "sigma": sigma,
            "protocol": config["protocol"],
        }
    )


def eigenvector_flags(wildcards):
    """Return the flags that ask for the principal eigenvector, or for those of several clusters."""
    if wildcards.task == "internet":
        return flags(protocol=config["protocol"])
    section = collection_section(wildcards)
    return flags(
        **{"clusters": section["clusters"], "node-share": section["node_share"]}
    )


def is_at_hand(benchmark):
    """Return whether a benchmark's data is there or can be made: what must be requested may be absent."""
    folder = config["benchmarks"].get(benchmark, {}).get("folder", "")
    return (
        benchmark not in PLACES
        or folder.startswith(f"{DEMO}/")
        or Path(folder).is_dir()
    )


def report_files():
    """Return the flags that name the parts of the report page."""
    sets = [(split, kind) for split in ("train", "heldout") for kind in KINDS]
    files = {
        "pictures": {
            **{name: f"{RESULTS}/pictures/{name}.jpg" for name in REPORTED},
            "hard negatives": f"{RESULTS}/pictures/hard_negatives.jpg",
        },
        "objects": {
            split: f"{RESULTS}/objects/{split}.json" for split in ("train", "heldout")
        },
        "pair-sets": {
            f"{split} {kind}": f"{RESULTS}/pairs/{split}/{kind}/manifest.json"
            for split, kind in sets
        },
        "galleries": {
            f"{split} {kind}": f"{RESULTS}/galleries/{split}-{kind}.html"
            for split, kind in sets
        },
    }
    return flags(**{name: json.dumps(paths) for name, paths in files.items()})


def summary_facts():
    """Return how the numbers of the tables come about, by title."""
    train, tokyo = config["train"], config["benchmarks"]["tokyo247"]
    sigma = config["benchmarks"]["internet"]["sigma"]
    named = [
        f"{value:g} for {name}" for name, value in sigma.items() if name != "default"
    ]
    return {
        "Protocol": config["protocol"],
        "Models selected by": f"{train['stage1']['select']} (stage 1), {train['stage2']['select']} (stage 2)",
        "Views of one place (Tokyo 24/7)": (
            f"one is kept, {tokyo['suppression']}"
            if tokyo["suppression"] != "none"
            else "all are kept"
        ),
        "Sigma of the correspondence graph, in cells (Internet)": ", ".join(
            [
                *named,
                f"{sigma['default']:g} for {'the others' if named else 'all classes'}",
            ]
        ),
    }


def headline_table():
    """Return the run's table of headline numbers, for the terminal; empty where only a part was run."""
    summary = Path(f"{RESULTS}/tables/summary.md")
    if not summary.is_file():
        return ""
    table = summary.read_text().split("## ")[1].partition("\n")[2].strip()
    return f"\n{table}\n\nCurves, pictures and galleries: {RESULTS}/report.html\n"


def pair_set_files(kind):
    """Return the shards, manifests and galleries of the sets of one kind."""
    splits = ("train", "heldout")
    return [
        *(shard for split in splits for shard in shards(split, kind)),
        *(f"{RESULTS}/pairs/{split}/{kind}/manifest.json" for split in splits),
        *(f"{RESULTS}/galleries/{split}-{kind}.html" for split in splits),
    ]


def benchmark_files(benchmark):
    """Return what a benchmark ends with: its metrics, its picture, and the page of clusters where it has one."""
    return [
        f"{RESULTS}/metrics/{benchmark}.json",
        f"{RESULTS}/pictures/{benchmark}.jpg",
        *(CLUSTER_PAGE if benchmark == "discovery" else []),
    ]


def metrics_files(names):
    """Return the metrics of benchmarks."""
    return [f"{RESULTS}/metrics/{name}.json" for name in names]


CLUSTER_PAGE = [f"{RESULTS}/clusters.html"]
BENCHMARKS = config["benchmarks"]["run"]
# Tables and report show what can be run: a data set that is absent fails its own benchmark and nothing else.
REPORTED = [name for name in BENCHMARKS if is_at_hand(name)]

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
