# Makes: what the images of a collection share, by the correspondence graph: segmentations of the classes of Internet,
# and the details that paintings repeat (discovery). Needs: checkpoints, and the images. Every stage is a file:
# images, features, pairs, predictions (in chunks), graph, eigenvectors, and masks or regions.


rule list_collection:
    """The images of a collection in order; its ground truth is checked before any work is done."""
    input:
        unpack(listed(collection_data)),
    output:
        f"{SHARED}/collections/{{part}}/images.json",
    log:
        f"{SHARED_LOGS}/list_collection-{{part}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000),
        runtime=30,
    params:
        named=collection_flags,
        version=versions.COLLECTION,
    shell:
        "python workflow/scripts/list_collection.py"
        " --folder {input.folder:q}"
        " {params.named}"
        " --collection {output:q}"
        " > {log:q} 2>&1"


rule features_collection:
    """The features of all images of a collection, each encoded once; of mirror images as well under the flip test."""
    input:
        unpack(listed(collection_data)),
        unpack(backbone_inputs("collections")),
        collection=f"{SHARED}/collections/{{part}}/images.json",
    output:
        store=f"{SHARED}/collections/{{part}}/features.npy",
        header=f"{SHARED}/collections/{{part}}/features.json",
    log:
        f"{SHARED_LOGS}/features_collection-{{part}}.log",
    benchmark:
        f"{SHARED}/collections/{{part}}/benchmarks/features_collection-{{part}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=memory(4000),
        runtime=240,
        gpu=1,
        device=DEVICE,
    params:
        backbone=trunk("collections"),
        image_size=shared("collections", "image_size"),
        flip=lambda wildcards: "--flip" * shared("collections", "flip")(wildcards),
        version=versions.FEATURES,
    shell:
        "python workflow/scripts/features_collection.py"
        " --collection {input.collection:q}"
        " --image-size {params.image_size}"
        " {params.flip}"
        " --weights {input.weights:q}"
        " --backbone {params.backbone:q}"
        " --device {resources.device}"
        " --store {output.store:q}"
        " > {log:q} 2>&1"


rule candidate_pairs:
    """All image pairs, or those in which either image has the other among the most alike ones, by pooled windows."""
    input:
        collection=collection_images(),
        features=collection_features,
        weights=run_trunk_weights,
    output:
        f"{RESULTS}/{{task}}/{{collection}}-pairs.npz",
    log:
        f"{LOGS}/candidate_pairs-{{task}}-{{collection}}.log",
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=memory(4000),
        runtime=120,
        device=DEVICE,
    params:
        backbone=run_trunk,
        candidates=setting("benchmarks", "{task}", "candidates"),
        windows=setting("benchmarks", "{task}", "windows"),
        version=versions.COLLECTION,
    shell:
        "python workflow/scripts/candidate_pairs.py"
        " --collection {input.collection:q}"
        " --features {input.features:q}"
        " --weights {input.weights:q}"
        " --backbone {params.backbone:q}"
        " --candidates {params.candidates}"
        " --windows {params.windows}"
        " --device {resources.device}"
        " --pairs {output:q}"
        " > {log:q} 2>&1"


rule match_collection:
    """A part of the image pairs is matched; pairs that share nothing are dropped."""
    input:
        unpack(matcher_inputs),
        collection=collection_images(),
        pairs=candidate_pairs,
        features=collection_features,
    output:
        f"{RESULTS}/{{task}}/{{matcher}}/{{collection}}-predictions-{{chunk}}.npz",
    log:
        f"{LOGS}/match_collection-{{task}}-{{matcher}}-{{collection}}-{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/match_collection-{{task}}-{{matcher}}-{{collection}}-{{chunk}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=memory(4000),
        runtime=720,
        gpu=1,
        device=DEVICE,
    params:
        chunks=setting("benchmarks", "{task}", "chunks"),
        settings=collection_settings("flip", "min_share"),
        baseline=baseline_flag,
        version=versions.PREDICTIONS,
    shell:
        "python workflow/scripts/match_collection.py"
        " --collection {input.collection:q}"
        " --pairs {input.pairs:q}"
        " --chunk {wildcards.chunk}"
        " --chunks {params.chunks}"
        " --settings {params.settings:q}"
        " --features {input.features:q}"
        " --checkpoint {input.checkpoint:q}"
        " {params.baseline}"
        " --device {resources.device}"
        " --predictions {output:q}"
        " > {log:q} 2>&1"


