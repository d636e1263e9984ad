# Functions that give rules their files and settings: of the parts that runs may share, of runs, of targets.

from segswap.benchmarks.published import repeated_method

# Folders of pictures


def texts(value):
    """Yield every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)


def list_name(folder):
    """Return the name of a folder's list: the folder's own, and a key of its path."""
    return f"{re.sub('[^A-Za-z0-9_.-]', '_', Path(folder).name)}-{content_key(folder)[:10]}"


# By the name of its list each folder that a part may read. Any text of a part's settings may be one.
FOLDERS = {
    list_name(text): text for part in PARTS.values() for text in texts(part.settings)
}


@cache
def is_listed(path):
    """Return whether a path is a folder that stages know by its list: one that no rule makes.

    One that a rule makes has a time of its own, which Snakemake keeps in it.
    """
    made = any(each.is_producer(path) for each in workflow.rules)
    return Path(path).is_dir() and not made


def lists(files):
    """Return the lists of the folders among files that are given by name."""
    return [
        f"{SHARED}/lists/{list_name(path)}.{'labels' if name == 'labels' else 'pictures'}.json"
        for name, paths in files.items()
        for path in ([paths] if isinstance(paths, str) else paths)
        if is_listed(path)
    ]


def listed(*functions, **named):
    """Return a function that gives what functions give, by name, with lists of the folders in place of their times.

    A folder's own time changes with any file that a desktop puts there, and not where a picture is replaced.
    """

    def untimed(paths):
        if not isinstance(paths, str):
            return [untimed(path) for path in paths]
        return ancient(paths) if is_listed(paths) else paths

    def files(wildcards):
        found = {name: value(wildcards) for name, value in named.items()}
        for function in functions:
            found.update(function(wildcards))
        untimed_files = {name: untimed(paths) for name, paths in found.items()}
        return {**untimed_files, "lists": lists(found)}

    return files


@cache
def state_of(folder, kind):
    """Return what changes when the list of a folder does; a folder is looked through once in a plan."""
    # Pictures are looked for by a module that loads OpenCV: only plans with folders of one's own need it.
    from segswap.folder_lists import folder_state

    return folder_state(folder, kind)


# Shared parts


def shard_files(part):
    """Return the tar files of a pair set, in order."""
    settings = part.settings
    number = -(-settings["pairs"] // settings["pairs_per_shard"])
    return [f"{part.folder}/{part.title}-{shard:06d}.tar" for shard in range(number)]


def shards(wildcards):
    """Return the tar files of a pair set, in order."""
    return shard_files(PARTS["pairs", wildcards.part])


def shard_manifests(wildcards):
    """Return the Parquet manifests of a pair set's shards, in order; their times do not count where the set is listed.

    Where it is not, they do: Snakemake would leave the list out of a plan that makes a shard anew.
    """
    part = PARTS["pairs", wildcards.part]
    listed = Path(part.folder, "manifest.json").exists()
    files = [tar.removesuffix(".tar") + ".parquet" for tar in shard_files(part)]
    return [ancient(file) for file in files] if listed else files


def object_table(name):
    """Return the file of an object table."""
    return f"{SHARED}/objects/{name}/objects.parquet"


def class_names(wildcards):
    """Return the file of the names of YOLO's classes, or none."""
    read = PARTS["objects", wildcards.part].settings
    return {"names": read["names"]} if "names" in read else {}


def joined_inputs(wildcards):
    """Return what object tables are joined from: of each source the table, what it has left out, and the photos.

    For training objects also the table and the photos of the held-out ones.
    """
    joined = PARTS["objects", wildcards.part].settings
    files = {
        "tables": [object_table(name) for name in joined["tables"]],
        "counts": [
            f"{SHARED}/objects/{name}/objects.json" for name in joined["tables"]
        ],
        "images": [source["images"] for source in joined["sources"]],
    }
    if "heldout" not in joined:
        return files
    return {
        **files,
        "heldout_table": object_table(joined["heldout"]["table"]),
        "heldout_images": joined["heldout"]["images"],
    }


def joined_sources(wildcards):
    """Return the sources whose tables are joined, as arguments: JSON, one each."""
    sources = PARTS["objects", wildcards.part].settings["sources"]
    return " ".join(shlex.quote(json.dumps(source)) for source in sources)


