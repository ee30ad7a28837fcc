#!/bin/bash
# Runs in a VM whose kernel CRIU knows (vagrant/vm/run.sh): each part in its turn, or those that are named.
set -Eeuo pipefail
here=$PWD/tests/tests/criu
trap 'echo "line $LINENO of $BASH_SOURCE failed: $BASH_COMMAND" >&2; tail -n 15 "$(ls -t */dump.log */restore.log | head -1)" >&2 || true' ERR
. "$here/lib.sh"
[ $# -gt 0 ] || set -- counting terminal tcp pages refusals killed
for part in "$@"; do . "$here/$part.sh"; done
echo 'criu: all is well'
