# Makes: predictions, metrics and pictures of every benchmark, for the trained model and both baselines.
# Needs: checkpoints, and each benchmark's data in its published layout. Predictions are stored, and metrics are
# computed from them: a measure can change without running a model.


rule benchmarks:
    """The metrics and pictures of every benchmark that is asked for."""
    input:
        [benchmark_files(benchmark) for benchmark in BENCHMARKS],


rule evaluate_pairs:
    """Held-out pairs: masks, correspondences, and telling related from unrelated."""
    input:
        benchmark_files("pairs"),


rule evaluate_brueghel:
    """Details in paintings: one-shot retrieval and detection."""
    input:
        benchmark_files("brueghel"),


rule evaluate_planted:
    """The same on objects planted in paintings; needs no labels."""
    input:
        benchmark_files("planted"),


rule evaluate_tokyo247:
    """Places by night among places by day; the data must be requested."""
    input:
        benchmark_files("tokyo247"),


rule evaluate_pitts30k:
    """Places at another date; the data must be requested."""
    input:
        benchmark_files("pitts30k"),


rule evaluate_own_places:
    """Places in two folders of one's own."""
    input:
        benchmark_files("own_places"),


rule evaluate_internet:
    """Co-segmentation of web images of one class."""
    input:
        benchmark_files("internet"),


rule evaluate_discovery:
    """Details that paintings repeat, found without a query."""
    input:
        benchmark_files("discovery"),


# Held-out pairs


rule predict_pairs:
    """Every held-out pair is matched, and its first picture with the second one of an unrelated pair."""
    input:
        unpack(matcher_inputs),
        manifests=manifests("heldout"),
        features=pair_features("heldout"),
    output:
        predictions=f"{RESULTS}/pairs_benchmark/{{matcher}}/predictions.parquet",
    log:
        f"logs/{config['run']}/predict_pairs-{{matcher}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_pairs-{{matcher}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=4000,
        runtime=720,
        gpu=1,
        device=DEVICE,
    params:
        limit=config["benchmarks"]["pairs"]["limit"],
        baseline=baseline_flag,
        protocol=config["protocol"],
        version=versions.PREDICTIONS,
    shell:
        "python workflow/scripts/predict_pairs.py"
        " --manifests {input.manifests:q}"
        " --features {input.features:q}"
        " --limit {params.limit}"
        " --checkpoint {input.checkpoint:q}"
        " {params.baseline}"
        " --protocol {params.protocol}"
        " --device {resources.device}"
        " --predictions {output.predictions:q}"
        " > {log:q} 2>&1"


rule metrics_pairs:
    """Mask IoU, correspondence errors, and how well the score tells related pairs from unrelated ones."""
    input:
        manifests=manifests("heldout"),
        predictions=f"{RESULTS}/pairs_benchmark/{{matcher}}/predictions.parquet",
    output:
        f"{RESULTS}/pairs_benchmark/{{matcher}}/metrics.json",
    log:
        f"logs/{config['run']}/metrics_pairs-{{matcher}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        version=versions.METRICS,
    shell:
        "python workflow/scripts/metrics_pairs.py"
        " --manifests {input.manifests:q}"
        " --metrics {output:q}"
        " {input.predictions:q}"
        " > {log:q} 2>&1"


# Details in paintings: Brueghel, and objects planted in paintings


rule plant_details:
    """Objects of held-out photos are Poisson-blended into paintings, at other sizes and angles, and each painting is
    restyled: details whose places are known, on real pictures."""
    input:
        **style_inputs(),
        table=f"{RESULTS}/objects/heldout.parquet",
        images=config["objects"]["heldout"]["images"],
        paintings=planted_paintings(),
    output:
        images=directory(f"{RESULTS}/planted_details/images"),
        labels=f"{RESULTS}/planted_details/labels.json",
    log:
        f"logs/{config['run']}/plant_details.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=60,
        gpu=1 if config["style"]["method"] == "adain" else 0,
        device=DEVICE,
    params:
        settings=planted_settings(),
        style=style_flags,
        seed=config["seed"],
        folder=lambda wildcards, output: str(Path(output.labels).parent),
        version=(versions.RECIPE, versions.PAIRS),
    shell:
        "python workflow/scripts/plant_details.py"
        " --table {input.table:q}"
        " --images {input.images:q}"
        " --paintings {input.paintings:q}"
        " --settings {params.settings:q}"
        " --seed {params.seed}"
        " {params.style}"
        " --device {resources.device}"
        " --folder {params.folder:q}"
        " > {log:q} 2>&1"


