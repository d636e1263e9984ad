# Makes: predictions, metrics and pictures of every benchmark, for the trained model and both baselines.
# Needs: checkpoints, and each benchmark's data in its published layout. Predictions are stored, and metrics are
# computed from them: a measure can change without running a model.
#
# In a study, tables and pictures take what several runs would make alike from the first of them (maker, inputs.smk).


rule benchmarks:
    """The metrics and pictures of every benchmark that is asked for."""
    input:
        benchmark_files(),


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


rule evaluate_altered:
    """Changed details, alone and in photos: of which picture is each? Needs no labels; SIFT stands beside."""
    input:
        benchmark_files("altered"),


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
        f"{LOGS}/predict_pairs-{{matcher}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_pairs-{{matcher}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=memory(4000),
        runtime=720,
        gpu=1,
        device=DEVICE,
    params:
        limit=setting("benchmarks", "pairs", "limit"),
        baseline=baseline_flag,
        protocol=setting("protocol"),
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
        f"{LOGS}/metrics_pairs-{{matcher}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000),
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
        unpack(style_inputs("planted")),
        unpack(
            listed(object_inputs("planted"), paintings=shared("planted", "paintings"))
        ),
    output:
        images=directory(f"{SHARED}/planted/{{part}}/images"),
        labels=f"{SHARED}/planted/{{part}}/labels.json",
    log:
        f"{SHARED_LOGS}/plant_details-{{part}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000),
        runtime=60,
        gpu=style_gpus("planted"),
        device=DEVICE,
    params:
        settings=shared_json("planted", "settings"),
        style=style_flags("planted"),
        seed=shared("planted", "seed"),
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
        unpack(backbone_inputs("details")),
        unpack(listed(images=shared("details", "images"))),
        labels=shared("details", "labels"),
    output:
        database=f"{SHARED}/details/{{part}}/database.npy",
        database_header=f"{SHARED}/details/{{part}}/database.json",
        queries=f"{SHARED}/details/{{part}}/queries.npy",
        queries_header=f"{SHARED}/details/{{part}}/queries.json",
    log:
        f"{SHARED_LOGS}/features_details-{{part}}.log",
    benchmark:
        f"{SHARED}/details/{{part}}/benchmarks/features_details-{{part}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=memory(4000),
        runtime=240,
        gpu=1,
        device=DEVICE,
    params:
        backbone=trunk("details"),
        settings=shared_json("details", "protocol"),
        version=versions.FEATURES,
    shell:
        "python workflow/scripts/features_details.py"
        " --images {input.images:q}"
        " --labels {input.labels:q}"
        " --settings {params.settings:q}"
        " --weights {input.weights:q}"
        " --backbone {params.backbone:q}"
        " --device {resources.device}"
        " --database {output.database:q}"
        " --queries {output.queries:q}"
        " > {log:q} 2>&1"


rule predict_details:
    """Every query is scored against a part of the paintings, with a box in each; one job searches one part."""
    input:
        unpack(matcher_inputs),
        unpack(listed(details_inputs)),
    output:
        f"{RESULTS}/{{details}}/{{matcher}}/predictions-{{chunk}}.parquet",
    log:
        f"{LOGS}/predict_details-{{details}}-{{matcher}}-{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_details-{{details}}-{{matcher}}-{{chunk}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=memory(4000),
        runtime=720,
        gpu=1,
        device=DEVICE,
    params:
        settings=details_protocol("thresholds"),
        chunks=setting("benchmarks", "{details}", "chunks"),
        baseline=baseline_flag,
        version=versions.PREDICTIONS,
    shell:
        "python workflow/scripts/predict_details.py"
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
        unpack(listed(details_data)),
        predictions=lambda wildcards: chunk_predictions(
            wildcards.run, wildcards.details, wildcards.matcher
        ),
    output:
        metrics=f"{RESULTS}/{{details}}/{{matcher}}/metrics.json",
        queries=f"{RESULTS}/{{details}}/{{matcher}}/queries.parquet",
    log:
        f"{LOGS}/metrics_details-{{details}}-{{matcher}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(4000),
        runtime=60,
    params:
        settings=details_protocol(),
        version=versions.METRICS,
    shell:
        "python workflow/scripts/metrics_details.py"
        " --images {input.images:q}"
        " --labels {input.labels:q}"
        " --settings {params.settings:q}"
        " --metrics {output.metrics:q}"
        " --queries {output.queries:q}"
        " {input.predictions:q}"
        " > {log:q} 2>&1"


# Altered details


