# Makes: the demo world under resources/demo/, drawn from the seed. Needs: nothing.


rule draw_coco:
    """Scenes of textured objects on textured grounds are drawn and written as a COCO data set, with crowds,
    objects of several parts, run-length encodings, one broken annotation and one unreadable image.
    """
    output:
        annotations=f"{DEMO}/coco/{{split}}/annotations.json",
        images=directory(f"{DEMO}/coco/{{split}}/images"),
    log:
        "logs/demo/coco-{split}.log",
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=memory(500),
        runtime=10,
    params:
        folder=lambda wildcards, output: Path(output.annotations).parent,
        images=lambda wildcards: config["demo"][f"{wildcards.split}_images"],
        seed=config["seed"],
        version=versions.DEMO_WORLD,
    shell:
        "python workflow/scripts/draw_coco.py"
        " --folder {params.folder:q}"
        " --split {wildcards.split}"
        " --images {params.images}"
        " --seed {params.seed}"
        " --workers {threads}"
        " > {log:q} 2>&1"


rule draw_style_images:
    """Style images are drawn: fields of few colours, each with a mood of its own."""
    output:
        directory(f"{DEMO}/styles"),
    log:
        "logs/demo/styles.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=10,
    params:
        images=config["demo"]["style_images"],
        seed=config["seed"],
        version=versions.DEMO_WORLD,
    shell:
        "python workflow/scripts/draw_style_images.py"
        " --folder {output:q}"
        " --images {params.images}"
        " --seed {params.seed}"
        " > {log:q} 2>&1"


rule draw_brueghel:
    """Paintings are drawn in which details recur under change of style, scale and small rotation, among
    distractors of the same kinds, with labels in the published format."""
    output:
        images=directory(f"{DEMO}/brueghel/images"),
        labels=f"{DEMO}/brueghel/labels.json",
    log:
        "logs/demo/brueghel.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=10,
    params:
        folder=lambda wildcards, output: Path(output.labels).parent,
        sizes=json.dumps(config["demo"]["brueghel"]),
        seed=config["seed"],
        version=versions.DEMO_WORLD,
    shell:
        "python workflow/scripts/draw_benchmark.py"
        " --benchmark brueghel"
        " --folder {params.folder:q}"
        " --sizes {params.sizes:q}"
        " --seed {params.seed}"
        " > {log:q} 2>&1"


rule draw_benchmark:
    """The miniature of a benchmark is drawn in the published folder layout: places seen by day and by night
    (Tokyo 24/7, Pitts30k), or photos of one class among noise (Internet)."""
    output:
        directory(f"{DEMO}/{{benchmark}}"),
    log:
        "logs/demo/{benchmark}.log",
    wildcard_constraints:
        benchmark="tokyo247|pitts30k|internet",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=10,
    params:
        sizes=lambda wildcards: json.dumps(config["demo"][wildcards.benchmark]),
        seed=config["seed"],
        version=versions.DEMO_WORLD,
    shell:
        "python workflow/scripts/draw_benchmark.py"
        " --benchmark {wildcards.benchmark}"
        " --folder {output:q}"
        " --sizes {params.sizes:q}"
        " --seed {params.seed}"
        " > {log:q} 2>&1"
