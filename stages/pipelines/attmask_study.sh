#!/usr/bin/env bash
# What AttMask masks on `shapes`, whose true objects are known, and attention as a loss, with seeds.
#
# Usage: attmask_study.sh [FOLDER] [EPOCHS] [SEEDS] [JOBS]
#   SEEDS  as in "0 1 2"
#   JOBS   training runs at the same time; each gets cores / JOBS threads
# Ends in FOLDER/masked.png, the share of masked tokens on the object during training, and two tables.
set -euo pipefail
export out=${1:-runs/attmask-study} epochs=${2:-12}
seeds=${3:-0 1 2} jobs=${4:-1}
# nproc itself obeys OMP_NUM_THREADS.
cores=$(env -u OMP_NUM_THREADS nproc)
export OMP_NUM_THREADS=$((cores > jobs ? cores / jobs : 1))

masks=(attmask attmask-hint attmask-low ibot-random oracle)
losses=(attmask-distill attmask-pool attmask-weighted attmask-diversity)

sslkit prepare "$out/data"
learn() {
  local recipe=$1 words=()
  # The oracle hides the true object, as often and as much as AttMask hides: an upper bound, not a method.
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
# Without the oracle, which hides only the object.
mapfile -t drawn < <(named attmask attmask-hint attmask-low ibot-random)
sslkit curves "${drawn[@]}" --seeds --metric masked_on_object --out "$out/masked.png"
echo
sslkit compare "${masked[@]}" --seeds --markdown
echo
sslkit compare "${lossy[@]}" --seeds --markdown
