#!/usr/bin/env bash
# Train on one dataset and evaluate on several: rows are the training data, columns the evaluation data.
#
# Usage: transfer.sh FOLDER RECIPE NAME:EPOCHS=IMAGES [NAME:EPOCHS=IMAGES ...]
#   EPOCHS  of training on these images; give a smaller set more, so that all train for the same time
#   IMAGES  a run that holds prepared data, a folder or archive of class folders, or the word digits (scikit-learn's)
# All images are resized to 32 px. Rerun the same command to resume.
set -euo pipefail
: "${3:?usage: transfer.sh FOLDER RECIPE NAME:EPOCHS=IMAGES [NAME:EPOCHS=IMAGES ...]}"
out=$1 recipe=$2
shift 2
source "$(dirname "${BASH_SOURCE[0]}")/shared.sh" && share_cores 1

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
everywhere() { # RUN [OPTIONS of extract]: features and both probes on every dataset
  local name
  for name in "${names[@]}"; do evaluate "$1" --data "${data[$name]}" "${@:2}"; done
}
for name in "${names[@]}"; do
  sslkit pretrain "$out/$name" --data "${data[$name]}" --recipe "$recipe" --recipe small32 \
    --set encoder.depth=4 --epochs "${epochs[$name]}"
  everywhere "$name"
done
everywhere random --weights random --like "$out/${names[0]}"

echo
sslkit compare "$out/random" "${names[@]/#/$out/}" --no-configs
