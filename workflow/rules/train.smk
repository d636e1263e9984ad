# Makes: the backbone (where it is trained), the features of the pairs, checkpoints and histories of both stages,
# the threshold of the cosine baseline. Needs: pair sets.


rule models:
    """Both stages trained, and the baselines to compare with."""
    input:
        f"{RESULTS}/checkpoints/untrained.pt",
        f"{RESULTS}/checkpoints/stage1.pt",
        f"{RESULTS}/checkpoints/stage2.pt",
        f"{RESULTS}/pictures/hard_negatives.jpg",
        f"{RESULTS}/baseline.json",


rule pretrain_backbone:
    """Without pretrained weights the backbone is trained by dense contrastive learning: a masked cell of one
    picture against its true position in the other, all other cells as negatives (InfoNCE).
    """
    input:
        manifests=manifests("train"),
    output:
        weights=f"{RESULTS}/checkpoints/backbone.pt",
        history=f"{RESULTS}/history/pretrain.csv",
    log:
        f"logs/{config['run']}/pretrain_backbone.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain_backbone.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=4000,
        runtime=720,
        gpu=1,
        compute=COMPUTE,
    params:
        backbone=only(config["backbone"], "architecture", "width", "projection"),
        settings=json.dumps(config["backbone"]["pretrain"]),
        stylise=config["train"]["batch"]["stylise_probability"],
        seed=config["seed"],
        state=f"{RESULTS}/state/pretrain",
        version=versions.PRETRAINING,
    shell:
        "python workflow/scripts/pretrain_backbone.py"
        " --manifests {input.manifests:q}"
        " --backbone {params.backbone:q}"
        " --settings {params.settings:q}"
        " --stylise {params.stylise}"
        " --compute {resources.compute:q}"
        " --seed {params.seed}"
        " --state {params.state:q}"
        " --weights {output.weights:q}"
        " --history {output.history:q}"
        " >> {log:q} 2>&1"


rule untrained_model:
    """The frozen backbone and a transformer with random weights: where training starts, and the baseline
    that shows what training gives."""
    input:
        weights=backbone_weights(),
    output:
        f"{RESULTS}/checkpoints/untrained.pt",
    log:
        f"logs/{config['run']}/untrained_model.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        backbone=only(config["backbone"], "architecture", "width", "projection"),
        transformer=json.dumps(config["transformer"]),
        seed=config["seed"],
        version=versions.TRAINING,
    shell:
        "python workflow/scripts/untrained_model.py"
        " --weights {input.weights:q}"
        " --backbone {params.backbone:q}"
        " --transformer {params.transformer:q}"
        " --seed {params.seed}"
        " --checkpoint {output:q}"
        " > {log:q} 2>&1"


rule pair_features:
    """The backbone is frozen, so the features of the pairs' pictures are computed once: of all pictures where
    training reads them from the store, else of those that calibration and validation need.
    """
    input:
        manifest=f"{RESULTS}/pairs/{{split}}/{{kind}}/manifest.json",
        checkpoint=f"{RESULTS}/checkpoints/untrained.pt",
    output:
        store=f"{RESULTS}/features/pairs/{{split}}-{{kind}}.npy",
        header=f"{RESULTS}/features/pairs/{{split}}-{{kind}}.json",
    log:
        f"logs/{config['run']}/pair_features-{{split}}-{{kind}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pair_features-{{split}}-{{kind}}.tsv"
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=1,
        device=DEVICE,
    params:
        limit=lambda wildcards: flags(limit=features_limit(wildcards.split)),
        version=versions.FEATURES,
    shell:
        "python workflow/scripts/pair_features.py"
        " --manifest {input.manifest:q}"
        " --checkpoint {input.checkpoint:q}"
        " {params.limit}"
        " --device {resources.device}"
        " --store {output.store:q}"
        " > {log:q} 2>&1"


rule train_stage1:
    """The transformer learns masks and correspondences from positive pairs and from negatives within the
    batch; after each epoch it is validated on held-out pairs and the best model is kept.
    """
    input:
        **brueghel_selection("stage1"),
        initial=f"{RESULTS}/checkpoints/untrained.pt",
        manifests=manifests("train"),
        features=pair_features("train") if config["train"]["store_features"] else [],
        heldout=manifests("heldout"),
        heldout_features=pair_features("heldout"),
    output:
        checkpoint=f"{RESULTS}/checkpoints/stage1.pt",
        last=f"{RESULTS}/checkpoints/stage1-last.pt",
        history=f"{RESULTS}/history/stage1.csv",
    log:
        f"logs/{config['run']}/train_stage1.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_stage1.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=8000,
        runtime=10080,
        gpu=config["train"]["processes"],
        compute=COMPUTE,
    params:
        launcher=launcher(),
        brueghel=brueghel_flags("stage1"),
        numerics=json.dumps(config["train"]["numerics"]),
        board=f"{RESULTS}/tensorboard/stage1",
        stage=json.dumps(config["train"]["stage1"]),
        batch=json.dumps(config["train"]["batch"]),
        loss=json.dumps(config["train"]["loss"]),
        validation_pairs=config["train"]["validation_pairs"],
        protocol=config["protocol"],
        seed=config["seed"],
        state=f"{RESULTS}/state/stage1",
        version=versions.TRAINING,
    shell:
        "{params.launcher} workflow/scripts/train_stage.py"
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


rule train_stage2:
    """Training goes on with hard negatives: before each epoch the pairs of a pool of unrelated pictures are
    scored, and those that the model takes for related join the batches with empty targets.
    """
    input:
        **brueghel_selection("stage2"),
        initial=f"{RESULTS}/checkpoints/stage1.pt",
        manifests=manifests("train"),
        features=pair_features("train") if config["train"]["store_features"] else [],
        heldout=manifests("heldout"),
        heldout_features=pair_features("heldout"),
    output:
        checkpoint=f"{RESULTS}/checkpoints/stage2.pt",
        last=f"{RESULTS}/checkpoints/stage2-last.pt",
        history=f"{RESULTS}/history/stage2.csv",
        pools=f"{RESULTS}/history/stage2-pools.parquet",
    log:
        f"logs/{config['run']}/train_stage2.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_stage2.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=8000,
        runtime=10080,
        gpu=config["train"]["processes"],
        compute=COMPUTE,
    params:
        launcher=launcher(),
        brueghel=brueghel_flags("stage2"),
        numerics=json.dumps(config["train"]["numerics"]),
        board=f"{RESULTS}/tensorboard/stage2",
        stage=stage2_settings(),
        batch=json.dumps(config["train"]["batch"]),
        mining=json.dumps(config["train"]["stage2"]["mining"]),
        loss=json.dumps(config["train"]["loss"]),
        validation_pairs=config["train"]["validation_pairs"],
        protocol=config["protocol"],
        seed=config["seed"],
        state=f"{RESULTS}/state/stage2",
        version=versions.TRAINING,
    shell:
        "{params.launcher} workflow/scripts/train_stage.py"
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
            category="Pictures",
        ),
    log:
        f"logs/{config['run']}/picture_hard_negatives.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
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
        f"logs/{config['run']}/calibrate_baseline.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=4000,
        runtime=60,
        device=DEVICE,
    params:
        pairs=config["train"]["validation_pairs"],
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