def heldout_flags(wildcards, input):
    """Return the flags that keep held-out photos out of the training objects."""
    table, folders = input.get("heldout_table"), input.get("heldout_images", [])
    images = " ".join(["--heldout-images", *map(shlex.quote, folders)])
    return f"{flags(**{'heldout-table': table})} {images}" if table else ""


def style_weights(wildcards):
    """Return the weights that statistics of style images are computed with: AdaIN's, or none."""
    styles = PARTS["styles", wildcards.part].settings
    return {name: styles[name] for name in ("vgg", "decoder") if name in styles}


def style_inputs(stage):
    """Return a function that gives what restyling a part needs: statistics of styles, and AdaIN's weights."""

    def files(wildcards):
        styles = PARTS["styles", shared(stage, "styles")(wildcards)]
        if styles.settings["method"] == "none":
            return {}
        weights = {
            name: styles.settings[name]
            for name in ("vgg", "decoder")
            if name in styles.settings
        }
        return {"statistics": f"{styles.folder}/statistics.npz", **weights}

    return files


def pair_origins(wildcards):
    """Return what a pair set is made from: the object table, the lists of the photos, and the statistics of styles."""
    styles = style_inputs("pairs")(wildcards)
    objects = object_inputs("pairs")(wildcards)
    return {
        "table": objects["table"],
        "lists": lists(objects),
        **{name: path for name, path in styles.items() if name == "statistics"},
    }


def pair_set_settings(wildcards):
    """Return what a pair set's manifest says of its making, flat, as JSON."""
    settings = dict(PARTS["pairs", wildcards.part].settings)
    style = PARTS["styles", settings["styles"]].settings["method"]
    return json.dumps({**settings.pop("settings"), **settings, "style": style})


def style_flags(stage):
    """Return a function that gives the flags of a restyling program."""

    def given(wildcards, input):
        styles = PARTS["styles", shared(stage, "styles")(wildcards)]
        files = {name: input.get(name) for name in ("statistics", "vgg", "decoder")}
        return flags(
            style=styles.settings["method"],
            precision=PARTS[stage, wildcards.part].settings.get("precision"),
            **files,
        )

    return given


def style_gpus(stage):
    """Return a function that gives the GPUs of a restyling job: AdaIN is a network, colour statistics are none."""
    return lambda wildcards: int(
        shared(stage, "styles")(wildcards).startswith("adain-")
    )


def object_inputs(stage):
    """Return a function that gives the object table and the photos that a part is cut from."""
    return lambda wildcards: {
        "table": object_table(shared(stage, "objects")(wildcards)),
        "images": shared(stage, "images")(wildcards),
    }


def backbone_inputs(stage):
    """Return a function that gives the weights of the backbone that a part is computed with."""
    return lambda wildcards: {
        "weights": sharing.backbone_weights(
            PARTS["backbones", shared(stage, "backbone")(wildcards)]
        )
    }


def trunk(stage):
    """Return a function that gives the architecture of the backbone that a part is computed with, as JSON."""
    return lambda wildcards: json.dumps(
        PARTS["backbones", shared(stage, "backbone")(wildcards)].settings["trunk"]
    )


def drawn(folder):
    """Return a folder of data where the workflow draws it; others must be there."""
    return [folder] if folder.startswith(f"{DEMO}/") else []


# What another run of the study makes


@cache
def decided_by(run, decides, *names):
    """Return the key of what decides a result of a run: of the values of a function of ``sharing``."""
    return content_key(decides(RUNS[run], *names))


@cache
def maker(run, decides, *names):
    """Return the run that makes a result, for all that would make the same: the first one of the study.

    It does not depend on what is asked for: whatever the target, a result has one place.
    """
    wanted = decided_by(run, decides, *names)
    return next(other for other in RUNS if decided_by(other, decides, *names) == wanted)


def results_maker(run, matcher, benchmark):
    """Return the run that makes the results of a matcher on a benchmark."""
    return maker(run, sharing.results, matcher, benchmark)


def baseline_threshold(run):
    """Return the threshold of a run's cosine baseline."""
    return f"results/{maker(run, sharing.calibration)}/baseline.json"


# Runs


