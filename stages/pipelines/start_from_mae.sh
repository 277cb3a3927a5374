#!/usr/bin/env bash
# Train MAE on a fifth of CIFAR-10, continue from it with other recipes, and train the same recipes from scratch for the same time.
#
# Usage: start_from_mae.sh CIFAR [FOLDER] [MINUTES]
#   CIFAR    a folder or archive with train/ and test/ (or val/) class folders
#   MINUTES  of MAE, and again of each recipe that starts from it; from scratch, each recipe gets twice as many.
#            How many epochs fit is measured first.
# RECIPES="dino attmask" trains only those. Rerun the same command to resume.
set -euo pipefail
cifar=${1:?usage: start_from_mae.sh CIFAR [FOLDER] [MINUTES]}
out=${2:-runs/start-from-mae} minutes=${3:-5}
read -r -a recipes <<<"${RECIPES:-dino attmask vicreg}"

sslkit prepare "$out/data" --source folder --root "$cifar" --fraction 0.2

# A ViT of 192 x 4 with patch 8: 16 tokens for an image of 32 px, so that minutes are enough for some thousand steps.
pretrain() {
  local run="$out/$1" recipe=$2
  shift 2
  sslkit pretrain "$run" --data "$out/data" --recipe "$recipe" --recipe small32 \
    --set encoder.depth=4 --set encoder.patch_size=8 "$@"
}
# How many epochs of a recipe fit in MINUTES: measured once and kept, so that the recipe stays the same on resuming.
fitting() {
  local fits="$out/epochs-of-$1-in-$minutes-min"
  if [ ! -s "$fits" ]; then
    pretrain measured "$1" --dry-run --minutes "$minutes" --json |
      python3 -c 'import json, sys; print(json.load(sys.stdin)["epochs that fit"])' >"$fits"
  fi
  awk "{ print ${2:-1} * \$1 }" "$fits"
}
evaluate() {
  sslkit extract "$@"
  sslkit knn     "$1"
  sslkit linear  "$1"
}
for recipe in mae "${recipes[@]}"; do
  fitting "$recipe" >/dev/null
done
pretrain mae mae --epochs "$(fitting mae)"
evaluate "$out/mae"
for baseline in pixels random; do
  evaluate "$out/$baseline" --like "$out/mae" --weights "$baseline"
done
names=(pixels random mae)
for recipe in "${recipes[@]}"; do
  pretrain "mae-$recipe" "$recipe" --weights "$out/mae" --epochs "$(fitting "$recipe")"
  evaluate "$out/mae-$recipe"
  pretrain "$recipe" "$recipe" --epochs "$(fitting "$recipe" 2)"
  evaluate "$out/$recipe"
  names+=("$recipe" "mae-$recipe")
done

echo
cd "$out" && sslkit compare "${names[@]}" --markdown
