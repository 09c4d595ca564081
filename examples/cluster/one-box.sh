#!/bin/bash
# One machine with GPUs: edit a folder of shards with all of them, then train on all of them. Two commands to copy.
set -euo pipefail

# Ray starts on loopback for this command alone, with one model on each GPU, and ends with it.
eggan edit /data/faces -o /data/happy --emotion happy --shards --cluster auto

# accelerate gives each GPU a process; batch_size counts the images of a step over all of them.
accelerate launch --multi_gpu --num_processes "$(nvidia-smi --list-gpus | wc -l)" --mixed_precision no --dynamo_backend no \
    -m eggan.cli train --preset paper --set precision=bfloat16 --set batch_size=64 \
    --data /data/faces/train --val /data/faces/val.parquet --out /data/runs/paper
