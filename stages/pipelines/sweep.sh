#!/usr/bin/env bash
# Which keys of a recipe help on small images: one run for each change of a base, chosen on held-out training images.
#
# Usage: sweep.sh TRAIN [FOLDER] [EPOCHS] [SEEDS] [JOBS]
#   TRAIN   a folder of class folders, or an archive of it, without test images: a tenth is held out
#   SEEDS   as in "0 1"
#   JOBS    training runs at the same time; each gets cores / JOBS threads
# RECIPE="attmask" sweeps another recipe than dino. BASE holds settings of all runs, VARIANTS lines of NAME SETTINGS.
# Rerun the same command to resume. Ends in a table: accuracies on the held-out images at equal epochs, seconds beside them.
set -euo pipefail
train=${1:?usage: sweep.sh TRAIN [FOLDER] [EPOCHS] [SEEDS] [JOBS]}
export out=${2:-runs/sweep} epochs=${3:-8} recipe=${RECIPE:-dino}
seeds=${4:-0} jobs=${5:-1}
# nproc itself obeys OMP_NUM_THREADS.
cores=$(env -u OMP_NUM_THREADS nproc)
export OMP_NUM_THREADS=$((cores > jobs ? cores / jobs : 1)) WORKERS=${WORKERS:-auto}
# A ViT of 192 x 4 with patch 8: many steps in little time. Around DINO without what an earlier sweep put into small32.
export base=${BASE:-encoder.depth=4 encoder.patch_size=8 train.batch_size=128 views.local.count=4 heads.prototypes.batch_norm=false}
strong='views.augment.jitter_strength=[0.8,0.8,0.8,0.2]'
variants=${VARIANTS:-"
base
no-local views.local.count=0
local-8 views.local.count=8
strong-jitter $strong
strong-jitter-no-local $strong views.local.count=0
strong-jitter-no-local-teacher-0.02-lr-2x $strong views.local.count=0 views.global.scale=[0.2,1] objectives.dino.teacher_temperature=[0.02,0.02] optim.lr=4e-3
teacher-0.02 objectives.dino.teacher_temperature=[0.02,0.02]
teacher-0.07 objectives.dino.teacher_temperature=[0.07,0.07]
momentum-0.996 teacher.momentum=[0.996,1]
momentum-constant teacher.momentum=[0.99,0.99]
lr-0.5x optim.lr=1e-3
lr-2x optim.lr=4e-3
batch-norm heads.prototypes.batch_norm=true
prototypes-4096 heads.prototypes.out=4096
koleo objectives.koleo.weight=0.1
sinkhorn objectives.dino.centering=sinkhorn
smaller-crops views.global.scale=[0.14,1] views.local.scale=[0.05,0.2]
"}
sslkit prepare "$out/data" --source folder --root "$train" --val-fraction 0.1

learn() {
  local name=$1 seed=$2 shared words=()
  shift 2
  read -r -a shared <<<"$base"
  for setting in "${shared[@]}" "$@"; do words+=(--set "$setting"); done
  sslkit pretrain "$out/$name-s$seed" --data "$out/data" --recipe "$recipe" --recipe small32 \
    --epochs "$epochs" --seed "$seed" --workers "$WORKERS" "${words[@]}"
  sslkit extract "$out/$name-s$seed" --workers "$WORKERS"
  sslkit knn     "$out/$name-s$seed"
  sslkit linear  "$out/$name-s$seed"
}
export -f learn
lines() { sed '/^$/d' <<<"$variants"; }
for seed in $seeds; do lines | sed -E "s/^([^ ]+)/\1 $seed/"; done |
  xargs -P "$jobs" -L 1 bash -c 'set -euo pipefail; learn "$0" "$@"'

runs=()
for name in $(lines | cut -d' ' -f1); do for seed in $seeds; do runs+=("$name-s$seed"); done; done
echo
cd "$out" && sslkit compare "${runs[@]}" --seeds --baseline base --markdown
