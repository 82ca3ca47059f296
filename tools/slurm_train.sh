#!/usr/bin/env bash
# Run a tool under Slurm: [TOOL=save_logits.py] tools/slurm_train.sh PARTITION JOB_NAME CONFIG [flags of the tool]
set -euo pipefail
if [[ $# -lt 3 ]]; then
    echo 'Usage: [TOOL=save_logits.py] tools/slurm_train.sh PARTITION JOB_NAME CONFIG [flags of the tool]' >&2
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-8}
# shellcheck disable=SC2086  # SRUN_ARGS is a list of words
srun -p "$PARTITION" --job-name="$JOB_NAME" --gres="gpu:$GPUS_PER_NODE" --ntasks="$GPUS" \
    --ntasks-per-node="$GPUS_PER_NODE" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    python -u "$(dirname "$0")/${TOOL:-train.py}" "$CONFIG" --launcher slurm "${@:4}"
