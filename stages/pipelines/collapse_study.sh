#!/usr/bin/env bash
# DINO's two safeguards against collapse, one at a time (arXiv:2104.14294, figure 7): centring only, sharpening only, both.
#
# Usage: collapse_study.sh [FOLDER] [EPOCHS]      on generated images (`shapes`)
# Ends in FOLDER/collapse.png: the teacher's entropy and KL(teacher || student) during training, with ln K marked.
set -euo pipefail
out=${1:-runs/collapse} epochs=${2:-8}

sslkit prepare "$out/data"
learn() {
  sslkit pretrain "$out/$1" --data "$out/data" --recipe dino --recipe demo --epochs "$epochs" "${@:2}"
}
learn both
# Without sharpening, the teacher's temperature equals the student's.
learn centring-only   --set objectives.dino.teacher_temperature=[0.1,0.1]
learn sharpening-only --set objectives.dino.centering=none

sslkit curves "$out"/{centring-only,sharpening-only,both} --out "$out/collapse.png"
for run in centring-only sharpening-only both; do
  sslkit extract "$out/$run"
  sslkit knn     "$out/$run"
done
echo
sslkit compare "$out"/{centring-only,sharpening-only,both}
