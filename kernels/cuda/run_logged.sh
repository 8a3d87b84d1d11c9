#!/bin/sh
# run_logged.sh LOG COMMAND...: runs the command, keeps what it says in LOG, and shows it only when the command fails.
log=$1
shift
"$@" >"$log" 2>&1 || {
  cat "$log" >&2
  exit 1
}