def pair_set_manifest(wildcards):
    """Return the manifest of a run's pair set."""
    run = RUNS[wildcards.run]
    return f"{sharing.pairs(run, wildcards.split, wildcards.kind).folder}/manifest.json"


def manifests(split):
    """Return a function that gives the manifests of a split's one- and two-object sets."""
    return lambda wildcards: [
        f"{sharing.pairs(RUNS[wildcards.run], split, kind).folder}/manifest.json"
        for kind in KINDS
    ]


def pair_features(split):
    """Return a function that gives the feature stores of a split's one- and two-object sets."""
    return lambda wildcards: [
        f"{sharing.pair_features(RUNS[wildcards.run], split, kind).folder}/features.npy"
        for kind in KINDS
    ]


def pretraining_pairs(wildcards):
    """Return the manifests of the pair sets that a backbone is trained on."""
    names = shared("backbones", "pairs")(wildcards)
    return [f"{SHARED}/pairs/{name}/manifest.json" for name in names]


def run_trunk_weights(wildcards):
    """Return the file of the weights of a run's backbone."""
    return sharing.backbone_weights(sharing.backbone(RUNS[wildcards.run]))


def run_trunk(wildcards):
    """Return the architecture of a run's backbone, as JSON."""
    return json.dumps(sharing.backbone(RUNS[wildcards.run]).settings["trunk"])


def run_matcher(wildcards):
    """Return the architecture and the settings of a run's matcher, as JSON."""
    return json.dumps(sharing.matcher_settings(RUNS[wildcards.run]))


def stored_features(wildcards):
    """Return the feature stores that training reads; none where it computes features in each step."""
    stored = RUNS[wildcards.run]["train"]["store_features"]
    return pair_features("train")(wildcards) if stored else []


def histories(wildcards):
    """Return the training histories of a run, by name."""
    backbone = sharing.backbone(RUNS[wildcards.run])
    pretrained = "pretrain" in backbone.settings
    return {
        **({"pretraining": f"{backbone.folder}/history.csv"} if pretrained else {}),
        "stage 1": f"results/{wildcards.run}/history/stage1.csv",
        "stage 2": f"results/{wildcards.run}/history/stage2.csv",
    }


def launcher(wildcards):
    """Return what starts a training: Python, or torchrun, which starts several processes of it."""
    processes = RUNS[wildcards.run]["train"]["processes"]
    if processes == 1:
        return "python"
    return f"python -m torch.distributed.run --standalone --nproc-per-node {processes}"


def details_inputs(wildcards):
    """Return the paintings and the labels of a benchmark of details, and the features of both."""
    run = RUNS[wildcards.run]
    folder = sharing.details_features(run, wildcards.details).folder
    return {
        **sharing.details_data(run, wildcards.details),
        "database": f"{folder}/database.npy",
        "queries": f"{folder}/queries.npy",
    }


def details_data(wildcards):
    """Return the paintings and the labels of a benchmark of details."""
    return sharing.details_data(RUNS[wildcards.run], wildcards.details)


def details_protocol(*unread):
    """Return a function that gives the protocol of a benchmark of details as JSON, less lists that are not read."""
    return lambda wildcards: json.dumps(
        sharing.details_protocol(RUNS[wildcards.run], wildcards.details, unread)
    )


def brueghel_selection(stage):
    """Return a function that gives what a stage reads whose best model is chosen on Brueghel, by name."""

    def files(wildcards):
        run = RUNS[wildcards.run]
        if run["train"][stage]["select"] != "brueghel_map":
            return {}
        folder = sharing.details_features(run, "brueghel").folder
        validation = run["benchmarks"]["brueghel"]["validation"]
        read = {
            **sharing.details_data(run, "brueghel"),
            "database": f"{folder}/database.npy",
            "queries": f"{folder}/queries.npy",
            **({"validation": validation} if validation else {}),
        }
        return {f"brueghel_{name}": path for name, path in read.items()}

    return files


