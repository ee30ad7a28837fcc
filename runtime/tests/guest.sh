#!/bin/bash
# Runs in a VM with pure cgroup v2 (vagrant/vm/run.sh): the tests of the binary named first, one at a time.
#   guest.sh TEST-BINARY [PART-OF-A-NAME...]
set -euo pipefail
"$@" --test-threads=1 --skip in_a_vm