rule alter_details:
    """Details of a folder's pictures are altered and repainted, and pasted into photos: queries whose picture is known."""
    input:
        unpack(
            listed(
                pictures=shared("altered", "pictures"),
                hosts=shared("altered", "hosts"),
            )
        ),
    output:
        images=directory(f"{SHARED}/altered/{{part}}/images"),
        queries=f"{SHARED}/altered/{{part}}/queries.json",
    log:
        f"{SHARED_LOGS}/alter_details-{{part}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000),
        runtime=60,
    params:
        settings=shared_json("altered", "settings"),
        seed=shared("altered", "seed"),
        folder=lambda wildcards, output: str(Path(output.queries).parent),
        version=versions.ALTERED,
    shell:
        "python workflow/scripts/alter_details.py"
        " --pictures {input.pictures:q}"
        " --hosts {input.hosts:q}"
        " --settings {params.settings:q}"
        " --seed {params.seed}"
        " --folder {params.folder:q}"
        " > {log:q} 2>&1"


rule index_altered:
    """The pictures are indexed for the search, once for all matchers; the index is deleted when all have searched."""
    input:
        unpack(backbone_inputs("indexes")),
        unpack(listed(pictures=shared("indexes", "pictures"))),
    output:
        temp(directory(f"{SHARED}/indexes/{{part}}/index")),
    log:
        f"{SHARED_LOGS}/index_altered-{{part}}.log",
    benchmark:
        f"{SHARED}/indexes/{{part}}/benchmarks/index_altered-{{part}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=memory(4000),
        runtime=240,
        gpu=1,
        device=DEVICE,
    params:
        backbone=trunk("indexes"),
        version=versions.FEATURES,
    shell:
        "python workflow/scripts/index_altered.py"
        " --pictures {input.pictures:q}"
        " --weights {input.weights:q}"
        " --backbone {params.backbone:q}"
        " --device {resources.device}"
        " --index {output:q}"
        " > {log:q} 2>&1"


rule predict_altered:
    """Every query is searched among the pictures: windows of all of them, and the matcher's look at the best ones."""
    input:
        unpack(matcher_inputs),
        unpack(listed(altered_inputs)),
        index=altered_index,
    output:
        f"{RESULTS}/altered/{{matcher}}/predictions.parquet",
    log:
        f"{LOGS}/predict_altered-{{matcher}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_altered-{{matcher}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=memory(4000),
        runtime=720,
        gpu=1,
        device=DEVICE,
    params:
        matched=setting("benchmarks", "altered", "matched"),
        baseline=baseline_flag,
        version=versions.PREDICTIONS,
    shell:
        "python workflow/scripts/predict_altered.py"
        " --pictures {input.pictures:q}"
        " --queries {input.queries:q}"
        " --index {input.index:q}"
        " --matched {params.matched}"
        " --checkpoint {input.checkpoint:q}"
        " {params.baseline}"
        " --device {resources.device}"
        " --predictions {output:q}"
        " > {log:q} 2>&1"


rule metrics_altered:
    """Whether the right picture comes first, before and after the matcher, and whether the box lies right."""
    input:
        unpack(listed(altered_inputs)),
        predictions=f"{RESULTS}/altered/{{matcher}}/predictions.parquet",
    output:
        metrics=f"{RESULTS}/altered/{{matcher}}/metrics.json",
        results=f"{RESULTS}/altered/{{matcher}}/queries.parquet",
    log:
        f"{LOGS}/metrics_altered-{{matcher}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(1000),
        runtime=30,
    params:
        version=versions.METRICS,
    shell:
        "python workflow/scripts/metrics_altered.py"
        " --queries {input.queries:q}"
        " --predictions {input.predictions:q}"
        " --metrics {output.metrics:q}"
        " --results {output.results:q}"
        " > {log:q} 2>&1"


rule sift_altered:
    """SIFT looks for every query in every picture: what does a method find that has nothing to learn?"""
    input:
        unpack(listed(sift_inputs)),
    output:
        f"{SHARED}/sift/{{part}}/predictions.parquet",
    log:
        f"{SHARED_LOGS}/sift_altered-{{part}}.log",
    benchmark:
        f"{SHARED}/sift/{{part}}/benchmarks/sift_altered-{{part}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000),
        runtime=240,
    params:
        version=versions.PREDICTIONS,
    shell:
        "python workflow/scripts/sift_altered.py"
        " --pictures {input.pictures:q}"
        " --queries {input.queries:q}"
        " --predictions {output:q}"
        " > {log:q} 2>&1"


