#!/usr/bin/env bash
# What AttMask masks on `shapes`, whose true objects are known, and attention as a loss, with seeds.
#
# Usage: attmask_study.sh [FOLDER] [EPOCHS] [SEEDS] [JOBS]
#   SEEDS  as in "0 1 2"
#   JOBS   training runs at the same time; each gets cores / JOBS threads
# MASKS="attmask block" and LOSSES="" train only those. Rerun the same command to resume.
# Ends in FOLDER/masked.png, the share of masked tokens on the object during training, and two tables.
set -euo pipefail
export out=${1:-runs/attmask-study} epochs=${2:-12}
seeds=${3:-0 1 2} jobs=${4:-1}
# nproc itself obeys OMP_NUM_THREADS.
cores=$(env -u OMP_NUM_THREADS nproc)
export OMP_NUM_THREADS=$((cores > jobs ? cores / jobs : 1))

read -r -a masks <<<"${MASKS-attmask attmask-hint attmask-low ibot-random block oracle}"
read -r -a losses <<<"${LOSSES-attmask-distill attmask-pool attmask-weighted attmask-diversity}"

sslkit prepare "$out/data"
learn() {
  local recipe=$1 words=()
  # As often and as much as AttMask hides. The oracle hides the true object: an upper bound, not a method.
  case $recipe in
    oracle | block) words=(--set "mask.strategy=$recipe" --set mask.ratio_per=step) recipe=attmask ;;
  esac
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
# Without the oracle, which hides only the object.
mapfile -t drawn < <(printf '%s\n' "${masked[@]}" | grep -v /oracle-)
sslkit curves "${drawn[@]}" --seeds --metric masked_on_object --out "$out/masked.png"
echo
sslkit compare "${masked[@]}" --seeds --markdown
if [ ${#losses[@]} -gt 0 ]; then
  mapfile -t lossy < <(named attmask "${losses[@]}")
  echo
  sslkit compare "${lossy[@]}" --seeds --markdown
fi
