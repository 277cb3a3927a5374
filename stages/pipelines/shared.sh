# What the experiments of this folder share: they source it, and it runs nothing. Runs are folders below $out.

share_cores() { # JOBS: each of so many training runs at the same time gets its part of the cores
  local cores
  cores=$(env -u OMP_NUM_THREADS nproc) # nproc itself obeys OMP_NUM_THREADS
  export OMP_NUM_THREADS=$((cores > $1 ? cores / $1 : 1)) WORKERS=${WORKERS:-auto}
}

pretrain() { # RUN RECIPE SCALE SETTINGS... [-- OPTIONS]
  local run="$out/$1" recipe=$2 size=$3 words=()
  shift 3
  while [ $# -gt 0 ] && [ "$1" != -- ]; do words+=(--set "$1") && shift; done
  sslkit pretrain "$run" --data "$out/data" --recipe "$recipe" --recipe "$size" --workers "$WORKERS" "${words[@]}" "${@:2}"
}

evaluate() { # RUN [--data DATA] [OPTIONS of extract]; LINEAR holds options of linear
  local run="$out/$1" data=() probe
  shift
  if [ "${1:-}" = --data ]; then data=("${@:1:2}") && shift 2; fi
  read -r -a probe <<<"${LINEAR:-}"
  sslkit extract "$run" --workers "$WORKERS" "${data[@]}" "$@"
  sslkit knn     "$run" "${data[@]}"
  sslkit linear  "$run" "${data[@]}" "${probe[@]}"
}

barlow_weight() { # RECIPE SCALE: in a mixture, Barlow Twins' weight is ln K / D, of the scale's K and D; else nothing
  case $1:$2 in
    dino-barlow-joint:demo) echo objectives.barlow_twins.weight=0.0217 ;;
    dino-barlow-shared:demo) echo objectives.barlow_twins.weight=0.0866 ;;
    dino-barlow-joint:small*) echo objectives.barlow_twins.weight=0.0135 ;;
    dino-barlow-shared:small*) echo objectives.barlow_twins.weight=0.0542 ;;
  esac
}
export -f pretrain evaluate barlow_weight