rule correspondence_graph:
    """Confident correspondences of neighbours become nodes; edges say how well two of them close a cycle over three
    images."""
    input:
        collection=collection_images(),
        predictions=collection_predictions,
    output:
        f"{RESULTS}/{{task}}/{{matcher}}/{{collection}}-graph.npz",
    log:
        f"{LOGS}/correspondence_graph-{{task}}-{{matcher}}-{{collection}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/correspondence_graph-{{task}}-{{matcher}}-{{collection}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(8000),
        runtime=120,
    params:
        settings=graph_settings,
        version=versions.GRAPH,
    shell:
        "python workflow/scripts/correspondence_graph.py"
        " --collection {input.collection:q}"
        " --settings {params.settings:q}"
        " --graph {output:q}"
        " {input.predictions:q}"
        " > {log:q} 2>&1"


rule eigenvectors:
    """The graph's principal eigenvector (Internet), or the leading ones of several clusters (discovery)."""
    input:
        f"{RESULTS}/{{task}}/{{matcher}}/{{collection}}-graph.npz",
    output:
        f"{RESULTS}/{{task}}/{{matcher}}/{{collection}}-eigenvectors.npz",
    log:
        f"{LOGS}/eigenvectors-{{task}}-{{matcher}}-{{collection}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/eigenvectors-{{task}}-{{matcher}}-{{collection}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(8000),
        runtime=120,
    params:
        which=eigenvector_flags,
        version=versions.GRAPH,
    shell:
        "python workflow/scripts/eigenvectors.py"
        " --graph {input:q}"
        " {params.which}"
        " --eigenvectors {output:q}"
        " > {log:q} 2>&1"


# Internet


rule segment_internet:
    """The eigenvector gives each cell of each image a soft mask, and GrabCut the segmentation at full resolution."""
    input:
        unpack(listed(folder=setting("benchmarks", "internet", "folder"))),
        collection=collection_images("internet"),
        graph=f"{RESULTS}/internet/{{matcher}}/{{collection}}-graph.npz",
        eigenvectors=f"{RESULTS}/internet/{{matcher}}/{{collection}}-eigenvectors.npz",
    output:
        masks=f"{RESULTS}/internet/{{matcher}}/{{collection}}-masks.npz",
        segmentations=f"{RESULTS}/internet/{{matcher}}/{{collection}}-segmentations.parquet",
    log:
        f"{LOGS}/segment_internet-{{matcher}}-{{collection}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/segment_internet-{{matcher}}-{{collection}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(4000),
        runtime=120,
    params:
        settings=segmentation_settings,
        version=versions.SEGMENTATION,
    shell:
        "python workflow/scripts/segment_internet.py"
        " --collection {input.collection:q}"
        " --settings {params.settings:q}"
        " --graph {input.graph:q}"
        " --eigenvectors {input.eigenvectors:q}"
        " --masks {output.masks:q}"
        " --segmentations {output.segmentations:q}"
        " > {log:q} 2>&1"


rule metrics_internet:
    """Precision (share of pixels that are right) and Jaccard index, means over images and over classes."""
    input:
        lambda wildcards: segmentations(wildcards.run, wildcards.matcher),
    output:
        f"{RESULTS}/internet/{{matcher}}/metrics.json",
    log:
        f"{LOGS}/metrics_internet-{{matcher}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000),
        runtime=60,
    params:
        version=versions.METRICS,
    shell:
        "python workflow/scripts/metrics_internet.py"
        " --metrics {output:q}"
        " {input:q}"
        " > {log:q} 2>&1"


rule picture_internet:
    """Images with soft masks and segmentations of each matcher, beside the truth."""
    input:
        unpack(internet_by_matcher),
        unpack(listed(folder=setting("benchmarks", "internet", "folder"))),
    output:
        report(
            f"{RESULTS}/pictures/internet.jpg",
            caption="../report/picture.rst",
            category="Results",
            subcategory="Pictures",
            labels={"run": "{run}", "benchmark": "internet"},
        ),
    log:
        f"{LOGS}/picture_internet.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000),
        runtime=60,
    params:
        classes=setting("benchmarks", "internet", "classes"),
        version=versions.PICTURES,
    shell:
        "python workflow/scripts/picture_internet.py"
        " --folder {input.folder:q}"
        " --classes {params.classes:q}"
        " --trained {input.trained:q}"
        " --untrained {input.untrained:q}"
        " --baseline {input.baseline:q}"
        " --trained-masks {input.trained_masks:q}"
        " --untrained-masks {input.untrained_masks:q}"
        " --baseline-masks {input.baseline_masks:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