def brueghel_flags(stage):
    """Return a function that gives the flags that make a stage validate on Brueghel too."""

    def given(wildcards):
        files = {
            name.removeprefix("brueghel_"): path
            for name, path in brueghel_selection(stage)(wildcards).items()
        }
        if not files:
            return ""
        named = json.dumps({"validation": None, **files})
        protocol = sharing.details_protocol(
            RUNS[wildcards.run], "brueghel", ("box_scales", "thresholds")
        )
        return f"--brueghel {shlex.quote(named)} --brueghel-settings {shlex.quote(json.dumps(protocol))}"

    return given


def stage2_settings(wildcards):
    """Return the schedule of stage 2: an epoch has at most ``mining.max_steps`` steps."""
    stage = RUNS[wildcards.run]["train"]["stage2"]
    schedule = {key: value for key, value in stage.items() if key != "mining"}
    return json.dumps({**schedule, "steps_per_epoch": stage["mining"]["max_steps"]})


def matcher_inputs(wildcards):
    """Return the files of a matcher: its checkpoint, and the threshold of the cosine baseline."""
    stage = "stage2" if wildcards.matcher == "trained" else "untrained"
    baseline = (
        {"baseline": baseline_threshold(wildcards.run)}
        if wildcards.matcher == "baseline"
        else {}
    )
    return {
        "checkpoint": f"results/{wildcards.run}/checkpoints/{stage}.pt",
        **baseline,
    }


def baseline_flag(wildcards, input):
    """Return the flag that makes a program match by cosine, where the matcher is the baseline."""
    return flags(baseline=input.get("baseline"))


def chunk_predictions(run, benchmark, matcher):
    """Return a run's prediction files of all chunks of a benchmark, in order."""
    chunks = RUNS[run]["benchmarks"][benchmark]["chunks"]
    return [
        f"results/{run}/{benchmark}/{matcher}/predictions-{chunk}.parquet"
        for chunk in range(chunks)
    ]


def predictions_by_matcher(benchmark):
    """Return a function that gives the predictions of a benchmark by matcher; ``benchmark`` names a wildcard."""

    def files(wildcards):
        name = wildcards.get(benchmark)
        return {
            matcher: chunk_predictions(
                results_maker(wildcards.run, matcher, name), name, matcher
            )
            for matcher in MATCHERS
        }

    return files


def pair_predictions_by_matcher(wildcards):
    """Return the predictions of held-out pairs by matcher."""
    makers = {
        matcher: results_maker(wildcards.run, matcher, "pairs") for matcher in MATCHERS
    }
    return {
        matcher: f"results/{run}/pairs_benchmark/{matcher}/predictions.parquet"
        for matcher, run in makers.items()
    }


def matcher_metrics(matcher, benchmark=None):
    """Return a function that gives the metrics of one matcher on a benchmark; where none is given, a wildcard is."""

    def path(wildcards):
        name = benchmark or wildcards.benchmark
        folder = "pairs_benchmark" if name == "pairs" else name
        run = results_maker(wildcards.run, matcher, name)
        return f"results/{run}/{folder}/{matcher}/metrics.json"

    return path


def altered_inputs(wildcards):
    """Return the queries of altered details, and the pictures that they are searched in."""
    part = sharing.altered(RUNS[wildcards.run])
    return {
        "queries": f"{part.folder}/queries.json",
        "images": f"{part.folder}/images",
        "pictures": part.settings["pictures"],
    }


def altered_index(wildcards):
    """Return the index in which altered details are searched."""
    return f"{sharing.altered_index(RUNS[wildcards.run]).folder}/index"


def altered_predictions(wildcards):
    """Return the predictions of altered details by matcher."""
    makers = {
        matcher: results_maker(wildcards.run, matcher, "altered")
        for matcher in MATCHERS
    }
    return {
        matcher: f"results/{run}/altered/{matcher}/predictions.parquet"
        for matcher, run in makers.items()
    }


def sift_inputs(wildcards):
    """Return the queries of altered details that SIFT looks for, and the pictures that it looks in."""
    read = PARTS["sift", wildcards.part].settings
    folder = f"{SHARED}/altered/{read['queries']}"
    return {
        "queries": f"{folder}/queries.json",
        "images": f"{folder}/images",
        "pictures": read["pictures"],
    }


def sift_file(name):
    """Return a function that gives a file of what SIFT gives on altered details."""
    return lambda wildcards: f"{sharing.sift(RUNS[wildcards.run]).folder}/{name}"


