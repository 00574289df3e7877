#!/bin/bash
# What the job scripts share, called from inside a job: one task a GPU, the run resumed if there is one, and the job put
# back into the queue if the run asks for that (exit status 85: it was preempted and has saved itself; docs/clusters.md).
export PATH="$PWD/.venv/bin:$PATH"
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"   # srun does not take it from sbatch
srun --kill-on-bad-exit=1 tenshot fit "$@" \
    --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "$SLURM_NTASKS_PER_NODE" --ckpt_path last
status=$?
if [ "$status" -eq 85 ]; then
    scontrol requeue "$SLURM_JOB_ID" && sleep 60   # SLURM ends this script meanwhile
fi
exit "$status"
