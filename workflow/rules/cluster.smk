# Makes: nothing that lasts. Asks for what a training asks for, and shows what such a job gets.


# Seconds of one core, or the internet, which nodes of a cluster often lack: these run where Snakemake was started.
localrules:
    check_gpu,
    download,
    fetch_backbone,
    join_metrics,
    plot_history,
    summary,
    compare_runs,
    link_shared,
    list_folder,
    provenance,
    report_page,


rule check_gpu:
    """What a training would get: cores, memory, time, GPUs, and the device that it would choose."""
    input:
        "results/check_gpu.txt",
    log:
        "logs/check_gpu.log",
    conda:
        ENVIRONMENT
    shell:
        "tee {log:q} < {input:q} && rm {input:q}"


rule look_around:
    """A job with a training's resources describes what it was given. The file goes once it is shown, so that every
    `check_gpu` is a new one."""
    output:
        "results/check_gpu.txt",
    log:
        "logs/look_around.log",
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        mem_mb=memory(4000),
        runtime=10,
        gpu=TRAINING_GPUS,
        device=DEVICE,
    shell:
        "python workflow/scripts/check_gpu.py"
        " --device {resources.device}"
        f" --gpus {TRAINING_GPUS}"
        " --output {output:q}"
        " > {log:q} 2>&1"
