#!/usr/bin/env bash
# Drop DINO's hyper-parameters one at a time, without and with Barlow Twins: which combinations collapse?
#
# Usage: drop_dino_knobs.sh [FOLDER] [EPOCHS]      on the images made on the fly by `shapes`
# The last column of the table is the monitor's verdict at the end of the training.
set -euo pipefail
out=${1:-runs/knobs} epochs=${2:-8}

sslkit prepare "$out/data"
# "full" has them all: centring, sharpening, a temperature that warms up, momentum, a last layer that is frozen at first.
warm=(--set "objectives.dino.teacher_temperature=[0.02,0.04]" --set objectives.dino.temperature_warmup_epochs=30%)
declare -A without=(
  [full]=""
  [no-centring]="objectives.dino.centering=none"
  [no-sharpening]="objectives.dino.teacher_temperature=[0.1,0.1]"
  [no-temperature-warmup]="objectives.dino.teacher_temperature=[0.04,0.04]"
  [no-momentum]="teacher.momentum=[0.0,0.0]"
  [no-frozen-layer]="heads.prototypes.frozen=0"
)
knobs=(full no-centring no-sharpening no-temperature-warmup no-momentum no-frozen-layer)
runs=()
for knob in "${knobs[@]}"; do
  for recipe in dino dino-barlow-joint dino-barlow-shared; do
    run="$out/$recipe.$knob"
    runs+=("$run")
    words=("${warm[@]}")
    if [ -n "${without[$knob]}" ]; then words+=(--set "${without[$knob]}"); fi
    sslkit pretrain "$run" --data "$out/data" --recipe "$recipe" --recipe demo --epochs "$epochs" "${words[@]}"
    sslkit extract "$run"
    sslkit knn     "$run"
  done
done

echo
sslkit compare "${runs[@]}" --markdown
