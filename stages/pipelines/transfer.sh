#!/usr/bin/env bash
# Learn on one dataset, judge on several: one table. Rows are what was learnt on, columns what was judged on.
#
# Usage: transfer.sh FOLDER RECIPE NAME:EPOCHS=IMAGES [NAME:EPOCHS=IMAGES ...]
#   EPOCHS  of the training on these images; of a smaller set more, so that all are trained for as long
#   IMAGES  a folder or archive of class folders, or the word digits (scikit-learn's, no download)
# FRACTION=0.2 takes a fifth of the train images of each folder.
# Images of all sizes are seen at 32 px. The same command again goes on where it stopped.
set -euo pipefail
: "${3:?usage: transfer.sh FOLDER RECIPE NAME:EPOCHS=IMAGES [NAME:EPOCHS=IMAGES ...]}"
out=$1 recipe=$2
shift 2

names=()
declare -A epochs
for pair in "$@"; do
  left=${pair%%=*} images=${pair#*=}
  name=${left%%:*}
  names+=("$name")
  epochs[$name]=${left#*:}
  if [ "$images" = digits ]; then
    sslkit prepare "$out/data/$name" --source digits
  else
    sslkit prepare "$out/data/$name" --source folder --root "$images" --fraction "${FRACTION:-1}"
  fi
done
# Features and both probes on every dataset; further words name the encoder.
judge() {
  local run=$1
  shift
  for name in "${names[@]}"; do
    sslkit extract "$run" --data "$out/data/$name" "$@"
    sslkit knn     "$run" --data "$out/data/$name"
    sslkit linear  "$run" --data "$out/data/$name"
  done
}
for name in "${names[@]}"; do
  sslkit pretrain "$out/$name" --data "$out/data/$name" --recipe "$recipe" --recipe small32 \
    --set encoder.depth=4 --epochs "${epochs[$name]}"
  judge "$out/$name"
done
judge "$out/random" --weights random --like "$out/${names[0]}"

echo
sslkit compare "$out/random" "${names[@]/#/$out/}" --no-configs
