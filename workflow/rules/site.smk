# How jobs ask for GPUs, in the form that the cluster's profile names. Rules say `gpu`, how many; a profile may say
# `gpu_request` and `gpu_partition` among its default resources. Without a profile nothing changes.


def ask_for_gpus(resources):
    """Replace a rule's resource ``gpu`` by what the profile wants in its place.

    ``gpu_request`` is ``gpus`` (left as it is: ``--gpus=N``), ``gpus:MODEL``, ``gres`` (``--gres=gpu:N``) or
    ``gres:MODEL``. With ``gpu_partition``, jobs that ask for a GPU go to that partition, others to ``slurm_partition``.
    """
    gpu = resources.get("gpu")
    style, _, model = str(resources.get("gpu_request").raw or "gpus").partition(":")
    partition, others = (
        resources.get(name).raw for name in ("gpu_partition", "slurm_partition")
    )
    if style not in ("gpus", "gres"):
        raise WorkflowError(
            f"the profile's default resource gpu_request is {style!r}; expected gpus, gres, gpus:MODEL or gres:MODEL"
        )

    def number(wildcards, input, attempt):
        return gpu.evaluate(wildcards, input=input, attempt=attempt).value

    def where_gpus(text, otherwise=None):
        def value(wildcards, input, attempt):
            count = number(wildcards, input, attempt)
            return text.format(count=count) if count else otherwise

        return value

    if partition:
        resources["slurm_partition"] = where_gpus(partition, others)
    if style == "gres":
        kind = f"gpu:{model}" if model else "gpu"
        resources["gres"] = where_gpus(kind + ":{count}")
        resources["gpu"] = 0
    elif model:
        resources["gpu_model"] = where_gpus(model)


for each in workflow.rules:
    if "gpu" in each.resources.keys():
        ask_for_gpus(each.resources)
