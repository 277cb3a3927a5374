#!/usr/bin/env bash
# AttMask's mechanism on `shapes`, whose true objects are known, and attention as a loss, with seeds.
#
# Usage: attmask_study.sh [FOLDER] [EPOCHS] [SEEDS] [JOBS]
#   SEEDS  as in "0 1 2"
#   JOBS   trainings at the same time, with as many cores each as there are cores / JOBS
# Ends in FOLDER/masked.png, the share of the masked tokens that lie on the object over training, and two tables.
set -euo pipefail
export out=${1:-runs/attmask-study} epochs=${2:-12}
seeds=${3:-0 1 2} jobs=${4:-1}
# nproc itself obeys the variable.
cores=$(env -u OMP_NUM_THREADS nproc)
export OMP_NUM_THREADS=$((cores > jobs ? cores / jobs : 1))

masks=(attmask attmask-hint attmask-low ibot-random oracle)
losses=(attmask-distill attmask-pool attmask-weighted attmask-diversity)

sslkit prepare "$out/data"
learn() {
  local recipe=$1 words=()
  # The true object is hidden as often and as much as AttMask hides: an upper reference, not a method.
  if [ "$recipe" = oracle ]; then recipe=attmask words=(--set mask.strategy=oracle); fi
  local run="$out/$1-s$2"
  sslkit pretrain "$run" --data "$out/data" --recipe "$recipe" --recipe demo --epochs "$epochs" --seed "$2" \
    --set monitor.every_epochs=4 "${words[@]}"
  sslkit extract "$run"
  sslkit knn     "$run"
  sslkit linear  "$run"
}
export -f learn
for seed in $seeds; do printf '%s\n' "${masks[@]}" "${losses[@]}" | sed "s/$/ $seed/"; done |
  xargs -P "$jobs" -L 1 bash -c 'set -euo pipefail; learn "$0" "$1"'

named() { for name in "$@"; do for seed in $seeds; do echo "$out/$name-s$seed"; done; done; }
mapfile -t masked < <(named "${masks[@]}")
mapfile -t lossy < <(named attmask "${losses[@]}")
# Without the oracle, which hides nothing but the object.
mapfile -t drawn < <(named attmask attmask-hint attmask-low ibot-random)
sslkit curves "${drawn[@]}" --seeds --metric masked_on_object --out "$out/masked.png"
echo
sslkit compare "${masked[@]}" --seeds --markdown
echo
sslkit compare "${lossy[@]}" --seeds --markdown
