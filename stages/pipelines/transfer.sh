#!/usr/bin/env bash
# Learn on one dataset, judge on several: one table. Rows are what was learnt on, columns what was judged on.
#
# Usage: transfer.sh FOLDER RECIPE NAME:EPOCHS=IMAGES [NAME:EPOCHS=IMAGES ...]
#   EPOCHS  of the training on these images; of a smaller set more, so that all are trained for as long
#   IMAGES  a run that holds prepared data, a folder or archive of class folders, or the word digits (scikit-learn's)
# Images of all sizes are seen at 32 px. The same command again goes on where it stopped.
set -euo pipefail
: "${3:?usage: transfer.sh FOLDER RECIPE NAME:EPOCHS=IMAGES [NAME:EPOCHS=IMAGES ...]}"
out=$1 recipe=$2
shift 2

names=()
declare -A epochs data
for pair in "$@"; do
  left=${pair%%=*} images=${pair#*=}
  name=${left%%:*}
  names+=("$name")
  epochs[$name]=${left#*:}
  data[$name]=$out/data/$name
  if [ "$images" = digits ]; then
    sslkit prepare "${data[$name]}" --source digits
  elif [ -e "$images/data/manifest.json" ]; then
    data[$name]=$images
  else
    sslkit prepare "${data[$name]}" --source folder --root "$images"
  fi
done
# Features and both probes on every dataset; further words name the encoder.
judge() {
  local run=$1
  shift
  for name in "${names[@]}"; do
    sslkit extract "$run" --data "${data[$name]}" "$@"
    sslkit knn     "$run" --data "${data[$name]}"
    sslkit linear  "$run" --data "${data[$name]}"
  done
}
for name in "${names[@]}"; do
  sslkit pretrain "$out/$name" --data "${data[$name]}" --recipe "$recipe" --recipe small32 \
    --set encoder.depth=4 --epochs "${epochs[$name]}"
  judge "$out/$name"
done
judge "$out/random" --weights random --like "$out/${names[0]}"

echo
sslkit compare "$out/random" "${names[@]/#/$out/}" --no-configs