def place_files(part):
    """Return what is there of a place recognition data set: its folder where it is drawn, else list and files.

    Data that must be requested may be absent; the stage that needs it says so.
    """
    folder = part.settings["folder"]
    given = (Path(folder, name) for name in part.settings["files"].values() if name)
    return [
        *drawn(folder),
        *lists({"folder": folder}),
        *(str(path) for path in given if is_listed(folder) and path.is_file()),
    ]


def place_data(wildcards):
    """Return what every stage of a place recognition benchmark reads: data where it is drawn, inventory, ranking."""
    part = sharing.places(RUNS[wildcards.run], wildcards.places)
    return {
        "data": place_files(part),
        "inventory": f"{part.folder}/inventory.json",
        "ranking": f"{part.folder}/ranking.npz",
    }


def place_features(wildcards):
    """Return the features of the queries and candidates of a place recognition benchmark."""
    folder = sharing.places(RUNS[wildcards.run], wildcards.places).folder
    return {
        "queries": f"{folder}/queries.npy",
        "candidates": f"{folder}/candidates.npy",
    }


def place_setting(key):
    """Return a function that gives what decides the ranking of a place recognition benchmark."""

    def value(wildcards):
        found = sharing.places(RUNS[wildcards.run], wildcards.places).settings[key]
        return found if isinstance(found, str) else json.dumps(found)

    return value


def collection_images(task=None, collection=None):
    """Return a function that gives the list of a collection's images; what is not given is a wildcard."""

    def path(wildcards):
        part = sharing.collection_features(
            RUNS[wildcards.run],
            task or wildcards.task,
            collection or wildcards.collection,
        )
        return f"{part.folder}/images.json"

    return path


def collection_features(wildcards):
    """Return the features of a collection's images."""
    part = sharing.collection_features(
        RUNS[wildcards.run], wildcards.task, wildcards.collection
    )
    return f"{part.folder}/features.npy"


def collection_data(wildcards):
    """Return the images of a collection: a class of Internet, or Brueghel's paintings with their labels."""
    read = PARTS["collections", wildcards.part].settings
    return {name: read[name] for name in ("folder", "labels") if name in read}


def collection_flags(wildcards, input):
    """Return the flags that say which ground truth of a collection is checked."""
    read = PARTS["collections", wildcards.part].settings
    return flags(**{"class-name": read.get("class"), "labels": input.get("labels")})


def collection_settings(*keys):
    """Return a function that gives some keys of a collection's section, and the protocol, as JSON."""

    def values(wildcards):
        run = RUNS[wildcards.run]
        named = {key: run["benchmarks"][wildcards.task][key] for key in keys}
        return json.dumps({**named, "protocol": run["protocol"]})

    return values


def candidate_pairs(wildcards):
    """Return the image pairs of a collection that are matched."""
    collection = wildcards.task, wildcards.collection
    run = maker(wildcards.run, sharing.candidate_pairs, *collection)
    return f"results/{run}/{wildcards.task}/{wildcards.collection}-pairs.npz"


def collection_predictions(wildcards):
    """Return the predictions of all chunks of a collection's pairs, in order."""
    chunks = RUNS[wildcards.run]["benchmarks"][wildcards.task]["chunks"]
    folder = f"results/{wildcards.run}/{wildcards.task}/{wildcards.matcher}"
    return [
        f"{folder}/{wildcards.collection}-predictions-{chunk}.npz"
        for chunk in range(chunks)
    ]


def graph_settings(wildcards):
    """Return how a collection's predictions become a graph, as JSON; sigma may differ by class of Internet."""
    run = RUNS[wildcards.run]
    task = run["benchmarks"][wildcards.task]
    sigma = task["sigma"]
    if wildcards.task == "internet":
        sigma = sigma.get(wildcards.collection, sigma["default"])
    keys = ("top_k", "mask_threshold", "two_cycles", "mask_weighting")
    return json.dumps(
        {
            **{key: task[key] for key in keys},
            "sigma": sigma,
            "protocol": run["protocol"],
        }
    )


def eigenvector_flags(wildcards):
    """Return the flags that ask for the principal eigenvector, or for those of several clusters."""
    run = RUNS[wildcards.run]
    if wildcards.task == "internet":
        return flags(protocol=run["protocol"])
    task = run["benchmarks"]["discovery"]
    return flags(**{"clusters": task["clusters"], "node-share": task["node_share"]})