# Discovery in paintings


rule cluster_regions:
    """Each cluster's cells, connected, are its regions in the images."""
    input:
        collection=collection_images("discovery"),
        graph=f"{RESULTS}/discovery/{{matcher}}/{{collection}}-graph.npz",
        eigenvectors=f"{RESULTS}/discovery/{{matcher}}/{{collection}}-eigenvectors.npz",
    output:
        regions=f"{RESULTS}/discovery/{{matcher}}/{{collection}}-regions.parquet",
        correspondences=f"{RESULTS}/discovery/{{matcher}}/{{collection}}-correspondences.parquet",
    log:
        f"{LOGS}/cluster_regions-{{matcher}}-{{collection}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(4000),
        runtime=60,
    params:
        region_share=setting("benchmarks", "discovery", "region_share"),
        version=versions.SEGMENTATION,
    shell:
        "python workflow/scripts/cluster_regions.py"
        " --collection {input.collection:q}"
        " --graph {input.graph:q}"
        " --eigenvectors {input.eigenvectors:q}"
        " --region-share {params.region_share}"
        " --regions {output.regions:q}"
        " --correspondences {output.correspondences:q}"
        " > {log:q} 2>&1"


rule metrics_discovery:
    """For each labelled detail the F1 of the cluster that shows it best, and the mean over details."""
    input:
        unpack(listed(paintings)),
        regions=f"{RESULTS}/discovery/{{matcher}}/paintings-regions.parquet",
    output:
        f"{RESULTS}/discovery/{{matcher}}/metrics.json",
    log:
        f"{LOGS}/metrics_discovery-{{matcher}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000),
        runtime=60,
    params:
        threshold=setting("benchmarks", "discovery", "threshold"),
        version=versions.METRICS,
    shell:
        "python workflow/scripts/metrics_discovery.py"
        " --images {input.images:q}"
        " --labels {input.labels:q}"
        " --threshold {params.threshold}"
        " --regions {input.regions:q}"
        " --metrics {output:q}"
        " > {log:q} 2>&1"


rule picture_discovery:
    """The best cluster of each labelled detail, right regions in green."""
    input:
        unpack(listed(paintings)),
        regions=f"{RESULTS}/discovery/trained/paintings-regions.parquet",
    output:
        report(
            f"{RESULTS}/pictures/discovery.jpg",
            caption="../report/picture.rst",
            category="Results",
            subcategory="Pictures",
            labels={"run": "{run}", "benchmark": "discovery"},
        ),
    log:
        f"{LOGS}/picture_discovery.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000),
        runtime=60,
    params:
        threshold=setting("benchmarks", "discovery", "threshold"),
        version=versions.PICTURES,
    shell:
        "python workflow/scripts/picture_discovery.py"
        " --images {input.images:q}"
        " --labels {input.labels:q}"
        " --threshold {params.threshold}"
        " --regions {input.regions:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule cluster_page:
    """The page of clusters: a strip of regions for each; a click leads to the pairs and their correspondences."""
    input:
        unpack(listed(images=setting("benchmarks", "brueghel", "images"))),
        collection=collection_images("discovery", "paintings"),
        regions=f"{RESULTS}/discovery/trained/paintings-regions.parquet",
        correspondences=f"{RESULTS}/discovery/trained/paintings-correspondences.parquet",
    output:
        report(
            f"{RESULTS}/clusters.html",
            caption="../report/clusters.rst",
            category="Results",
            subcategory="Pictures",
            labels={"run": "{run}", "benchmark": "discovery, clusters"},
        ),
    log:
        f"{LOGS}/cluster_page.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000),
        runtime=60,
    params:
        version=versions.PICTURES,
    shell:
        "python workflow/scripts/cluster_page.py"
        " --collection {input.collection:q}"
        " --regions {input.regions:q}"
        " --correspondences {input.correspondences:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"
