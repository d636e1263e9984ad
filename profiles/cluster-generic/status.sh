#!/usr/bin/env bash
# Say how a job of Slurm is: running, success or failed. Snakemake calls this with the number that submission printed.
set -euo pipefail

state=$(squeue --noheader --states=all --jobs="$1" --format=%T 2> /dev/null || true)
# Slurm forgets ended jobs after a while (MinJobAge); accounting, where there is any, still knows.
if [ -z "$state" ]; then
    state=$(sacct --noheader --allocations --parsable2 --jobs="$1" --format=State 2> /dev/null || true)
fi

case "$state" in
    COMPLETED) echo success ;;
    PENDING | CONFIGURING | RUNNING | COMPLETING | SUSPENDED | REQUEUED | RESIZING | STAGE_OUT | STOPPED) echo running ;;
    *) echo failed ;;
esac