rule features_details:
    """The features of all paintings, and of each query: the crop around its box, brought to the protocol's size."""
    input:
        unpack(details_data),
        checkpoint=f"{RESULTS}/checkpoints/untrained.pt",
    output:
        database=f"{RESULTS}/features/{{details}}/database.npy",
        database_header=f"{RESULTS}/features/{{details}}/database.json",
        queries=f"{RESULTS}/features/{{details}}/queries.npy",
        queries_header=f"{RESULTS}/features/{{details}}/queries.json",
    log:
        f"logs/{config['run']}/features_details-{{details}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/features_details-{{details}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=1,
        device=DEVICE,
    params:
        settings=lambda wildcards: details_protocol(
            wildcards.details, ("box_scales", "thresholds")
        ),
        version=versions.FEATURES,
    shell:
        "python workflow/scripts/features_brueghel.py"
        " --images {input.images:q}"
        " --labels {input.labels:q}"
        " --settings {params.settings:q}"
        " --checkpoint {input.checkpoint:q}"
        " --device {resources.device}"
        " --database {output.database:q}"
        " --queries {output.queries:q}"
        " > {log:q} 2>&1"


rule predict_details:
    """Every query is scored against a part of the paintings, with a box in each; one job searches one part."""
    input:
        unpack(matcher_inputs),
        unpack(details_data),
        database=f"{RESULTS}/features/{{details}}/database.npy",
        queries=f"{RESULTS}/features/{{details}}/queries.npy",
    output:
        f"{RESULTS}/{{details}}/{{matcher}}/predictions-{{chunk}}.parquet",
    log:
        f"logs/{config['run']}/predict_details-{{details}}-{{matcher}}-{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_details-{{details}}-{{matcher}}-{{chunk}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=4000,
        runtime=720,
        gpu=1,
        device=DEVICE,
    params:
        settings=lambda wildcards: details_protocol(wildcards.details, ("thresholds",)),
        chunks=lambda wildcards: config["benchmarks"][wildcards.details]["chunks"],
        baseline=baseline_flag,
        version=versions.PREDICTIONS,
    shell:
        "python workflow/scripts/predict_brueghel.py"
        " --images {input.images:q}"
        " --labels {input.labels:q}"
        " --database {input.database:q}"
        " --queries {input.queries:q}"
        " --settings {params.settings:q}"
        " --chunk {wildcards.chunk}"
        " --chunks {params.chunks}"
        " --checkpoint {input.checkpoint:q}"
        " {params.baseline}"
        " --device {resources.device}"
        " --predictions {output:q}"
        " > {log:q} 2>&1"


rule metrics_details:
    """Retrieval and detection average precision, meaned over the queries of a category, then over categories."""
    input:
        unpack(details_data),
        predictions=lambda wildcards: chunk_predictions(
            wildcards.details, wildcards.matcher
        ),
    output:
        metrics=f"{RESULTS}/{{details}}/{{matcher}}/metrics.json",
        queries=f"{RESULTS}/{{details}}/{{matcher}}/queries.parquet",
    log:
        f"logs/{config['run']}/metrics_details-{{details}}-{{matcher}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=details_settings,
        version=versions.METRICS,
    shell:
        "python workflow/scripts/metrics_brueghel.py"
        " --images {input.images:q}"
        " --labels {input.labels:q}"
        " --settings {params.settings:q}"
        " --metrics {output.metrics:q}"
        " --queries {output.queries:q}"
        " {input.predictions:q}"
        " > {log:q} 2>&1"


# Tokyo 24/7 and Pitts30k


rule check_places:
    """The lists, positions and pictures of the data set are checked against each other; where they must be requested
    and are not there, this says so, and nothing else of the run depends on them."""
    input:
        data=drawn_places,
    output:
        f"{RESULTS}/{{places}}/inventory.json",
    log:
        f"logs/{config['run']}/check_places-{{places}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        folder=place_folder,
        files=place_files,
    shell:
        "python workflow/scripts/check_places.py"
        " --benchmark {wildcards.places}"
        " --folder {params.folder:q}"
        " --files {params.files:q}"
        " --inventory {output:q}"
        " > {log:q} 2>&1"


