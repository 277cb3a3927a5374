#!/usr/bin/env bash
# A SLURM cluster of two nodes on this machine, apart from any other: its own configuration, keys, ports and files.
#
# Usage: cluster.sh start FOLDER    prints "export SLURM_CONF=..." for the shell that talks to it
#        cluster.sh stop FOLDER     ends its daemons, which also ends its jobs
#
# Debian's packages `slurm-wlm` and `munge` have all that it needs. Daemons run as the user who starts them.
set -euo pipefail
action=$1 folder=$(mkdir -p "$2" && cd "$2" && pwd)
# Processes meet at the first node in alphabetical order, whose name must have an address: that of the machine has.
first=$(hostname -s)
second=$first-second

start() {
  umask 022
  mkdir -p "$folder"/{state,spool.$first,spool.$second}
  # A key of its own: no other cluster on this machine takes its messages for its own.
  head -c 1024 /dev/urandom > "$folder/munge.key"
  chmod 600 "$folder/munge.key"
  munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"

  # Three free ports; the kernel's search for free ones begins elsewhere.
  local ports
  mapfile -t ports < <(python3 - <<'PY'
import socket
open_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(each.getsockname()[1] for each in open_ports), sep="\n")
PY
  )
  cat > "$folder/slurm.conf" <<CONF
ClusterName=sslkit-test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,defer
SlurmdParameters=config_overrides
KillWait=5
ReturnToService=2
NodeName=$first NodeAddr=127.0.0.1 Port=${ports[1]} CPUs=2 State=UNKNOWN
NodeName=$second NodeAddr=127.0.0.1 Port=${ports[2]} CPUs=2 State=UNKNOWN
PartitionName=test Nodes=$first,$second Default=YES MaxTime=INFINITE State=UP
CONF
  export SLURM_CONF=$folder/slurm.conf
  slurmctld
  slurmd -N "$first"
  slurmd -N "$second"
  for _ in $(seq 600); do
    [ "$(sinfo --noheader --format %T 2> /dev/null)" != idle ] || { echo "export SLURM_CONF=$SLURM_CONF"; return; }
    sleep 0.1
  done
  echo "the nodes did not come up: $(tail -n 3 "$folder"/*.log)" >&2
  return 1
}

stop() {
  local pid pids=()
  for pid in "$folder"/*.pid; do
    [ ! -s "$pid" ] || pids+=("$(cat "$pid")")
  done
  [ ${#pids[@]} -gt 0 ] || return 0
  SLURM_CONF=$folder/slurm.conf scancel --quiet --signal=KILL --full --user="$(id -un)" 2> /dev/null || true
  kill "${pids[@]}" 2> /dev/null || true
  for _ in $(seq 100); do
    # A daemon whose parent does not wait for it stays as a zombie.
    ps -o stat= -p "$(IFS=,; echo "${pids[*]}")" | grep -qv '^Z' || return 0
    sleep 0.1
  done
  kill -KILL "${pids[@]}" 2> /dev/null || true
}

"$action"
