#!/usr/bin/env bash
# A real Slurm of one node on this machine, for tests: `one_node.sh start FOLDER`, later `one_node.sh stop FOLDER`.
#
# Configuration, key, sockets, state and logs lie under FOLDER; nothing under /etc is read or written. Needs root and
# Debian's packages slurm-wlm and munge. After `start`, clients need SLURM_CONF=FOLDER/slurm.conf and FOLDER/bin first
# in PATH. The node has every core, all memory but 1 GB, and two pretend GPUs: jobs that ask for one see its number in
# CUDA_VISIBLE_DEVICES, a third waits, and PyTorch finds no device. PORT and PORT + 1 (default 16817) must be free.
set -euo pipefail

action=${1:?start or stop} folder=$(realpath -m "${2:?folder of configuration, state and logs}")
export SLURM_CONF=$folder/slurm.conf
node=$(hostname -s) port=${PORT:-16817}

start() {
    mkdir -p "$folder"/{state,spool,log,run,bin}
    chmod 755 "$folder" "$folder/run"
    head -c 128 /dev/urandom > "$folder/munge.key"
    chmod 400 "$folder/munge.key"
    memory=$(($(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo) - 1024))
    cat > "$SLURM_CONF" << CONF
ClusterName=test
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.socket
CredType=cred/munge
MpiDefault=none
# No cgroups: memory is watched each second, and a job above its limit is killed.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/builtin
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
# One line for each ended job, with its state: what tests read.
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/log/jobs.txt
ReturnToService=2
MinJobAge=600
KillWait=15
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.pid
SlurmdSpoolDir=$folder/spool
StateSaveLocation=$folder/state
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
SlurmctldPort=$port
SlurmdPort=$((port + 1))
GresTypes=gpu
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory Gres=gpu:2 State=UNKNOWN
PartitionName=short Nodes=ALL Default=YES MaxTime=180 State=UP
PartitionName=gpu Nodes=ALL MaxTime=180 State=UP
CONF
    printf "NodeName=$node Name=gpu File=%s\n" /dev/null /dev/zero > "$folder/gres.conf"
    # The Slurm plugin takes SLURM_* out of the environment of the srun in a job, and SLURM_CONF with it, which a Slurm
    # configured under /etc does not need.
    printf '#!/bin/sh\nexport SLURM_CONF=%s\nexec %s "$@"\n' "$SLURM_CONF" "$(command -v srun)" > "$folder/bin/srun"
    chmod +x "$folder/bin/srun"
    munged --key-file="$folder/munge.key" --socket="$folder/run/munge.socket" --pid-file="$folder/run/munged.pid" \
        --log-file="$folder/log/munged.log" --seed-file="$folder/run/munge.seed"
    slurmctld -c
    slurmd
    for _ in $(seq 100); do
        [ "$(sinfo -h -p short -o %T 2> /dev/null)" = idle ] && return
        sleep 0.1
    done
    echo "the node is not idle after 10 s; see $folder/log" >&2
    exit 1
}

stop() {
    scancel --state=PENDING --user=root 2> /dev/null || true
    scancel --user=root 2> /dev/null || true
    for _ in $(seq 100); do
        [ -z "$(squeue -h 2> /dev/null)" ] && break
        sleep 0.1
    done
    for daemon in slurmd slurmctld munged; do
        pid=$(cat "$folder/run/$daemon.pid" 2> /dev/null) && kill "$pid" && tail --pid="$pid" -f /dev/null
    done || true
}

"$action"
