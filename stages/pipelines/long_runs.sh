#!/usr/bin/env bash
# The DINO family on small photographs for as long as you can wait: from scratch, and from an MAE, against MAE and the baselines.
#
# Usage: long_runs.sh IMAGES [FOLDER] [EPOCHS] [MAE_EPOCHS] [SEEDS] [JOBS]
#   IMAGES   a folder or archive with train/ and test/ (or val/) class folders
#   SEEDS    as in "0 1"
#   JOBS     training runs at the same time; each gets cores / JOBS threads
# RECIPES="dino attmask" trains only those; BASE holds settings of all runs, FAMILY those of all but MAE.
# MAE=RUN starts from that MAE and trains none. Rerun the same command to resume.
set -euo pipefail
images=${1:?usage: long_runs.sh IMAGES [FOLDER] [EPOCHS] [MAE_EPOCHS] [SEEDS] [JOBS]}
export out=${2:-runs/long} epochs=${3:-50} mae_epochs=${4:-50} seeds=${5:-0} jobs=${6:-1}
# nproc itself obeys OMP_NUM_THREADS.
cores=$(env -u OMP_NUM_THREADS nproc)
export OMP_NUM_THREADS=$((cores > jobs ? cores / jobs : 1)) WORKERS=${WORKERS:-auto} MAE=${MAE:-$out/mae}
# A ViT of 192 x 4 with patch 8: 16 tokens for an image of 32 px, a quarter of the cost of patch 4.
export base=${BASE:-encoder.depth=4 encoder.patch_size=8} family=${FAMILY:-}
read -r -a recipes <<<"${RECIPES:-dino ibot-random attmask dino-barlow-joint}"

sslkit prepare "$out/data" --source folder --root "$images"

learn() { # NAME RECIPE EPOCHS SETTINGS... [-- MORE OPTIONS]
  local run="$out/$1" recipe=$2 length=$3 words=()
  shift 3
  while [ $# -gt 0 ] && [ "$1" != -- ]; do words+=(--set "$1") && shift; done
  sslkit pretrain "$run" --data "$out/data" --recipe "$recipe" --recipe small32 --epochs "$length" \
    --workers "$WORKERS" "${words[@]}" "${@:2}"
  evaluate "$run"
}
evaluate() {
  sslkit extract "$@" --workers "$WORKERS"
  sslkit knn     "$1"
  sslkit linear  "$1"
}
export -f learn evaluate

read -r -a shared <<<"$base"
if [ "$MAE" = "$out/mae" ]; then learn mae mae "$mae_epochs" "${shared[@]}"; fi
for seed in $seeds; do
  for recipe in "${recipes[@]}"; do
    echo "$recipe-s$seed $recipe $epochs $base $family -- --seed $seed"
    echo "mae-$recipe-s$seed $recipe $epochs $base $family -- --seed $seed --weights $MAE"
  done
done | xargs -P "$jobs" -L 1 bash -c 'set -euo pipefail; learn "$0" "$@"'
first="$out/${recipes[0]}-s${seeds%% *}"
for baseline in pixels random; do evaluate "$out/$baseline" --like "$first" --weights "$baseline"; done

names=(pixels random)
if [ "$MAE" = "$out/mae" ]; then names+=(mae); fi
for recipe in "${recipes[@]}"; do
  for seed in $seeds; do names+=("$recipe-s$seed" "mae-$recipe-s$seed"); done
done
echo
cd "$out" && sslkit compare "${names[@]}" --seeds --markdown
