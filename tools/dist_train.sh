#!/usr/bin/env bash
# Train on the GPUs of one or several machines: tools/dist_train.sh CONFIG GPUS [flags of tools/train.py]
set -euo pipefail
if [[ $# -lt 2 || ! $2 =~ ^[0-9]+$ ]]; then
    echo "Usage: ${USAGE:-tools/dist_train.sh CONFIG GPUS [flags of tools/train.py]}" >&2
    exit 2
fi
CONFIG=$1
GPUS=$2
torchrun --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" --nproc_per_node="$GPUS" \
    "$(dirname "$0")/${TOOL:-train.py}" "$CONFIG" --launcher pytorch "${@:3}"
