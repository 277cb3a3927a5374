#!/usr/bin/env bash
# Ten minutes on a GPU: the tests that need one, training steps of ViT-S/16, and for the time that is left AttMask against
# iBOT with random masks and DINO on CIFAR-10, from scratch and side by side.
#
# Usage: gpu.sh CIFAR [FOLDER] [MINUTES]
#   CIFAR    a folder or archive with train/ and test/ (or val/) class folders
#   MINUTES  for everything; what is not finished then goes on with the next call of the same command
# EPOCHS and SEEDS are those of the runs, JOBS how many of them share the card. Rehearsed on a CPU, in half an hour:
#   DEVICE=cpu ARCH=vit_tiny_patch16_224 BATCH=4 STEPS=1 EPOCHS=0.02 SEEDS=0 bash tests/benchmarks/gpu.sh CIFAR runs/gpu 60
set -euo pipefail
cifar=${1:?usage: gpu.sh CIFAR [FOLDER] [MINUTES]}
out=${2:-runs/gpu} minutes=${3:-10}
jobs=${JOBS:-$(($(nproc) > 16 ? 8 : ($(nproc) + 1) / 2))}
here=$(dirname "${BASH_SOURCE[0]}") began=$SECONDS
mkdir -p "$out"
left() { # seconds, less those of the argument
  local seconds=$((60 * minutes - (SECONDS - began) - ${1:-0}))
  if [ "$seconds" -lt 5 ]; then echo "the time is up: the same command goes on" >&2 && exit 1; fi
  echo "$seconds"
}

if [ ! -e "$out/tested" ]; then
  timeout "$(left)" python -m pytest -q "$here/../test_cuda.py" && touch "$out/tested"
fi

seconds=$(left)
timeout "$seconds" python "$here/gpu.py" --out "$out" --device "${DEVICE:-auto}" --arch "${ARCH:-vit_small_patch16_224}" \
  --batch-size "${BATCH:-128}" --steps "${STEPS:-12}" --rows "${ROWS:-6}"

# Each run has one worker and one process that feeds the card: two cores.
seconds=$(left)
export RECIPES=${RECIPES:-attmask ibot-random dino} WORKERS=1 PARTS="scratch baselines"
export BASE="encoder.depth=4 encoder.patch_size=8 train.batch_size=256"
export FAMILY="optim.lr=1.5e-3 views.local.count=0 heads.prototypes.batch_norm=true"
timeout "$seconds" bash "$here/../../stages/pipelines/long_runs.sh" \
  "$cifar" "$out/cifar" "${EPOCHS:-10}" 0 0 "${SEEDS:-0 1}" "$jobs"
names=(pixels random)
for recipe in $RECIPES; do for seed in ${SEEDS:-0 1}; do names+=("$recipe-s$seed"); done; done
cd "$out/cifar" && sslkit compare "${names[@]}" --seeds --markdown
