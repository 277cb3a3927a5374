#!/usr/bin/env bash
# What a mask hides, and attention as a loss, with seeds: on `shapes`, whose true objects are known, or on photographs.
#
# Usage: attmask_study.sh [FOLDER] [EPOCHS] [SEEDS] [JOBS]
#   SEEDS  as in "0 1 2"
#   JOBS   training runs at the same time; each gets cores / JOBS threads
# MASKS="attmask block" and LOSSES="" train only those. BASE holds settings of all runs, OPTIONS other options of pretrain.
# IMAGES=photos.tar SIZE=64 SCALE=small64 OPTIONS="--weights RUN" is the study on photographs, from the encoder of a run.
# Rerun the same command to resume. Ends in two tables and, on `shapes`, in FOLDER/masked.png, the share of masked tokens
# on the object during training.
set -euo pipefail
export out=${1:-runs/attmask-study} epochs=${2:-12}
seeds=${3:-0 1 2} jobs=${4:-1}
source "$(dirname "${BASH_SOURCE[0]}")/shared.sh" && share_cores "$jobs"
export scale=${SCALE:-demo} base=${BASE:-monitor.every_epochs=4} options=${OPTIONS:-}

read -r -a masks <<<"${MASKS-attmask attmask-hint attmask-low ibot-random block sampled oracle}"
read -r -a losses <<<"${LOSSES-attmask-distill attmask-pool attmask-weighted attmask-diversity entropy}"

source=()
if [ -n "${IMAGES:-}" ]; then source=(--source folder --root "$IMAGES" --size "${SIZE:-64}"); fi
sslkit prepare "$out/data" "${source[@]}"
learn() {
  local recipe=$1 settings more
  read -r -a settings <<<"$base"
  # As often and as much as AttMask hides. The oracle hides the true object: an upper bound, not a method.
  case $recipe in
    oracle | block) settings+=("mask.strategy=$recipe" mask.ratio_per=step) recipe=attmask ;;
    sampled) settings+=(mask.strategy=attention_sampled) recipe=attmask ;;
    entropy) settings+=(objectives.dino.target_entropy=0.65 objectives.ibot.target_entropy=0.45) recipe=attmask ;;
  esac
  read -r -a more <<<"$options"
  pretrain "$1-s$2" "$recipe" "$scale" "${settings[@]}" -- --epochs "$epochs" --seed "$2" "${more[@]}"
  evaluate "$1-s$2"
}
export -f learn
for seed in $seeds; do printf '%s\n' "${masks[@]}" "${losses[@]}" | sed "/^\$/d; s/\$/ $seed/"; done |
  xargs -P "$jobs" -L 1 bash -c 'set -euo pipefail; learn "$0" "$1"'

named() { for name in "$@"; do for seed in $seeds; do echo "$out/$name-s$seed"; done; done; }
mapfile -t masked < <(named "${masks[@]}")
if [ -z "${IMAGES:-}" ]; then
  mapfile -t drawn < <(printf '%s\n' "${masked[@]}" | grep -v /oracle-)
  sslkit curves "${drawn[@]}" --seeds --metric masked_on_object --out "$out/masked.png"
fi
echo
sslkit compare "${masked[@]}" --seeds --markdown
if [ ${#losses[@]} -gt 0 ]; then
  mapfile -t lossy < <(named attmask "${losses[@]}")
  echo
  sslkit compare "${lossy[@]}" --seeds --markdown
fi