rule rank_places:
    """The first ranking is read from the data set's file, or computed from pooled features of the backbone."""
    input:
        data=drawn_places,
        inventory=f"{RESULTS}/{{places}}/inventory.json",
        checkpoint=f"{RESULTS}/checkpoints/untrained.pt",
    output:
        f"{RESULTS}/{{places}}/ranking.npz",
    log:
        f"logs/{config['run']}/rank_places-{{places}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/rank_places-{{places}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=1,
        device=DEVICE,
    params:
        folder=place_folder,
        files=place_files,
        settings=place_settings,
        version=versions.PREDICTIONS,
    shell:
        "python workflow/scripts/rank_places.py"
        " --folder {params.folder:q}"
        " --files {params.files:q}"
        " --settings {params.settings:q}"
        " --checkpoint {input.checkpoint:q}"
        " --device {resources.device}"
        " --ranking {output:q}"
        " > {log:q} 2>&1"


rule features_places:
    """The features of the queries, and of every database image that is a candidate of any of them, once."""
    input:
        data=drawn_places,
        inventory=f"{RESULTS}/{{places}}/inventory.json",
        ranking=f"{RESULTS}/{{places}}/ranking.npz",
        checkpoint=f"{RESULTS}/checkpoints/untrained.pt",
    output:
        queries=f"{RESULTS}/features/{{places}}/queries.npy",
        queries_header=f"{RESULTS}/features/{{places}}/queries.json",
        candidates=f"{RESULTS}/features/{{places}}/candidates.npy",
        candidates_header=f"{RESULTS}/features/{{places}}/candidates.json",
    log:
        f"logs/{config['run']}/features_places-{{places}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/features_places-{{places}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=1,
        device=DEVICE,
    params:
        folder=place_folder,
        files=place_files,
        settings=place_settings,
        version=versions.FEATURES,
    shell:
        "python workflow/scripts/features_places.py"
        " --folder {params.folder:q}"
        " --files {params.files:q}"
        " --settings {params.settings:q}"
        " --ranking {input.ranking:q}"
        " --checkpoint {input.checkpoint:q}"
        " --device {resources.device}"
        " --queries {output.queries:q}"
        " --candidates {output.candidates:q}"
        " > {log:q} 2>&1"


rule predict_places:
    """The candidates of a part of the queries are scored; one job takes one part."""
    input:
        unpack(matcher_inputs),
        data=drawn_places,
        inventory=f"{RESULTS}/{{places}}/inventory.json",
        ranking=f"{RESULTS}/{{places}}/ranking.npz",
        queries=f"{RESULTS}/features/{{places}}/queries.npy",
        candidates=f"{RESULTS}/features/{{places}}/candidates.npy",
    output:
        f"{RESULTS}/{{places}}/{{matcher}}/predictions-{{chunk}}.parquet",
    log:
        f"logs/{config['run']}/predict_places-{{places}}-{{matcher}}-{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_places-{{places}}-{{matcher}}-{{chunk}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=4000,
        runtime=720,
        gpu=1,
        device=DEVICE,
    params:
        folder=place_folder,
        files=place_files,
        settings=place_settings,
        chunks=lambda wildcards: config["benchmarks"][wildcards.places]["chunks"],
        baseline=baseline_flag,
        version=versions.PREDICTIONS,
    shell:
        "python workflow/scripts/predict_places.py"
        " --folder {params.folder:q}"
        " --files {params.files:q}"
        " --settings {params.settings:q}"
        " --ranking {input.ranking:q}"
        " --queries {input.queries:q}"
        " --candidates {input.candidates:q}"
        " --chunk {wildcards.chunk}"
        " --chunks {params.chunks}"
        " --checkpoint {input.checkpoint:q}"
        " {params.baseline}"
        " --device {resources.device}"
        " --predictions {output:q}"
        " > {log:q} 2>&1"