def segmentations(run, matcher):
    """Return a run's segmentations of all classes of Internet."""
    classes = RUNS[run]["benchmarks"]["internet"]["classes"]
    folder = f"results/{run}/internet/{matcher}"
    return [f"{folder}/{name}-segmentations.parquet" for name in classes]


def internet_by_matcher(wildcards):
    """Return the segmentations and the soft masks of all classes of Internet by matcher."""
    by_matcher = {
        matcher: segmentations(
            results_maker(wildcards.run, matcher, "internet"), matcher
        )
        for matcher in MATCHERS
    }
    masks = {
        f"{matcher}_masks": [
            path.replace("-segmentations.parquet", "-masks.npz") for path in paths
        ]
        for matcher, paths in by_matcher.items()
    }
    return {**by_matcher, **masks}


def segmentation_settings(wildcards):
    """Return how an eigenvector becomes segmentations, as JSON."""
    run = RUNS[wildcards.run]
    read = {
        key: run["benchmarks"]["internet"][key] for key in ("reduction", "foreground")
    }
    return json.dumps({**read, "protocol": run["protocol"]})


def paintings(wildcards):
    """Return Brueghel's paintings and labels, in which details are discovered."""
    return sharing.details_data(RUNS[wildcards.run], "brueghel")


def is_at_hand(run, benchmark):
    """Return whether a benchmark's data is there or can be made: what must be requested may be absent."""
    if benchmark not in PLACES:
        return True
    folder = run["benchmarks"][benchmark]["folder"]
    return bool(drawn(folder)) or Path(folder).is_dir()


def reported(run):
    """Return the benchmarks that tables and report show: absent data fails its own benchmark and nothing else."""
    return [name for name in run["benchmarks"]["run"] if is_at_hand(run, name)]


def run_metrics(run):
    """Return the metrics of the benchmarks that a run's tables show, by benchmark."""
    names = reported(RUNS[run])
    return {name: f"results/{run}/metrics/{name}.json" for name in names}


def reported_metrics(wildcards):
    """Return the metrics of the benchmarks that a run's tables show."""
    return list(run_metrics(wildcards.run).values())


def run_changes():
    """Return by run what its configuration changes in the study's."""
    if not config["runs"]:
        return {STUDY: {}}
    return {f"{STUDY}-{name}": changes for name, changes in config["runs"].items()}


def published_method(run):
    """Return the published method that a run repeats."""
    source = sharing.origin_of_objects(RUNS[run], "train")
    return repeated_method(source, RUNS[run]["model"]["architecture"])


def report_files(wildcards):
    """Return the parts of the report page: files by name, by kind of part."""
    run = RUNS[wildcards.run]
    folder = f"results/{wildcards.run}"
    sets = [(split, kind) for split in SPLITS for kind in KINDS]
    return {
        "pictures": {
            **{name: f"{folder}/pictures/{name}.jpg" for name in reported(run)},
            "hard negatives": f"{folder}/pictures/hard_negatives.jpg",
        },
        "objects": {
            split: f"{sharing.objects(run, split).folder}/objects.json"
            for split in SPLITS
        },
        "pair-sets": {
            f"{split} {kind}": f"{sharing.pairs(run, split, kind).folder}/manifest.json"
            for split, kind in sets
        },
        "galleries": {
            f"{split} {kind}": f"{folder}/galleries/{split}-{kind}.html"
            for split, kind in sets
        },
    }


def report_inputs(wildcards):
    """Return what the report page is made of, as inputs of its rule."""
    files = {
        name.replace("-", "_"): list(paths.values())
        for name, paths in report_files(wildcards).items()
    }
    clusters = "discovery" in reported(RUNS[wildcards.run])
    page = {"clusters": f"results/{wildcards.run}/clusters.html"} if clusters else {}
    return {**files, **page}


def report_flags(wildcards):
    """Return the flags that name the parts of the report page."""
    files = report_files(wildcards)
    return flags(**{name: json.dumps(paths) for name, paths in files.items()})


