#!/usr/bin/env bash
# The DINO family on small photographs for as long as you can wait: from scratch, and from an MAE, against MAE and the baselines.
#
# Usage: long_runs.sh IMAGES [FOLDER] [EPOCHS] [MAE_EPOCHS] [MORE_EPOCHS] [SEEDS] [JOBS]
#   IMAGES   a folder or archive with train/ and test/ (or val/) class folders
#   EPOCHS   of the runs from scratch; MAE_EPOCHS of MAE, MORE_EPOCHS of the runs that start from it
#   SEEDS    as in "0 1"
#   JOBS     training runs at the same time; each gets cores / JOBS threads
# RECIPES="dino attmask" trains only those; BASE holds settings of all runs, FAMILY those of all but MAE.
# PARTS="mae from-mae" does only those parts; several machines can share a folder so. Rerun the same command to resume.
set -euo pipefail
images=${1:?usage: long_runs.sh IMAGES [FOLDER] [EPOCHS] [MAE_EPOCHS] [MORE_EPOCHS] [SEEDS] [JOBS]}
export out=${2:-runs/long} epochs=${3:-30} mae_epochs=${4:-30} more_epochs=${5:-15} seeds=${6:-0} jobs=${7:-1}
# nproc itself obeys OMP_NUM_THREADS.
cores=$(env -u OMP_NUM_THREADS nproc)
export OMP_NUM_THREADS=$((cores > jobs ? cores / jobs : 1)) WORKERS=${WORKERS:-auto}
# A ViT of 192 x 4 with patch 8: 16 tokens for an image of 32 px, a quarter of the cost of patch 4.
export base=${BASE:-encoder.depth=4 encoder.patch_size=8} family=${FAMILY:-}
read -r -a recipes <<<"${RECIPES:-dino ibot-random attmask dino-barlow-joint}"
read -r -a parts <<<"${PARTS:-mae scratch from-mae baselines}"

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

family_runs() { # the runs of the family, a line each: "scratch", or "from-mae"
  for seed in $seeds; do
    for recipe in "${recipes[@]}"; do
      local words="$base $family"
      # In a mixture, Barlow Twins' weight is ln K / D, with this scale's K and D.
      if [ "$recipe" = dino-barlow-joint ]; then words+=" objectives.barlow_twins.weight=0.0135"; fi
      case $1 in
        scratch) echo "$recipe-s$seed $recipe $epochs $words -- --seed $seed" ;;
        from-mae) echo "mae-$recipe-s$seed $recipe $more_epochs $words -- --seed $seed --weights $out/mae" ;;
      esac
    done
  done
}
for part in "${parts[@]}"; do
  case $part in
    mae) read -r -a shared <<<"$base" && learn mae mae "$mae_epochs" "${shared[@]}" ;;
    scratch | from-mae) family_runs "$part" | xargs -P "$jobs" -L 1 bash -c 'set -euo pipefail; learn "$0" "$@"' ;;
    baselines)
      for baseline in pixels random; do
        evaluate "$out/$baseline" --like "$out/${recipes[0]}-s${seeds%% *}" --weights "$baseline"
      done ;;
  esac
done

if [ -z "${PARTS:-}" ]; then
  names=(pixels random mae)
  for recipe in "${recipes[@]}"; do
    for seed in $seeds; do names+=("$recipe-s$seed" "mae-$recipe-s$seed"); done
  done
  echo
  cd "$out" && sslkit compare "${names[@]}" --seeds --markdown
fi
