#!/usr/bin/env bash
# Remove DINO's components one at a time, without and with Barlow Twins: which combinations collapse, which cost accuracy?
#
# Usage: drop_dino_knobs.sh [FOLDER] [EPOCHS] [JOBS] [SEEDS]      on generated images (`shapes`)
#   JOBS   training runs at the same time; each gets cores / JOBS threads
#   SEEDS  as in "0 1"
# IMAGES=cifar10.tar.gz SCALE=small32 OPTIONS="--weights RUN" removes them on photographs, in runs that start from the
# encoder of RUN; BASE holds settings of all runs.
# The last column of the table is the monitor's final verdict; FOLDER/RECIPE.png shows how training got there.
set -euo pipefail
export out=${1:-runs/knobs} epochs=${2:-8}
jobs=${3:-1} seeds=${4:-0}
source "$(dirname "${BASH_SOURCE[0]}")/shared.sh" && share_cores "$jobs"
export scale=${SCALE:-demo} base=${BASE:-} options=${OPTIONS:-}

source=()
if [ -n "${IMAGES:-}" ]; then source=(--source folder --root "$IMAGES"); fi
sslkit prepare "$out/data" "${source[@]}"
knobs=(full no-centring no-sharpening no-temperature-warmup no-momentum no-frozen-layer)
recipes=(dino dino-barlow-joint dino-barlow-shared)

learn() {
  local recipe=$1 knob=$2 settings more
  read -r -a settings <<<"$base"
  # "full" has them all: centring, sharpening, a temperature that warms up, momentum, a last layer that is frozen at first.
  settings+=("objectives.dino.teacher_temperature=[0.02,0.04]" objectives.dino.temperature_warmup_epochs=30%)
  case $knob in
    full) ;;
    no-centring) settings+=(objectives.dino.centering=none) ;;
    no-sharpening) settings+=("objectives.dino.teacher_temperature=[0.1,0.1]") ;;
    no-temperature-warmup) settings+=("objectives.dino.teacher_temperature=[0.04,0.04]") ;;
    no-momentum) settings+=("teacher.momentum=[0.0,0.0]") ;;
    no-frozen-layer) settings+=(heads.prototypes.frozen=0) ;;
  esac
  for setting in $(barlow_weight "$recipe" "$scale"); do settings+=("$setting"); done
  read -r -a more <<<"$options"
  local run="$knob.$recipe-s$3"
  pretrain "$run" "$recipe" "$scale" "${settings[@]}" -- --epochs "$epochs" --seed "$3" "${more[@]}"
  sslkit extract "$out/$run" --workers "$WORKERS"
  sslkit knn     "$out/$run"
}
export -f learn
for seed in $seeds; do for knob in "${knobs[@]}"; do printf "%s $knob $seed\n" "${recipes[@]}"; done; done |
  xargs -P "$jobs" -L 1 bash -c 'set -euo pipefail; learn "$0" "$1" "$2"'

runs=()
for knob in "${knobs[@]}"; do
  for recipe in "${recipes[@]}"; do for seed in $seeds; do runs+=("$out/$knob.$recipe-s$seed"); done; done
done
for recipe in "${recipes[@]}"; do
  mapfile -t some < <(printf '%s\n' "${runs[@]}" | grep "\.$recipe-s${seeds%% *}\$")
  sslkit curves "${some[@]}" --out "$out/$recipe.png"
done
echo
sslkit compare "${runs[@]}" --markdown
