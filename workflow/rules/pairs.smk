# Makes: lists of folders, object tables, style statistics, shards of pairs with manifests, galleries.
# Needs: photos, annotated or not, a folder of style images (and AdaIN's weights where it restyles).


rule pairs:
    """All pairs, their manifests and galleries."""
    input:
        [pair_set_files(kind) for kind in KINDS],


rule pairs_1obj:
    """The pairs with one object."""
    input:
        pair_set_files("1obj"),


rule pairs_2obj:
    """The pairs with two objects."""
    input:
        pair_set_files("2obj"),


rule list_folder:
    """The pictures of a folder, or YOLO's label files, are listed with sizes and times, anew only where one of them
    changes. Stages depend on this list: the folder's own time says nothing of its pictures.
    """
    input:
        ancient(lambda wildcards: FOLDERS[wildcards.folder]),
    output:
        f"{SHARED}/lists/{{folder}}.{{files}}.json",
    log:
        f"{SHARED_LOGS}/list_folder-{{folder}}-{{files}}.log",
    wildcard_constraints:
        folder="|".join(map(re.escape, FOLDERS)),
        files="pictures|labels",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=30,
    params:
        state=lambda wildcards: state_of(FOLDERS[wildcards.folder], wildcards.files),
    shell:
        "python workflow/scripts/list_folder.py"
        " --folder {input:q}"
        " --kind {wildcards.files}"
        " --list {output:q}"
        " > {log:q} 2>&1"


rule object_table:
    """The annotations become a table of objects; what is broken, missing, too small or too large is counted and
    named."""
    input:
        unpack(listed(images=shared("objects", "images"))),
        annotations=shared("objects", "annotations"),
    output:
        table=f"{SHARED}/objects/{{part}}/objects.parquet",
        problems=report(
            f"{SHARED}/objects/{{part}}/objects.json",
            caption="../report/objects.rst",
            category="Pairs",
            subcategory="Objects",
            labels={"objects": "{part}"},
        ),
    log:
        f"{SHARED_LOGS}/object_table-{{part}}.log",
    benchmark:
        f"{SHARED}/objects/{{part}}/benchmarks/object_table.tsv"
    wildcard_constraints:
        part="annotations-[^/]+",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(4000),
        runtime=60,
    params:
        settings=shared_json("objects", "settings"),
        version=versions.OBJECT_TABLE,
    shell:
        "python workflow/scripts/object_table.py"
        " --annotations {input.annotations:q}"
        " --images {input.images:q}"
        " --settings {params.settings:q}"
        " --table {output.table:q}"
        " --problems {output.problems:q}"
        " > {log:q} 2>&1"


rule segment_table:
    """Photos are cut into regions by graph segmentation; those that may be objects, by size, solidity and how much of
    the border they touch, become the table."""
    input:
        unpack(listed(images=shared("objects", "images"))),
    output:
        table=f"{SHARED}/objects/{{part}}/objects.parquet",
        problems=report(
            f"{SHARED}/objects/{{part}}/objects.json",
            caption="../report/objects.rst",
            category="Pairs",
            subcategory="Objects",
            labels={"objects": "{part}"},
        ),
    log:
        f"{SHARED_LOGS}/segment_table-{{part}}.log",
    benchmark:
        f"{SHARED}/objects/{{part}}/benchmarks/segment_table.tsv"
    wildcard_constraints:
        part="segments-[^/]+",
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=memory(4000),
        runtime=1440,
    params:
        settings=shared_json("objects", "settings"),
        version=versions.SEGMENTS,
    shell:
        "python workflow/scripts/segment_table.py"
        " --images {input.images:q}"
        " --settings {params.settings:q}"
        " --table {output.table:q}"
        " --problems {output.problems:q}"
        " > {log:q} 2>&1"


rule yolo_table:
    """Outlines in YOLO's label files become a table of objects, as annotations do."""
    input:
        unpack(class_names),
        unpack(
            listed(
                images=shared("objects", "images"),
                labels=shared("objects", "labels"),
            )
        ),
    output:
        table=f"{SHARED}/objects/{{part}}/objects.parquet",
        problems=report(
            f"{SHARED}/objects/{{part}}/objects.json",
            caption="../report/objects.rst",
            category="Pairs",
            subcategory="Objects",
            labels={"objects": "{part}"},
        ),
    log:
        f"{SHARED_LOGS}/yolo_table-{{part}}.log",
    benchmark:
        f"{SHARED}/objects/{{part}}/benchmarks/yolo_table.tsv"
    wildcard_constraints:
        part="yolo-[^/]+",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(4000),
        runtime=60,
    params:
        names=lambda wildcards, input: flags(names=input.get("names")),
        settings=shared_json("objects", "settings"),
        version=versions.OBJECT_TABLE,
    shell:
        "python workflow/scripts/yolo_table.py"
        " --images {input.images:q}"
        " --labels {input.labels:q}"
        " {params.names}"
        " --settings {params.settings:q}"
        " --table {output.table:q}"
        " --problems {output.problems:q}"
        " > {log:q} 2>&1"


