#!/usr/bin/env bash
# Fine-tuning with 1 %, 10 % and all of the labels of a fifth of CIFAR-10: from random weights, AttMask and MAE.
#
# Usage: few_labels.sh CIFAR [FOLDER] [ATTMASK_EPOCHS] [MAE_EPOCHS] [EPOCHS]
#   CIFAR   a folder or archive with train/ and test/ (or val/) class folders
#   EPOCHS  of fine-tuning with all labels; with fewer labels, at least 500 steps
# Rerun the same command to resume.
set -euo pipefail
cifar=${1:?usage: few_labels.sh CIFAR [FOLDER] [ATTMASK_EPOCHS] [MAE_EPOCHS] [EPOCHS]} out=${2:-runs/few-labels}
attmask=${3:-9} mae=${4:-15} epochs=${5:-10}

sslkit prepare "$out/data" --source folder --root "$cifar" --fraction 0.2
learn() {
  sslkit pretrain "$out/$1" --data "$out/data" --recipe "$1" --recipe small32 --set encoder.depth=4 --epochs "$2"
}
tune() {
  sslkit finetune "$@" --label-fraction 0.01
  sslkit finetune "$@" --label-fraction 0.1
  sslkit finetune "$@" --epochs "$epochs"
}
learn attmask "$attmask"
learn mae     "$mae"
tune "$out/attmask" --from random
tune "$out/attmask"
tune "$out/mae"

echo
sslkit compare "$out/attmask" "$out/mae" --no-configs
