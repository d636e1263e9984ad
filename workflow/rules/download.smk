# Makes: the published files under resources/, wherever the configuration asks for them. Needs: the internet.
# A download resumes after a break; sizes and SHA-256 are checked where known, recorded on the first download else.
# Archives are unpacked safely: no member may leave the folder.


rule download:
    """The file is fetched from its published address, resumed after interruptions, and checked."""
    output:
        "resources/{file}",
    log:
        "logs/download/{file}.log",
    wildcard_constraints:
        file="|".join(DOWNLOADS).replace(".", "[.]"),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=720,
    params:
        url=lambda wildcards: DOWNLOADS[wildcards.file]["url"],
        expected=lambda wildcards: flags(
            sha256=DOWNLOADS[wildcards.file]["sha256"],
            size=DOWNLOADS[wildcards.file]["size"],
        ),
        record=lambda wildcards: f"resources/.records/{Path(wildcards.file).name}.json",
    shell:
        "python workflow/scripts/download.py"
        " --url {params.url:q}"
        " {params.expected}"
        " --record {params.record:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule unpack_coco_images:
    """The images of one split of COCO 2017 are unpacked."""
    input:
        "resources/coco2017/{part}2017.zip",
    output:
        directory("resources/coco2017/{part}2017"),
    log:
        "logs/download/unpack_coco_images-{part}.log",
    wildcard_constraints:
        part="train|val",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=120,
    params:
        inside=lambda wildcards: config["downloads"][f"coco_{wildcards.part}_images"][
            "folder"
        ],
    shell:
        "python workflow/scripts/unpack.py"
        " --archive {input:q}"
        " --prefix {params.inside:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule unpack_coco_annotations:
    """The annotations of COCO 2017 are unpacked."""
    input:
        "resources/coco2017/annotations_trainval2017.zip",
    output:
        train="resources/coco2017/annotations/instances_train2017.json",
        val="resources/coco2017/annotations/instances_val2017.json",
    log:
        "logs/download/unpack_coco_annotations.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=30,
    params:
        inside=config["downloads"]["coco_annotations"]["folder"],
        folder=lambda wildcards, output: Path(output.train).parent,
    shell:
        "python workflow/scripts/unpack.py"
        " --archive {input:q}"
        " --prefix {params.inside:q}"
        " --output {params.folder:q}"
        " > {log:q} 2>&1"


rule unpack_brueghel:
    """The paintings of the Brueghel data set, in ArtMiner's edition, are unpacked."""
    input:
        "resources/brueghel/Brueghel.zip",
    output:
        directory("resources/brueghel/images"),
    log:
        "logs/download/unpack_brueghel.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=30,
    params:
        inside=inner_folder("brueghel_images", "*.jpg"),
    shell:
        "python workflow/scripts/unpack.py"
        " --archive {input:q}"
        " {params.inside}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule unpack_internet:
    """The Internet data set (ObjectDiscovery) is unpacked; its subsets of 100 images are used."""
    input:
        "resources/ObjectDiscovery-data.zip",
    output:
        directory("resources/internet"),
    log:
        "logs/download/unpack_internet.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=60,
    params:
        inside=inner_folder(
            "internet",
            "Airplane100/GroundTruth/*.png",
            "Car100/GroundTruth/*.png",
            "Horse100/GroundTruth/*.png",
        ),
    shell:
        "python workflow/scripts/unpack.py"
        " --archive {input:q}"
        " {params.inside}"
        " --output {output:q}"
        " > {log:q} 2>&1"
