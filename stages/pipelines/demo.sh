#!/usr/bin/env bash
# The demo: AttMask on `shapes`, with raw pixels and random weights as baselines.
#
# Usage: demo.sh [FOLDER]      makes three runs below FOLDER; rerun it to resume
set -euo pipefail
out=${1:-runs/demo}
echo "AttMask and two baselines on generated images: about six minutes on two CPU cores, most of them training"

sslkit prepare  "$out/attmask"
sslkit pretrain "$out/attmask" --recipe attmask --recipe demo
sslkit extract  "$out/attmask"

sslkit extract  "$out/random" --like "$out/attmask" --weights random
sslkit extract  "$out/pixels" --like "$out/attmask" --weights pixels
for run in pixels random attmask; do
  sslkit knn    "$out/$run"
  sslkit linear "$out/$run"
done
sslkit attn-viz "$out/attmask" --masks

echo
sslkit compare "$out/pixels" "$out/random" "$out/attmask"
echo
echo "What the model saw:       $out/attmask/pretrain/views.png"
echo "What it attends to:       $out/attmask/attention/index.html"
echo "Everything about the run: sslkit status $out/attmask"