use rule metrics_altered as metrics_sift with:
    input:
        unpack(listed(sift_inputs)),
        predictions=f"{SHARED}/sift/{{part}}/predictions.parquet",
    output:
        metrics=f"{SHARED}/sift/{{part}}/metrics.json",
        results=f"{SHARED}/sift/{{part}}/queries.parquet",
    log:
        f"{SHARED_LOGS}/metrics_sift-{{part}}.log",


rule join_altered:
    """The numbers of the matchers on altered details stand side by side, and SIFT's with them."""
    input:
        trained=matcher_metrics("trained", "altered"),
        untrained=matcher_metrics("untrained", "altered"),
        baseline=matcher_metrics("baseline", "altered"),
        sift=sift_file("metrics.json"),
    output:
        report(
            f"{RESULTS}/metrics/altered.json",
            caption="../report/metrics.rst",
            category="Results",
            subcategory="Metrics",
            labels={"run": "{run}", "benchmark": "altered"},
        ),
    log:
        f"{LOGS}/join_altered.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=10,
    shell:
        "python workflow/scripts/join_metrics.py"
        " --trained {input.trained:q}"
        " --untrained {input.untrained:q}"
        " --baseline {input.baseline:q}"
        " --sift {input.sift:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule picture_altered:
    """Some details, the queries made of them, and the first picture that each matcher and SIFT find."""
    input:
        unpack(listed(altered_inputs)),
        unpack(altered_predictions),
        sift=sift_file("predictions.parquet"),
    output:
        report(
            f"{RESULTS}/pictures/altered.jpg",
            caption="../report/picture.rst",
            category="Results",
            subcategory="Pictures",
            labels={"run": "{run}", "benchmark": "altered"},
        ),
    log:
        f"{LOGS}/picture_altered.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000),
        runtime=60,
    params:
        version=versions.PICTURES,
    shell:
        "python workflow/scripts/picture_altered.py"
        " --pictures {input.pictures:q}"
        " --queries {input.queries:q}"
        " --trained {input.trained:q}"
        " --untrained {input.untrained:q}"
        " --baseline {input.baseline:q}"
        " --sift {input.sift:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


# Tokyo 24/7 and Pitts30k


rule check_places:
    """The lists, positions and pictures of the data set are checked against each other; where they must be requested
    and are not there, this says so, and nothing else of the run depends on them."""
    input:
        data=lambda wildcards: place_files(PARTS["places", wildcards.part]),
    output:
        f"{SHARED}/places/{{part}}/inventory.json",
    log:
        f"{SHARED_LOGS}/check_places-{{part}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(1000),
        runtime=30,
    params:
        benchmark=lambda wildcards: PARTS["places", wildcards.part].title,
        folder=shared("places", "folder"),
        files=shared_json("places", "files"),
    shell:
        "python workflow/scripts/check_places.py"
        " --benchmark {params.benchmark}"
        " --folder {params.folder:q}"
        " --files {params.files:q}"
        " --inventory {output:q}"
        " > {log:q} 2>&1"


rule rank_places:
    """The first ranking is read from the data set's file, or computed from pooled features of the backbone."""
    input:
        unpack(backbone_inputs("places")),
        data=lambda wildcards: place_files(PARTS["places", wildcards.part]),
        inventory=f"{SHARED}/places/{{part}}/inventory.json",
    output:
        f"{SHARED}/places/{{part}}/ranking.npz",
    log:
        f"{SHARED_LOGS}/rank_places-{{part}}.log",
    benchmark:
        f"{SHARED}/places/{{part}}/benchmarks/rank_places-{{part}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=memory(4000),
        runtime=240,
        gpu=1,
        device=DEVICE,
    params:
        backbone=trunk("places"),
        folder=shared("places", "folder"),
        files=shared_json("places", "files"),
        settings=shared_json("places", "settings"),
        version=versions.PREDICTIONS,
    shell:
        "python workflow/scripts/rank_places.py"
        " --folder {params.folder:q}"
        " --files {params.files:q}"
        " --settings {params.settings:q}"
        " --weights {input.weights:q}"
        " --backbone {params.backbone:q}"
        " --device {resources.device}"
        " --ranking {output:q}"
        " > {log:q} 2>&1"


