# Makes: the tables, the curves, the provenance, and the run's own report page.
# Needs: metrics, histories, pictures, galleries.

import snakemake


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
            labels={"table": "all benchmarks"},
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
        version=versions.TABLES,
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
            labels={"curves": "all trainings"},
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


rule provenance:
    """Software, settings, hashes of what the results rest on, time and memory of every rule: made when all else is."""
    input:
        # What the results rest on, hashed: of the run, and the files of others that the configuration names.
        *style_inputs().values(),
        *manifests("train"),
        *manifests("heldout"),
        [
            config["objects"][split]["annotations"]
            for split in ("train", "heldout")
            if config["objects"]["source"] == "annotations"
        ],
        backbone_weights(),
        expand(
            f"{RESULTS}/checkpoints/{{name}}.pt",
            name=["untrained", "stage1", "stage2"],
        ),
        # Not hashed: what comes last, so that the times of all that went before are there.
        after=[
            *metrics_files(REPORTED),
            *(f"{RESULTS}/pictures/{name}.jpg" for name in REPORTED),
        ],
    output:
        json=f"{RESULTS}/provenance.json",
        html=report(
            f"{RESULTS}/provenance.html",
            caption="../report/provenance.rst",
            category="Provenance",
            labels={"page": "software, files, times, settings"},
        ),
    log:
        f"logs/{config['run']}/provenance.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=500,
        runtime=60,
        # No parameter: another Snakemake makes no other results.
        snakemake=snakemake.__version__,
    params:
        files=lambda wildcards, input: [
            path for path in input if path not in input.after
        ],
        config=json.dumps(
            {key: value for key, value in config.items() if key != "compute"}
        ),
        records="resources/.records",
        times=[f"{RESULTS}/benchmarks"],
        version=versions.PROVENANCE,
    shell:
        "python workflow/scripts/provenance.py"
        " --files {params.files:q}"
        " --config {params.config:q}"
        " --records {params.records:q}"
        " --times {params.times:q}"
        " --snakemake {resources.snakemake}"
        " --json {output.json:q}"
        " --html {output.html:q}"
        " > {log:q} 2>&1"


rule report_page:
    """Numbers, curves, pictures, and what the data are, on one page that opens anywhere."""
    input:
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
        provenance=f"{RESULTS}/provenance.html",
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
        title=f"SegSwap: {config['run']}",
        clusters=lambda wildcards, input: flags(clusters=input.clusters),
        version=versions.PICTURES,
    shell:
        "python workflow/scripts/report_page.py"
        " --title {params.title:q}"
        " {params.files}"
        " {params.clusters}"
        " --summary {input.summary:q}"
        " --history {input.history:q}"
        " --provenance {input.provenance:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"
