# SegSwap: pairs of pictures that share something, a model that learns to find it, and every benchmark of the study.
#
#   snakemake --cores 8                                     the demo world: drawn data, everything, minutes
#   snakemake --cores 8 --configfile config/paper.yaml      the published study
#
# Run from this folder. config/README.md explains every key, docs/formats.md every file.

from snakemake.logging import logger
from snakemake.utils import min_version

min_version("9.0")

# A configuration file stands alone over the schema's defaults: one given on the command line replaces the demo's.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/demo.smk"
include: "workflow/rules/pairs.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/discover.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/cluster.smk"
include: "workflow/rules/site.smk"


report: "workflow/report/workflow.rst"


localrules:
    all,
    pairs,
    pairs_1obj,
    pairs_2obj,
    models,
    train_stage1,
    train_stage2,
    benchmarks,
    evaluate_pairs,
    evaluate_brueghel,
    evaluate_planted,
    evaluate_altered,
    evaluate_tokyo247,
    evaluate_pitts30k,
    evaluate_own_places,
    evaluate_internet,
    evaluate_discovery,


rule all:
    """Everything: pairs with their galleries, both training stages, every benchmark, tables and the report."""
    default_target: True
    input:
        rules.pairs.input,
        rules.models.input,
        rules.benchmarks.input,
        expand([f"{RESULTS}/tables/summary.csv", f"{RESULTS}/report.html"], run=RUNS),
        COMPARISON,
        LINKS,


# Snakemake names one missing file, and no key. A job's own reading of this file says nothing.
if workflow.is_main_process:
    absent = missing_inputs(
        RUNS, lambda path: any(rule.is_producer(path) for rule in workflow.rules)
    )
    if absent:
        logger.warning(absent)


onsuccess:
    print(headline_table())
