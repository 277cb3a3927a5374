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
# nproc itself obeys OMP_NUM_THREADS.
cores=$(env -u OMP_NUM_THREADS nproc)
export OMP_NUM_THREADS=$((cores > jobs ? cores / jobs : 1)) WORKERS=${WORKERS:-auto}
export scale=${SCALE:-demo} base=${BASE:-} options=${OPTIONS:-}

source=()
if [ -n "${IMAGES:-}" ]; then source=(--source folder --root "$IMAGES"); fi
sslkit prepare "$out/data" "${source[@]}"
knobs=(full no-centring no-sharpening no-temperature-warmup no-momentum no-frozen-layer)
recipes=(dino dino-barlow-joint dino-barlow-shared)

learn() {
  local recipe=$1 knob=$2 words=() more
  read -r -a more <<<"$base"
  # "full" has them all: centring, sharpening, a temperature that warms up, momentum, a last layer that is frozen at first.
  more+=("objectives.dino.teacher_temperature=[0.02,0.04]" objectives.dino.temperature_warmup_epochs=30%)
  case $knob in
    full) ;;
    no-centring) more+=(objectives.dino.centering=none) ;;
    no-sharpening) more+=("objectives.dino.teacher_temperature=[0.1,0.1]") ;;
    no-temperature-warmup) more+=("objectives.dino.teacher_temperature=[0.04,0.04]") ;;
    no-momentum) more+=("teacher.momentum=[0.0,0.0]") ;;
    no-frozen-layer) more+=(heads.prototypes.frozen=0) ;;
  esac
  # Barlow's first weight in a mixture is ln K / D, of the scale's K and D.
  case $recipe:$scale in
    dino-barlow-joint:demo) more+=(objectives.barlow_twins.weight=0.0217) ;;
    dino-barlow-shared:demo) more+=(objectives.barlow_twins.weight=0.0866) ;;
    dino-barlow-joint:small*) more+=(objectives.barlow_twins.weight=0.0135) ;;
    dino-barlow-shared:small*) more+=(objectives.barlow_twins.weight=0.0542) ;;
  esac
  for setting in "${more[@]}"; do words+=(--set "$setting"); done
  read -r -a more <<<"$options"
  local run="$out/$knob.$recipe-s$3"
  sslkit pretrain "$run" --data "$out/data" --recipe "$recipe" --recipe "$scale" --epochs "$epochs" --seed "$3" \
    --workers "$WORKERS" "${words[@]}" "${more[@]}"
  sslkit extract "$run" --workers "$WORKERS"
  sslkit knn     "$run"
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
