#!/bin/bash
# Runs in a VM with pure cgroup v2 (vagrant/vm/run.sh), twice on the same disk. BIN and KUBECTL name the programs.
#   guest.sh first    the example on a whole cluster, its limits as the kernel has them; then the power fails
#   guest.sh second   the same cluster after the reboot, and nothing left once it is down
set -euo pipefail
trap 'echo "line $LINENO failed: $BASH_COMMAND" >&2' ERR
state=/var/lib/vm/state
export KUBECONFIG=$state/kubeconfig HOME=/tmp
for module in overlay veth nf_tables nf_conntrack nf_nat nft_chain_nat; do modprobe "$module" || true; done

# The Service's address answers with the name of a pod that exists.
answers() {
  ip=$("$KUBECTL" get service web -o jsonpath='{.spec.clusterIP}')
  name=$(curl -sS --max-time 20 "http://$ip/")
  "$KUBECTL" get pod "$name" -o name
}

# A pod that connects to the Service: its socket is an endpoint's peer (10.42.…, port 8080), not the virtual address's. The
# pods' cgroup is found when rules are looked at next, within half a minute.
begins_at_its_endpoint() {
  ip=$("$KUBECTL" get service web -o jsonpath='{.spec.clusterIP}')
  "$KUBECTL" exec deploy/web -- sh -c "
    for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
      sleep 4 | nc $ip 80 > /dev/null 2>&1 &
      sleep 2
      grep -q ' [0-9A-F]\{4\}2A0A:1F90 01 ' /proc/net/tcp && exit
    done
    cat /proc/net/tcp
    exit 1"
}

first() {
  "$BIN/pintle" check --state-dir $state
  links=$(/bin/busybox --list | grep -vx busybox | sed 's|.*|--symlink=busybox:/bin/&|')
  # shellcheck disable=SC2086
  "$BIN/pintle" image build --state-dir $state --name pintle.example/busybox:1 --file examples/busybox.yaml $links
  "$BIN/pintle" up --state-dir $state --timeout 200 --connect-time
  "$KUBECTL" apply -f examples/web.yaml
  "$KUBECTL" rollout status deployment/web --timeout=200s
  answers
  begins_at_its_endpoint

  pod=$("$KUBECTL" get pods -l app=web -o jsonpath='{.items[0].metadata.uid}')
  # The container's group, not the pod's: on v2 a group with children that have controllers holds no process itself.
  group=$(dirname "$(find /sys/fs/cgroup/pintle/kubepods -path "*/pod$pod/*/memory.max" -not -path '*/shim/*' | head -1)")
  echo "limits in $group"
  [ "$(cat "$group/memory.max")" = 33554432 ]
  [ "$(grep -c . "$group/cgroup.procs")" -ge 1 ]
  [ "$("$KUBECTL" exec deploy/web -- cat /proc/self/cgroup)" = 0::/ ]
  [ "$("$KUBECTL" exec deploy/web -- sh -c 'exit 9' 2>/dev/null || echo $?)" = 9 ]

  # What the API server has confirmed must outlive a power cut; nobody syncs for it here.
  "$KUBECTL" create configmap last-words --from-literal=said=yes
  echo 'cgroup v2: now the power fails'
  sleep 1 # for the console, which is behind the same processor
  echo b > /proc/sysrq-trigger
  sleep 60
}

second() {
  "$BIN/pintle" up --state-dir $state --timeout 200
  [ "$("$KUBECTL" get configmap last-words -o jsonpath='{.data.said}')" = yes ]
  "$KUBECTL" wait pod -l app=web --for='jsonpath={.status.containerStatuses[0].restartCount}=1' --timeout=200s
  "$KUBECTL" rollout status deployment/web --timeout=200s
  answers
  "$BIN/pintle" down --state-dir $state
  [ ! -e /sys/fs/cgroup/pintle ] && [ ! -e /run/pintle ]
  [ "$(ip -o link | grep -vc ': lo:')" = 0 ]
  echo 'cgroup v2: all is well after a power cut'
}

"$1"
