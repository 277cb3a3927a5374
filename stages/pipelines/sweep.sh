#!/usr/bin/env bash
# Which keys of a recipe help on small images: one run for each change of a base, all with the same number of multiply-adds.
#
# Usage: sweep.sh TRAIN [FOLDER] [EPOCHS] [SEEDS] [JOBS]
#   TRAIN   a folder of class folders, or an archive of it, without test images: a tenth is held out, and chosen on;
#           where it has test/ or val/, the accuracies are about those
#   EPOCHS  of the base; a variant whose step costs twice as much gets half as many
#   SEEDS   as in "0 1"
#   JOBS    training runs at the same time; each gets cores / JOBS threads
# RECIPE="attmask" sweeps another recipe than dino. BASE holds settings of all runs, VARIANTS lines of NAME SETTINGS, among
# them one of "base"; OPTIONS other options of pretrain, such as "--weights RUN", LINEAR those of linear.
# Rerun the same command to resume. Ends in a table of accuracies on the held-out images, with the base's student as well.
set -euo pipefail
images=${1:?usage: sweep.sh TRAIN [FOLDER] [EPOCHS] [SEEDS] [JOBS]}
export out=${2:-runs/sweep} epochs=${3:-8} recipe=${RECIPE:-dino}
seeds=${4:-0} jobs=${5:-1}
source "$(dirname "${BASH_SOURCE[0]}")/shared.sh" && share_cores "$jobs"
# A ViT of 192 x 4 with patch 8: many steps in little time.
export options=${OPTIONS:-} LINEAR=${LINEAR---epochs 20} base=${BASE:-encoder.depth=4 encoder.patch_size=8 train.batch_size=128}
strong='views.augment.jitter_strength=[0.8,0.8,0.8,0.2]'
variants=${VARIANTS:-"
base
no-batch-norm heads.prototypes.batch_norm=false
local-2 views.local.count=2
local-4 views.local.count=4
patch-4 encoder.patch_size=4
batch-32 train.batch_size=32
batch-64 train.batch_size=64
batch-256 train.batch_size=256
lr-0.5x optim.lr=1e-3
lr-2x optim.lr=4e-3
momentum-0.96 teacher.momentum=[0.96,1]
momentum-0.996 teacher.momentum=[0.996,1]
momentum-rising teacher.momentum=[0.99,1]
momentum-3% teacher.momentum=[3%,3%]
teacher-0.02 objectives.dino.teacher_temperature=[0.02,0.02]
teacher-0.07 objectives.dino.teacher_temperature=[0.07,0.07]
entropy-0.45 objectives.dino.target_entropy=0.45
prototypes-256 heads.prototypes.out=256
prototypes-4096 heads.prototypes.out=4096
bottleneck-256 heads.prototypes.bottleneck=256
koleo objectives.koleo.weight=0.1
sinkhorn objectives.dino.centering=sinkhorn
strong-jitter $strong
strong-jitter-teacher-0.02 $strong objectives.dino.teacher_temperature=[0.02,0.02]
smaller-crops views.global.scale=[0.14,1]
larger-crops views.global.scale=[0.5,1]
"}
sslkit prepare "$out/data" --source folder --root "$images"

train() { # NAME SETTINGS... [-- OPTIONS]
  local settings
  read -r -a settings <<<"$base"
  pretrain "$1" "$recipe" small32 "${settings[@]}" "${@:2}"
}
cost() { # NAME SETTINGS...: GFLOPs of an image's step, into a file
  local file="$out/costs/$1"
  [ -s "$file" ] || train "$@" -- --dry-run | awk '/GFLOPs per image, training/ {print $NF}' >"$file"
}
learn() { # NAME SEED SETTINGS...
  local run="$1-s$2" length more
  read -r -a more <<<"$options"
  length=$(awk -v epochs="$epochs" '{cost[NR] = $1} END {printf "%.2f", epochs * cost[1] / cost[2]}' "$out/costs/base" "$out/costs/$1")
  train "$run" "${@:3}" -- --epochs "$length" --seed "$2" "${more[@]}"
  evaluate "$run"
}
student() { # SEED: the base's student, in the place of the teacher, which is evaluated otherwise
  sslkit export "$out/base-s$1" "$out/students/$1" --branch student --force
  evaluate "student-s$1" --data "$out/data" --weights "$out/students/$1"
}
export -f train cost learn
lines() { sed '/^$/d' <<<"$variants"; }
mkdir -p "$out/costs"
lines | xargs -P "$jobs" -L 1 bash -c 'set -euo pipefail; cost "$0" "$@"'
for seed in $seeds; do lines | sed -E "s/^([^ ]+)/\1 $seed/"; done |
  xargs -P "$jobs" -L 1 bash -c 'set -euo pipefail; learn "$0" "$@"'

for seed in $seeds; do student "$seed"; done

runs=()
for name in $(lines | cut -d' ' -f1) student; do for seed in $seeds; do runs+=("$name-s$seed"); done; done
echo
cd "$out" && sslkit compare "${runs[@]}" --seeds --baseline base --markdown