rule join_objects:
    """The tables of several sources become one, with photos, annotations and categories numbered anew; photos that are
    there twice, or held out, are left out and named."""
    input:
        unpack(listed(joined_inputs)),
    output:
        table=f"{SHARED}/objects/{{part}}/objects.parquet",
        problems=report(
            f"{SHARED}/objects/{{part}}/objects.json",
            caption="../report/objects.rst",
            category="Pairs",
            subcategory="Objects",
            labels={"objects": "{part}"},
        ),
    log:
        f"{SHARED_LOGS}/join_objects-{{part}}.log",
    benchmark:
        f"{SHARED}/objects/{{part}}/benchmarks/join_objects.tsv"
    wildcard_constraints:
        part="joined-[^/]+",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(4000),
        runtime=120,
    params:
        sources=joined_sources,
        heldout=heldout_flags,
        version=versions.JOINED_OBJECTS,
    shell:
        "python workflow/scripts/join_objects.py"
        " --sources {params.sources}"
        " --tables {input.tables:q}"
        " --counts {input.counts:q}"
        " {params.heldout}"
        " --table {output.table:q}"
        " --problems {output.problems:q}"
        " > {log:q} 2>&1"


rule style_statistics:
    """Of every style image the channel means and deviations that restyling needs are computed once."""
    input:
        unpack(style_weights),
        unpack(listed(folder=shared("styles", "folder"))),
    output:
        f"{SHARED}/styles/{{part}}/statistics.npz",
    log:
        f"{SHARED_LOGS}/style_statistics-{{part}}.log",
    benchmark:
        f"{SHARED}/styles/{{part}}/benchmarks/style_statistics.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(4000),
        runtime=120,
        gpu=lambda wildcards: int(shared("styles", "method")(wildcards) == "adain"),
        device=DEVICE,
    params:
        method=shared("styles", "method"),
        weights=lambda wildcards: flags(**style_weights(wildcards)),
        version=versions.STYLE_STATISTICS,
    shell:
        "python workflow/scripts/style_statistics.py"
        " --folder {input.folder:q}"
        " --method {params.method}"
        " {params.weights}"
        " --device {resources.device}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule pair_shard:
    """Objects are cut out of photos, transformed, Poisson-blended into other photos, and both pictures are restyled;
    every choice is drawn from the pair's address (seed, kind, index)."""
    input:
        unpack(style_inputs("pairs")),
        unpack(listed(object_inputs("pairs"))),
    output:
        tar=f"{SHARED}/pairs/{{part}}/{{kind}}-{{shard}}.tar",
        manifest=f"{SHARED}/pairs/{{part}}/{{kind}}-{{shard}}.parquet",
    log:
        f"{SHARED_LOGS}/pair_shard-{{part}}-{{kind}}-{{shard}}.log",
    benchmark:
        f"{SHARED}/pairs/{{part}}/benchmarks/pair_shard-{{kind}}-{{shard}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(1500),
        runtime=240,
        gpu=style_gpus("pairs"),
        device=DEVICE,
    params:
        settings=shared_json("pairs", "settings"),
        number=shared("pairs", "pairs"),
        per_shard=shared("pairs", "pairs_per_shard"),
        jpeg_quality=shared("pairs", "jpeg_quality"),
        max_bad_share=shared("pairs", "max_bad_share"),
        style=style_flags("pairs"),
        seed=shared("pairs", "seed"),
    shell:
        "python workflow/scripts/pair_shard.py"
        " --table {input.table:q}"
        " --images {input.images:q}"
        " --kind {wildcards.kind}"
        " --shard {wildcards.shard}"
        " --pairs {params.number}"
        " --pairs-per-shard {params.per_shard}"
        " --settings {params.settings:q}"
        " --seed {params.seed}"
        " {params.style}"
        " --device {resources.device}"
        " --jpeg-quality {params.jpeg_quality}"
        " --max-unreadable-share {params.max_bad_share}"
        " --tar {output.tar:q}"
        " --manifest {output.manifest:q}"
        " > {log:q} 2>&1"


rule pair_manifest:
    """The shards of a set are listed with counts, sizes and SHA-256. What reads pairs depends on this small file
    alone. A shard that is lost and made again comes out the same, so neither its absence nor its time is a reason
    to train again; new objects, styles or settings are."""
    input:
        unpack(pair_origins),
        manifests=shard_manifests,
    output:
        f"{SHARED}/pairs/{{part}}/manifest.json",
    log:
        f"{SHARED_LOGS}/pair_manifest-{{part}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(1000),
        runtime=60,
    params:
        kind=lambda wildcards: PARTS["pairs", wildcards.part].title,
        shards=shards,
        settings=pair_set_settings,
    shell:
        "python workflow/scripts/pair_manifest.py"
        " --kind {params.kind}"
        " --settings {params.settings:q}"
        " --output {output:q}"
        " {params.shards:q}"
        " > {log:q} 2>&1"


rule gallery:
    """A sample of the set, spread evenly over it, is shown with masks and correspondences."""
    input:
        manifest=pair_set_manifest,
    output:
        page=report(
            f"{RESULTS}/galleries/{{split}}-{{kind}}.html",
            caption="../report/gallery.rst",
            category="Pairs",
            subcategory="Galleries",
            labels={"run": "{run}", "set": "{split} {kind}"},
        ),
        sheet=f"{RESULTS}/galleries/{{split}}-{{kind}}.jpg",
    log:
        f"{LOGS}/gallery-{{split}}-{{kind}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(1000),
        runtime=30,
    params:
        pairs=setting("pairs", "gallery"),
        version=versions.PICTURES,
    shell:
        "python workflow/scripts/gallery.py"
        " --manifest {input.manifest:q}"
        " --pairs {params.pairs}"
        " --page {output.page:q}"
        " --sheet {output.sheet:q}"
        " > {log:q} 2>&1"
