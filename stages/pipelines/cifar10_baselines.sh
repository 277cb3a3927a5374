#!/usr/bin/env bash
# DINO, iBOT with random masks and AttMask on a fifth of CIFAR-10, with raw pixels and random weights as baselines.
#
# Usage: cifar10_baselines.sh CIFAR [FOLDER] [EPOCHS]
#   CIFAR   a folder or archive with train/ and test/ (or val/) class folders
#   EPOCHS  of each training run; 3 take minutes on two cores, the methods are made for 100 and more
set -euo pipefail
cifar=${1:?usage: cifar10_baselines.sh CIFAR [FOLDER] [EPOCHS]} out=${2:-runs/cifar10} epochs=${3:-3}

sslkit prepare "$out/data" --source folder --root "$cifar" --fraction 0.2
for recipe in dino ibot-random attmask; do
  sslkit pretrain "$out/$recipe" --data "$out/data" --recipe "$recipe" --recipe small32 --epochs "$epochs"
  sslkit extract  "$out/$recipe"
done
sslkit extract "$out/random" --like "$out/attmask" --weights random
sslkit extract "$out/pixels" --like "$out/attmask" --weights pixels
for run in pixels random dino ibot-random attmask; do
  sslkit knn    "$out/$run"
  sslkit linear "$out/$run"
done

echo
sslkit compare "$out"/{pixels,random,dino,ibot-random,attmask}
