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
source "$(dirname "${BASH_SOURCE[0]}")/shared.sh" && share_cores "$jobs"
# A ViT of 192 x 4 with patch 8: 16 tokens for an image of 32 px, a quarter of the cost of patch 4.
export base=${BASE:-encoder.depth=4 encoder.patch_size=8} family=${FAMILY:-}
read -r -a recipes <<<"${RECIPES:-dino ibot-random attmask dino-barlow-joint}"
read -r -a parts <<<"${PARTS:-mae scratch from-mae baselines}"

sslkit prepare "$out/data" --source folder --root "$images"

learn() { # NAME RECIPE EPOCHS SETTINGS... -- [MORE OPTIONS]
  pretrain "$1" "$2" small32 "${@:4}" --epochs "$3"
  evaluate "$1"
}
export -f learn

family_runs() { # the runs of the family, a line each: "scratch", or "from-mae"
  for seed in $seeds; do
    for recipe in "${recipes[@]}"; do
      local words="$base $family $(barlow_weight "$recipe" small32)"
      case $1 in
        scratch) echo "$recipe-s$seed $recipe $epochs $words -- --seed $seed" ;;
        from-mae) echo "mae-$recipe-s$seed $recipe $more_epochs $words -- --seed $seed --weights $out/mae" ;;
      esac
    done
  done
}
for part in "${parts[@]}"; do
  case $part in
    mae) read -r -a shared <<<"$base" && learn mae mae "$mae_epochs" "${shared[@]}" -- ;;
    scratch | from-mae) family_runs "$part" | xargs -P "$jobs" -L 1 bash -c 'set -euo pipefail; learn "$0" "$@"' ;;
    baselines)
      for baseline in pixels random; do
        evaluate "$baseline" --like "$out/${recipes[0]}-s${seeds%% *}" --weights "$baseline"
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
