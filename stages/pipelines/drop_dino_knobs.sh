#!/usr/bin/env bash
# Remove DINO's components one at a time, without and with Barlow Twins: which combinations collapse?
#
# Usage: drop_dino_knobs.sh [FOLDER] [EPOCHS] [JOBS]      on generated images (`shapes`)
#   JOBS   training runs at the same time; each gets cores / JOBS threads
# The last column of the table is the monitor's final verdict; FOLDER/RECIPE.png shows how training got there.
set -euo pipefail
export out=${1:-runs/knobs} epochs=${2:-8}
jobs=${3:-1}
# nproc itself obeys OMP_NUM_THREADS.
cores=$(env -u OMP_NUM_THREADS nproc)
export OMP_NUM_THREADS=$((cores > jobs ? cores / jobs : 1))

sslkit prepare "$out/data"
knobs=(full no-centring no-sharpening no-temperature-warmup no-momentum no-frozen-layer)
recipes=(dino dino-barlow-joint dino-barlow-shared)

learn() {
  local recipe=$1 knob=$2 words=()
  # "full" has them all: centring, sharpening, a temperature that warms up, momentum, a last layer that is frozen at first.
  words+=(--set "objectives.dino.teacher_temperature=[0.02,0.04]" --set objectives.dino.temperature_warmup_epochs=30%)
  case $knob in
    full) ;;
    no-centring) words+=(--set objectives.dino.centering=none) ;;
    no-sharpening) words+=(--set "objectives.dino.teacher_temperature=[0.1,0.1]") ;;
    no-temperature-warmup) words+=(--set "objectives.dino.teacher_temperature=[0.04,0.04]") ;;
    no-momentum) words+=(--set "teacher.momentum=[0.0,0.0]") ;;
    no-frozen-layer) words+=(--set heads.prototypes.frozen=0) ;;
  esac
  # Barlow's first weight in a mixture is ln K / D, of this scale's K and D.
  case $recipe in
    dino-barlow-joint) words+=(--set objectives.barlow_twins.weight=0.0217) ;;
    dino-barlow-shared) words+=(--set objectives.barlow_twins.weight=0.0866) ;;
  esac
  local run="$out/$knob.$recipe"
  sslkit pretrain "$run" --data "$out/data" --recipe "$recipe" --recipe demo --epochs "$epochs" "${words[@]}"
  sslkit extract "$run"
  sslkit knn     "$run"
}
export -f learn
for knob in "${knobs[@]}"; do printf "%s $knob\n" "${recipes[@]}"; done |
  xargs -P "$jobs" -L 1 bash -c 'set -euo pipefail; learn "$0" "$1"'

runs=()
for knob in "${knobs[@]}"; do for recipe in "${recipes[@]}"; do runs+=("$out/$knob.$recipe"); done; done
for recipe in "${recipes[@]}"; do
  mapfile -t some < <(printf '%s\n' "${runs[@]}" | grep "\.$recipe\$")
  sslkit curves "${some[@]}" --out "$out/$recipe.png"
done
echo
sslkit compare "${runs[@]}" --markdown