rule features_places:
    """The features of the queries, and of every database image that is a candidate of any of them, once."""
    input:
        unpack(backbone_inputs("places")),
        data=lambda wildcards: place_files(PARTS["places", wildcards.part]),
        inventory=f"{SHARED}/places/{{part}}/inventory.json",
        ranking=f"{SHARED}/places/{{part}}/ranking.npz",
    output:
        queries=f"{SHARED}/places/{{part}}/queries.npy",
        queries_header=f"{SHARED}/places/{{part}}/queries.json",
        candidates=f"{SHARED}/places/{{part}}/candidates.npy",
        candidates_header=f"{SHARED}/places/{{part}}/candidates.json",
    log:
        f"{SHARED_LOGS}/features_places-{{part}}.log",
    benchmark:
        f"{SHARED}/places/{{part}}/benchmarks/features_places-{{part}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=memory(4000),
        runtime=240,
        gpu=1,
        device=DEVICE,
    params:
        backbone=trunk("places"),
        folder=shared("places", "folder"),
        files=shared_json("places", "files"),
        settings=shared_json("places", "settings"),
        version=versions.FEATURES,
    shell:
        "python workflow/scripts/features_places.py"
        " --folder {params.folder:q}"
        " --files {params.files:q}"
        " --settings {params.settings:q}"
        " --ranking {input.ranking:q}"
        " --weights {input.weights:q}"
        " --backbone {params.backbone:q}"
        " --device {resources.device}"
        " --queries {output.queries:q}"
        " --candidates {output.candidates:q}"
        " > {log:q} 2>&1"


rule predict_places:
    """The candidates of a part of the queries are scored; one job takes one part."""
    input:
        unpack(matcher_inputs),
        unpack(place_data),
        unpack(place_features),
    output:
        f"{RESULTS}/{{places}}/{{matcher}}/predictions-{{chunk}}.parquet",
    log:
        f"{LOGS}/predict_places-{{places}}-{{matcher}}-{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_places-{{places}}-{{matcher}}-{{chunk}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=memory(4000),
        runtime=720,
        gpu=1,
        device=DEVICE,
    params:
        folder=place_setting("folder"),
        files=place_setting("files"),
        settings=place_setting("settings"),
        chunks=setting("benchmarks", "{places}", "chunks"),
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
        unpack(place_data),
        predictions=lambda wildcards: chunk_predictions(
            wildcards.run, wildcards.places, wildcards.matcher
        ),
    output:
        metrics=f"{RESULTS}/{{places}}/{{matcher}}/metrics.json",
        queries=f"{RESULTS}/{{places}}/{{matcher}}/queries.parquet",
    log:
        f"{LOGS}/metrics_places-{{places}}-{{matcher}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(4000),
        runtime=60,
    params:
        folder=place_setting("folder"),
        files=place_setting("files"),
        settings=place_setting("settings"),
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
        trained=matcher_metrics("trained"),
        untrained=matcher_metrics("untrained"),
        baseline=matcher_metrics("baseline"),
    output:
        report(
            f"{RESULTS}/metrics/{{benchmark}}.json",
            caption="../report/metrics.rst",
            category="Results",
            subcategory="Metrics",
            labels={"run": "{run}", "benchmark": "{benchmark}"},
        ),
    log:
        f"{LOGS}/join_metrics-{{benchmark}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
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
        unpack(pair_predictions_by_matcher),
        manifests=manifests("heldout"),
    output:
        report(
            f"{RESULTS}/pictures/pairs.jpg",
            caption="../report/picture.rst",
            category="Results",
            subcategory="Pictures",
            labels={"run": "{run}", "benchmark": "pairs"},
        ),
    log:
        f"{LOGS}/picture_pairs.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000),
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
        unpack(listed(details_data)),
        unpack(predictions_by_matcher("details")),
    output:
        report(
            f"{RESULTS}/pictures/{{details}}.jpg",
            caption="../report/picture.rst",
            category="Results",
            subcategory="Pictures",
            labels={"run": "{run}", "benchmark": "{details}"},
        ),
    log:
        f"{LOGS}/picture_details-{{details}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000),
        runtime=60,
    params:
        settings=details_protocol(),
        version=versions.PICTURES,
    shell:
        "python workflow/scripts/picture_details.py"
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
        unpack(place_data),
        unpack(predictions_by_matcher("places")),
    output:
        report(
            f"{RESULTS}/pictures/{{places}}.jpg",
            caption="../report/picture.rst",
            category="Results",
            subcategory="Pictures",
            labels={"run": "{run}", "benchmark": "{places}"},
        ),
    log:
        f"{LOGS}/picture_places-{{places}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000),
        runtime=60,
    params:
        folder=place_setting("folder"),
        files=place_setting("files"),
        settings=place_setting("settings"),
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
