# Makes: the tables, the curves, and the run's own report page. Needs: metrics, histories, pictures, galleries.


rule summary:
    """The headline numbers of every benchmark stand beside those of both baselines and the published ones."""
    input:
        metrics_files(REPORTED),
    output:
        csv=f"{RESULTS}/tables/summary.csv",
        markdown=f"{RESULTS}/tables/summary.md",
        html=report(
            f"{RESULTS}/tables/summary.html",
            caption="../report/summary.rst",
            category="Results",
            subcategory="Tables",
        ),
    log:
        f"logs/{config['run']}/summary.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=500,
        runtime=10,
    params:
        facts=json.dumps(summary_facts()),
        version=versions.METRICS,
    shell:
        "python workflow/scripts/summary.py"
        " --facts {params.facts:q}"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " --html {output.html:q}"
        " {input:q}"
        " > {log:q} 2>&1"


rule plot_history:
    """Losses, accuracies and validations of all trainings, over their steps."""
    input:
        list(histories().values()),
    output:
        report(
            f"{RESULTS}/plots/history.svg",
            caption="../report/history.rst",
            category="Results",
            subcategory="Curves",
        ),
    log:
        f"logs/{config['run']}/plot_history.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        histories=json.dumps(histories()),
        version=versions.PICTURES,
    shell:
        "python workflow/scripts/plot_history.py"
        " --histories {params.histories:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule report_page:
    """Numbers, curves, pictures, and what the data are, on one page that opens anywhere."""
    input:
        metrics=metrics_files(REPORTED),
        pictures=[
            f"{RESULTS}/pictures/{name}.jpg" for name in [*REPORTED, "hard_negatives"]
        ],
        objects=[f"{RESULTS}/objects/{split}.json" for split in ("train", "heldout")],
        pair_sets=[manifests(split) for split in ("train", "heldout")],
        galleries=expand(
            f"{RESULTS}/galleries/{{split}}-{{kind}}.html",
            split=["train", "heldout"],
            kind=KINDS,
        ),
        clusters=CLUSTER_PAGE if "discovery" in REPORTED else [],
        summary=f"{RESULTS}/tables/summary.html",
        history=f"{RESULTS}/plots/history.svg",
    output:
        f"{RESULTS}/report.html",
    log:
        f"logs/{config['run']}/report_page.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        files=report_files(),
        config=json.dumps(
            {key: value for key, value in config.items() if key != "compute"}
        ),
        title=f"SegSwap: {config['run']}",
        clusters=lambda wildcards, input: flags(clusters=input.clusters),
        times=f"{RESULTS}/benchmarks",
        version=versions.PICTURES,
    shell:
        "python workflow/scripts/report_page.py"
        " --title {params.title:q}"
        " --config {params.config:q}"
        " {params.files}"
        " {params.clusters}"
        " --summary {input.summary:q}"
        " --history {input.history:q}"
        " --times {params.times:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"