def origins(wildcards):
    """Return the files that a run's results rest on, small enough to be hashed: lists, weights, checkpoints."""
    run = RUNS[wildcards.run]
    styles = sharing.styles(run)
    tables = [
        table
        for split in SPLITS
        for table in sharing.source_tables(run, split) or [sharing.objects(run, split)]
    ]
    trained = [
        f"results/{wildcards.run}/checkpoints/{name}.pt"
        for name in ("untrained", "stage1", "stage2")
    ]
    return [
        *(
            table.settings[key]
            for table in tables
            for key in table.settings
            if key in ("annotations", "names")
        ),
        *(styles.settings[key] for key in ("vgg", "decoder") if key in styles.settings),
        *([f"{styles.folder}/statistics.npz"] if styles.title != "none" else []),
        *(path for split in SPLITS for path in manifests(split)(wildcards)),
        run_trunk_weights(wildcards),
        *trained,
    ]


def finished_benchmarks(wildcards):
    """Return the metrics and pictures of the benchmarks that a run's report shows."""
    names = reported(RUNS[wildcards.run])
    pictures = [f"results/{wildcards.run}/pictures/{name}.jpg" for name in names]
    return [*reported_metrics(wildcards), *pictures]


def measured_folders(wildcards):
    """Return the folders with the times of a run's jobs: its own, and those of the parts that it may share."""
    parts = sharing.all_parts(RUNS[wildcards.run])
    return [
        f"results/{wildcards.run}/benchmarks",
        *sorted({f"{part.folder}/benchmarks" for part in parts}),
    ]


def summary_facts(wildcards):
    """Return how the numbers of the tables come about, by title, as JSON."""
    run = RUNS[wildcards.run]
    train, tokyo = run["train"], run["benchmarks"]["tokyo247"]
    sigma = run["benchmarks"]["internet"]["sigma"]
    named = [
        f"{value:g} for {name}" for name, value in sigma.items() if name != "default"
    ]
    facts = {
        "Protocol": run["protocol"],
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
    return json.dumps(facts)


def headline_table():
    """Return the run's table of headline numbers, or that of all runs, for the terminal; empty where a part was run."""
    compared = len(RUNS) > 1
    table = Path(f"results/{STUDY}/tables/{'comparison' if compared else 'summary'}.md")
    if not table.is_file():
        return ""
    first = table.read_text().split("## ")[1].partition("\n")[2].strip()
    page = table.with_suffix(".html") if compared else f"results/{STUDY}/report.html"
    said = "All runs" if compared else "Curves, pictures and galleries"
    return f"\n{first}\n\n{said}: {page}\n"


def pair_set_files(kind):
    """Return the shards, manifests and galleries of the sets of one kind, of all runs."""
    sets = {
        sharing.pairs(run, split, kind).name: sharing.pairs(run, split, kind)
        for run in RUNS.values()
        for split in SPLITS
    }
    return [
        *(shard for part in sets.values() for shard in shard_files(part)),
        *(f"{part.folder}/manifest.json" for part in sets.values()),
        *expand(f"{RESULTS}/galleries/{{split}}-{kind}.html", run=RUNS, split=SPLITS),
        *LINKS,
    ]


def benchmark_files(*benchmarks):
    """Return what benchmarks end with, in all runs: metrics, picture, and the page of clusters where there is one.

    Without names: those that each run's configuration asks for.
    """
    return [
        f"results/{name}/{file}"
        for name, run in RUNS.items()
        for benchmark in (benchmarks or run["benchmarks"]["run"])
        for file in (
            f"metrics/{benchmark}.json",
            f"pictures/{benchmark}.jpg",
            *(["clusters.html"] if benchmark == "discovery" else []),
        )
    ]


# The table of all runs, where there are several.
COMPARISON = [f"results/{STUDY}/tables/comparison.csv"] if len(RUNS) > 1 else []

# Where the files of a run that others may share are found below its own folder.
LINKS = expand(f"{RESULTS}/shared.json", run=RUNS)


# Downloads


def inner_folder(download, *held):
    """Return the flags that say which folder of an archive is unpacked: the configured one, or one that holds files."""
    folder = config["downloads"][download]["folder"]
    patterns = " ".join(map(shlex.quote, held))
    return flags(prefix=folder) if folder else f"--holds {patterns}"