rule metrics_places:
    """Recall@N: the share of queries with a database image of their place among the first N, before and after re-ranking."""
    input:
        data=drawn_places,
        inventory=f"{RESULTS}/{{places}}/inventory.json",
        ranking=f"{RESULTS}/{{places}}/ranking.npz",
        predictions=lambda wildcards: chunk_predictions(
            wildcards.places, wildcards.matcher
        ),
    output:
        metrics=f"{RESULTS}/{{places}}/{{matcher}}/metrics.json",
        queries=f"{RESULTS}/{{places}}/{{matcher}}/queries.parquet",
    log:
        f"logs/{config['run']}/metrics_places-{{places}}-{{matcher}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        folder=place_folder,
        files=place_files,
        settings=place_settings,
        version=versions.METRICS,
    shell:
        "python workflow/scripts/metrics_places.py"
        " --folder {params.folder:q}"
        " --files {params.files:q}"
        " --settings {params.settings:q}"
        " --ranking {input.ranking:q}"
        " --metrics {output.metrics:q}"
        " --queries {output.queries:q}"
        " {input.predictions:q}"
        " > {log:q} 2>&1"


# All benchmarks


rule join_metrics:
    """The numbers of the trained model stand beside those of the untrained one and of cosine matching."""
    input:
        trained=lambda wildcards: matcher_metrics(wildcards.benchmark, "trained"),
        untrained=lambda wildcards: matcher_metrics(wildcards.benchmark, "untrained"),
        baseline=lambda wildcards: matcher_metrics(wildcards.benchmark, "baseline"),
    output:
        report(
            f"{RESULTS}/metrics/{{benchmark}}.json",
            caption="../report/metrics.rst",
            category="Results",
            subcategory="Metrics",
            labels={"benchmark": "{benchmark}"},
        ),
    log:
        f"logs/{config['run']}/join_metrics-{{benchmark}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=500,
        runtime=10,
    shell:
        "python workflow/scripts/join_metrics.py"
        " --trained {input.trained:q}"
        " --untrained {input.untrained:q}"
        " --baseline {input.baseline:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule picture_pairs:
    """Held-out pairs with the masks and correspondences that each matcher predicts."""
    input:
        **{
            matcher: f"{RESULTS}/pairs_benchmark/{matcher}/predictions.parquet"
            for matcher in MATCHERS
        },
        manifests=manifests("heldout"),
    output:
        report(
            f"{RESULTS}/pictures/pairs.jpg",
            caption="../report/picture.rst",
            category="Results",
            subcategory="Pictures",
            labels={"benchmark": "pairs"},
        ),
    log:
        f"logs/{config['run']}/picture_pairs.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        version=versions.PICTURES,
    shell:
        "python workflow/scripts/picture_pairs.py"
        " --manifests {input.manifests:q}"
        " --trained {input.trained:q}"
        " --untrained {input.untrained:q}"
        " --baseline {input.baseline:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule picture_details:
    """One query of each category with the best results of each matcher."""
    input:
        unpack(details_data),
        unpack(details_predictions),
    output:
        report(
            f"{RESULTS}/pictures/{{details}}.jpg",
            caption="../report/picture.rst",
            category="Results",
            subcategory="Pictures",
            labels={"benchmark": "{details}"},
        ),
    log:
        f"logs/{config['run']}/picture_details-{{details}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        settings=details_settings,
        version=versions.PICTURES,
    shell:
        "python workflow/scripts/picture_brueghel.py"
        " --images {input.images:q}"
        " --labels {input.labels:q}"
        " --settings {params.settings:q}"
        " --trained {input.trained:q}"
        " --untrained {input.untrained:q}"
        " --baseline {input.baseline:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule picture_places:
    """Queries with the first ranking's best image and the best one after re-ranking by each matcher."""
    input:
        data=drawn_places,
        inventory=f"{RESULTS}/{{places}}/inventory.json",
        ranking=f"{RESULTS}/{{places}}/ranking.npz",
        trained=lambda wildcards: chunk_predictions(wildcards.places, "trained"),
        untrained=lambda wildcards: chunk_predictions(wildcards.places, "untrained"),
        baseline=lambda wildcards: chunk_predictions(wildcards.places, "baseline"),
    output:
        report(
            f"{RESULTS}/pictures/{{places}}.jpg",
            caption="../report/picture.rst",
            category="Results",
            subcategory="Pictures",
            labels={"benchmark": "{places}"},
        ),
    log:
        f"logs/{config['run']}/picture_places-{{places}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        folder=place_folder,
        files=place_files,
        settings=place_settings,
        version=versions.PICTURES,
    shell:
        "python workflow/scripts/picture_places.py"
        " --folder {params.folder:q}"
        " --files {params.files:q}"
        " --settings {params.settings:q}"
        " --ranking {input.ranking:q}"
        " --trained {input.trained:q}"
        " --untrained {input.untrained:q}"
        " --baseline {input.baseline:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"
