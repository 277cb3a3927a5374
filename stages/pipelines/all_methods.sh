#!/usr/bin/env bash
# Every method for the same minutes on a fifth of CIFAR-10, judged alike, beside raw pixels and the untrained encoder.
#
# Usage: all_methods.sh CIFAR [FOLDER] [MINUTES] [JOBS]
#   CIFAR    a folder or archive with train/ and test/ (or val/) class folders
#   MINUTES  of training for each recipe; the epochs that fit are measured first
#   JOBS     trainings at the same time, with as many cores each as there are cores / JOBS
# A ranking of early learning: minutes on a CPU say little about what a method reaches in the end.
# The same command again goes on where it stopped.
set -euo pipefail
cifar=${1:?usage: all_methods.sh CIFAR [FOLDER] [MINUTES] [JOBS]}
export out=${2:-runs/all-methods} minutes=${3:-10} jobs=${4:-1}
# nproc itself obeys the variable.
cores=$(env -u OMP_NUM_THREADS nproc)
export OMP_NUM_THREADS=$((cores > jobs ? cores / jobs : 1))

recipes=(supervised dino dino-sinkhorn dino-koleo ibot-random ibot attmask attmask-hint attmask-low masked-distill
  mae mae-block mae-attmask simclr byol barlow-twins vicreg swav dino-barlow-joint dino-barlow-shared
  rotation jigsaw deep-cluster attmask-distill attmask-pool attmask-weighted attmask-diversity)
# RECIPES="dino mae" trains only those.
read -r -a recipes <<<"${RECIPES:-${recipes[*]}}"

sslkit prepare "$out/data" --source folder --root "$cifar" --fraction 0.2

learn() {
  local run="$out/$1"
  local words=(--data "$out/data" --recipe "$1" --recipe small32)
  # 192 wide as all of small32, but 4 blocks deep: more epochs in the same minutes.
  words+=(--set encoder.depth=4 --set monitor.every_epochs=5)
  # Barlow's first weight in a mixture is ln K / D, of this scale's K and D.
  case $1 in
    dino-barlow-joint) words+=(--set objectives.barlow_twins.weight=0.0135) ;;
    dino-barlow-shared) words+=(--set objectives.barlow_twins.weight=0.0542) ;;
  esac
  # Measured once and kept, so that the recipe is the same when this script goes on where it stopped.
  local fits="$run.epochs-in-$minutes-min"
  if [ ! -s "$fits" ]; then
    sslkit pretrain "$run" "${words[@]}" --dry-run --minutes "$minutes" --json |
      python3 -c 'import json, sys; print(json.load(sys.stdin)["epochs that fit"])' >"$fits"
  fi
  sslkit pretrain "$run" "${words[@]}" --epochs "$(cat "$fits")"
  sslkit extract "$run"
  judge "$1"
}
judge() {
  sslkit knn    "$out/$1"
  sslkit linear "$out/$1"
}
export -f learn judge
printf '%s\n' "${recipes[@]}" | xargs -P "$jobs" -I{} bash -c 'set -euo pipefail; learn {}'

for baseline in random pixels; do
  sslkit extract "$out/$baseline" --like "$out/${recipes[0]}" --weights "$baseline"
  judge "$baseline"
done

echo
cd "$out" && sslkit compare pixels random "${recipes[@]}" --markdown
