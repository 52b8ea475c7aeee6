#!/bin/bash
# What happens on a TPU VM, told by launch/tpu.py through ssh:
#   worker.sh start | follow [lines] | state | stop | kill
# The folder it lies in also holds command.sh (what to run), env (credentials, gone once read), log, pid and status.
set -u
cd "$(dirname "$0")" || exit 1

alive() { # whether the process of the pid file is ours and runs
  [ -s pid ] && tr '\0' ' ' < "/proc/$(cat pid)/cmdline" 2>/dev/null | grep -q "worker.sh run"
}

signal_all() { # the whole session: this script and what it runs
  alive && kill "-$1" -- "-$(cat pid)"
}

case "$1" in
  start)
    # What is left of a run before: its processes, and the lock that a killed one leaves behind.
    signal_all KILL
    while alive; do sleep 0.2; done
    lock=${TMPDIR:-/tmp}/libtpu_lockfile
    rm -f status "$lock" 2>/dev/null || sudo rm -f "$lock"
    touch log
    echo "--- start $(date -u +%Y-%m-%dT%H:%M:%SZ)" >> log
    nohup setsid bash "$PWD/worker.sh" run >> log 2>&1 < /dev/null &
    echo $! > pid
    ;;
  run)
    trap : TERM INT # the command saves and ends; its exit status is wanted
    if [ -f env ]; then
      set -a
      . ./env
      set +a
      rm -f env
    fi
    bash command.sh
    echo "$? $(date +%s.%N)" > status.new
    mv status.new status
    ;;
  follow)
    tail --lines="${2:-+1}" --pid="$(cat pid)" -F log 2>/dev/null | sed -u "s/^/[$(hostname)] /"
    bash "$PWD/worker.sh" state
    ;;
  state)
    if alive; then ended=running; else ended=$(cat status 2>/dev/null || echo "137 $(date +%s.%N)"); fi
    echo "vit_jax-worker $(hostname) $(sha256sum < command.sh 2>/dev/null | cut -c 1-16) $ended"
    ;;
  stop) signal_all TERM ;;
  kill) signal_all KILL ;;
esac
exit 0
