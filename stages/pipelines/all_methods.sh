#!/usr/bin/env bash
# Train every method for the same time on a fifth of CIFAR-10; evaluate all alike, with raw pixels and random weights.
#
# Usage: all_methods.sh CIFAR [FOLDER] [MINUTES] [JOBS]
#   CIFAR    a folder or archive with train/ and test/ (or val/) class folders
#   MINUTES  of training per recipe; how many epochs fit is measured first
#   JOBS     training runs at the same time; each gets cores / JOBS threads
# This ranks early learning: minutes on a CPU say little about what a method reaches in the end.
# Rerun the same command to resume.
set -euo pipefail
cifar=${1:?usage: all_methods.sh CIFAR [FOLDER] [MINUTES] [JOBS]}
export out=${2:-runs/all-methods} minutes=${3:-10} jobs=${4:-1}
source "$(dirname "${BASH_SOURCE[0]}")/shared.sh" && share_cores "$jobs"

recipes=(supervised dino dino-sinkhorn dino-koleo ibot-random ibot attmask attmask-hint attmask-low masked-distill
  mae mae-block mae-attmask simclr byol barlow-twins vicreg swav dino-barlow-joint dino-barlow-shared
  rotation jigsaw deep-cluster attmask-distill attmask-pool attmask-weighted attmask-diversity)
# RECIPES="dino mae" trains only those.
read -r -a recipes <<<"${RECIPES:-${recipes[*]}}"

sslkit prepare "$out/data" --source folder --root "$cifar" --fraction 0.2

learn() {
  local run="$out/$1"
  local words=(--data "$out/data" --recipe "$1" --recipe small32)
  # 192 wide, as all of small32, but only 4 blocks deep: more epochs in the same time.
  words+=(--set encoder.depth=4 --set monitor.every_epochs=5)
  for setting in $(barlow_weight "$1" small32); do words+=(--set "$setting"); done
  # Measured once and kept, so that the recipe stays the same when this script resumes.
  local fits="$run.epochs-in-$minutes-min"
  if [ ! -s "$fits" ]; then
    sslkit pretrain "$run" "${words[@]}" --dry-run --minutes "$minutes" --json |
      python3 -c 'import json, sys; print(json.load(sys.stdin)["epochs that fit"])' >"$fits"
  fi
  sslkit pretrain "$run" "${words[@]}" --epochs "$(cat "$fits")"
  evaluate "$1"
}
export -f learn
printf '%s\n' "${recipes[@]}" | xargs -P "$jobs" -I{} bash -c 'set -euo pipefail; learn {}'

for baseline in random pixels; do
  evaluate "$baseline" --like "$out/${recipes[0]}" --weights "$baseline"
done

echo
cd "$out" && sslkit compare pixels random "${recipes[@]}" --markdown
