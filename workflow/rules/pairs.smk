# Makes: object tables, style statistics, shards of pairs with manifests, galleries.
# Needs: photos with COCO annotations, a folder of style images (and AdaIN's weights where it restyles).


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


if config["objects"]["source"] == "annotations":

    rule object_table:
        """The annotations become a table of objects; what is broken, missing, too small or too large is counted
        and named."""
        input:
            annotations=lambda wildcards: config["objects"][wildcards.split][
                "annotations"
            ],
            images=lambda wildcards: config["objects"][wildcards.split]["images"],
        output:
            table=f"{RESULTS}/objects/{{split}}.parquet",
            problems=report(
                f"{RESULTS}/objects/{{split}}.json",
                caption="../report/objects.rst",
                category="Pairs",
                subcategory="Objects",
            ),
        log:
            f"logs/{config['run']}/object_table-{{split}}.log",
        conda:
            ENVIRONMENT
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=60,
        params:
            settings=only(
                config["objects"], "min_area_share", "max_area_share", "max_bad_share"
            ),
            version=versions.OBJECT_TABLE,
        shell:
            "python workflow/scripts/object_table.py"
            " --annotations {input.annotations:q}"
            " --images {input.images:q}"
            " --settings {params.settings:q}"
            " --table {output.table:q}"
            " --problems {output.problems:q}"
            " > {log:q} 2>&1"

else:

    rule segment_table:
        """Photos are cut into regions by graph segmentation; those that may be objects, by size, solidity and how
        much of the border they touch, become the table."""
        input:
            images=lambda wildcards: config["objects"][wildcards.split]["images"],
        output:
            table=f"{RESULTS}/objects/{{split}}.parquet",
            problems=report(
                f"{RESULTS}/objects/{{split}}.json",
                caption="../report/objects.rst",
                category="Pairs",
                subcategory="Objects",
            ),
        log:
            f"logs/{config['run']}/segment_table-{{split}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/segment_table-{{split}}.tsv"
        conda:
            ENVIRONMENT
        threads: 8
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=1440,
        params:
            settings=json.dumps(
                {
                    **config["objects"]["segments"],
                    "max_bad_share": config["objects"]["max_bad_share"],
                }
            ),
            version=versions.SEGMENTS,
        shell:
            "python workflow/scripts/segment_table.py"
            " --images {input.images:q}"
            " --settings {params.settings:q}"
            " --table {output.table:q}"
            " --problems {output.problems:q}"
            " > {log:q} 2>&1"


rule style_statistics:
    """Of every style image the channel means and deviations that restyling needs are computed once."""
    input:
        **{name: path for name, path in style_inputs().items() if name != "statistics"},
        folder=config["style"]["folder"],
    output:
        f"{RESULTS}/styles.npz",
    log:
        f"logs/{config['run']}/style_statistics.log",
    benchmark:
        f"{RESULTS}/benchmarks/style_statistics.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=4000,
        runtime=120,
        gpu=1 if config["style"]["method"] == "adain" else 0,
        device=DEVICE,
    params:
        method=config["style"]["method"],
        weights=lambda wildcards, input: flags(
            vgg=input.get("vgg"), decoder=input.get("decoder")
        ),
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
    """Objects are cut out of photos, transformed, Poisson-blended into other photos, and both pictures are
    restyled; every choice is drawn from the pair's address (seed, kind, index)."""
    input:
        **style_inputs(),
        table=f"{RESULTS}/objects/{{split}}.parquet",
        images=lambda wildcards: config["objects"][wildcards.split]["images"],
    output:
        tar=f"{RESULTS}/pairs/{{split}}/{{kind}}/{{kind}}-{{shard}}.tar",
        manifest=f"{RESULTS}/pairs/{{split}}/{{kind}}/{{kind}}-{{shard}}.parquet",
    log:
        f"logs/{config['run']}/pair_shard-{{split}}-{{kind}}-{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pair_shard-{{split}}-{{kind}}-{{shard}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=240,
        gpu=1 if config["style"]["method"] == "adain" else 0,
        device=DEVICE,
    params:
        settings=without(
            config["pairs"],
            "train",
            "heldout",
            "pairs_per_shard",
            "jpeg_quality",
            "gallery",
        ),
        number=lambda wildcards: config["pairs"][wildcards.split][wildcards.kind],
        per_shard=config["pairs"]["pairs_per_shard"],
        jpeg_quality=config["pairs"]["jpeg_quality"],
        max_bad_share=config["objects"]["max_bad_share"],
        style=style_flags,
        seed=config["seed"],
        version=(versions.RECIPE, versions.PAIRS),
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
        manifests=lambda wildcards: [
            ancient(path) for path in shard_manifests(wildcards.split, wildcards.kind)
        ],
        table=f"{RESULTS}/objects/{{split}}.parquet",
        statistics=[
            path for name, path in style_inputs().items() if name == "statistics"
        ],
    output:
        f"{RESULTS}/pairs/{{split}}/{{kind}}/manifest.json",
    log:
        f"logs/{config['run']}/pair_manifest-{{split}}-{{kind}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        shards=lambda wildcards: shards(wildcards.split, wildcards.kind),
        settings=lambda wildcards: json.dumps(
            {
                **{
                    key: value
                    for key, value in config["pairs"].items()
                    if key not in ("train", "heldout", "gallery")
                },
                "seed": config["seed"],
                "style": config["style"]["method"],
                **(
                    {"precision": config["style"]["precision"]}
                    if config["style"]["method"] == "adain"
                    else {}
                ),
                "pairs": config["pairs"][wildcards.split][wildcards.kind],
            }
        ),
        version=(versions.RECIPE, versions.PAIRS),
    shell:
        "python workflow/scripts/pair_manifest.py"
        " --kind {wildcards.kind}"
        " --settings {params.settings:q}"
        " --output {output:q}"
        " {params.shards:q}"
        " > {log:q} 2>&1"


rule gallery:
    """A sample of the set, spread evenly over it, is shown with masks and correspondences."""
    input:
        manifest=f"{RESULTS}/pairs/{{split}}/{{kind}}/manifest.json",
    output:
        page=report(
            f"{RESULTS}/galleries/{{split}}-{{kind}}.html",
            caption="../report/gallery.rst",
            category="Pairs",
            subcategory="Galleries",
            labels={"split": "{split}", "kind": "{kind}"},
        ),
        sheet=f"{RESULTS}/galleries/{{split}}-{{kind}}.jpg",
    log:
        f"logs/{config['run']}/gallery-{{split}}-{{kind}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        pairs=config["pairs"]["gallery"],
        version=versions.PICTURES,
    shell:
        "python workflow/scripts/gallery.py"
        " --manifest {input.manifest:q}"
        " --pairs {params.pairs}"
        " --page {output.page:q}"
        " --sheet {output.sheet:q}"
        " > {log:q} 2>&1"
