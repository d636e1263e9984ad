# Makes: the tables, the curves, the provenance, and the run's own report page; links to what runs share.
# Needs: metrics, histories, pictures, galleries.

import snakemake


rule summary:
    """The headline numbers of every benchmark stand beside those of both baselines and the published ones."""
    input:
        reported_metrics,
    output:
        csv=f"{RESULTS}/tables/summary.csv",
        markdown=f"{RESULTS}/tables/summary.md",
        html=report(
            f"{RESULTS}/tables/summary.html",
            caption="../report/summary.rst",
            category="Results",
            subcategory="Tables",
            labels={"run": "{run}", "table": "all benchmarks"},
        ),
    log:
        f"{LOGS}/summary.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=10,
    params:
        method=lambda wildcards: published_method(wildcards.run),
        facts=summary_facts,
        version=versions.TABLES,
    shell:
        "python workflow/scripts/summary.py"
        " --method {params.method:q}"
        " --facts {params.facts:q}"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " --html {output.html:q}"
        " {input:q}"
        " > {log:q} 2>&1"


rule plot_history:
    """Losses, accuracies and validations of all trainings, over their steps."""
    input:
        lambda wildcards: list(histories(wildcards).values()),
    output:
        report(
            f"{RESULTS}/plots/history.svg",
            caption="../report/history.rst",
            category="Results",
            subcategory="Curves",
            labels={"run": "{run}", "curves": "all trainings"},
        ),
    log:
        f"{LOGS}/plot_history.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(1000),
        runtime=10,
    params:
        histories=lambda wildcards: json.dumps(histories(wildcards)),
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
        files=origins,
        # Not hashed: what comes last, so that the times of all that went before are there.
        after=finished_benchmarks,
    output:
        json=f"{RESULTS}/provenance.json",
        html=report(
            f"{RESULTS}/provenance.html",
            caption="../report/provenance.rst",
            category="Provenance",
            labels={"run": "{run}", "page": "software, files, times, settings"},
        ),
    log:
        f"{LOGS}/provenance.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=60,
        # No parameter: another Snakemake makes no other results.
        snakemake=snakemake.__version__,
    params:
        config=lambda wildcards: json.dumps(
            {k: v for k, v in RUNS[wildcards.run].items() if k != "compute"}
        ),
        records="resources/.records",
        times=measured_folders,
        version=versions.PROVENANCE,
    shell:
        "python workflow/scripts/provenance.py"
        " --files {input.files:q}"
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
        unpack(report_inputs),
        summary=f"{RESULTS}/tables/summary.html",
        history=f"{RESULTS}/plots/history.svg",
        provenance=f"{RESULTS}/provenance.html",
    output:
        f"{RESULTS}/report.html",
    log:
        f"{LOGS}/report_page.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(1000),
        runtime=10,
    params:
        files=report_flags,
        title="SegSwap: {run}",
        clusters=lambda wildcards, input: flags(clusters=input.get("clusters")),
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


rule link_shared:
    """What a run may share with others lies in results/shared; links in the run's folder lead there, and are listed."""
    output:
        f"{RESULTS}/shared.json",
    log:
        f"{LOGS}/link_shared.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=10,
    params:
        folder=RESULTS,
        links=lambda wildcards: json.dumps(sharing.links(RUNS[wildcards.run])),
    shell:
        "python workflow/scripts/link_shared.py"
        " --run-folder {params.folder:q}"
        " --links {params.links:q}"
        " --record {output:q}"
        " > {log:q} 2>&1"


rule compare_runs:
    """The runs of a study stand side by side: what each changes, what comes of it, and what is published."""
    input:
        [path for run in RUNS for path in run_metrics(run).values()],
    output:
        csv=f"results/{STUDY}/tables/comparison.csv",
        markdown=f"results/{STUDY}/tables/comparison.md",
        html=report(
            f"results/{STUDY}/tables/comparison.html",
            caption="../report/comparison.rst",
            category="Results",
            subcategory="Tables",
            labels={"run": STUDY, "table": "all runs"},
        ),
    log:
        f"logs/{STUDY}/compare_runs.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(500),
        runtime=10,
    params:
        metrics=json.dumps({run: run_metrics(run) for run in RUNS}),
        changes=json.dumps(run_changes()),
        methods=json.dumps({run: published_method(run) for run in RUNS}),
        version=versions.TABLES,
    shell:
        "python workflow/scripts/compare_runs.py"
        " --metrics {params.metrics:q}"
        " --changes {params.changes:q}"
        " --methods {params.methods:q}"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " --html {output.html:q}"
        " > {log:q} 2>&1"
