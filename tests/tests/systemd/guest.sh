#!/bin/bash
# Runs in a VM whose first process is systemd (vagrant/vm/run.sh -S), with the units as `make install` leaves them.
# BIN and KUBECTL name the programs.
set -euo pipefail
units='pintle-server pintle-agent pintle'
trap 'echo "line $LINENO failed: $BASH_COMMAND" >&2; for u in $units; do journalctl --no-pager -n 30 -u $u; done; tail -n 20 $state/log/* || true' ERR
state=/var/lib/vm/state
export KUBECONFIG=$state/kubeconfig HOME=/tmp
for module in overlay veth nf_tables nf_conntrack nf_nat nft_chain_nat; do modprobe "$module" || true; done
ip link add lan0 type veth peer name lan1
ip addr add 192.0.2.1/24 dev lan0
ip link set lan0 up
ip link set lan1 up
ip route add default dev lan0

ln -sf "$BIN/pintle" "$BIN/pintle-runc" /usr/local/bin/
for unit in $units; do
  sed 's|@PREFIX@|/usr/local|g' "dist/systemd/$unit.service" > "/etc/systemd/system/$unit.service"
done
mkdir -p /etc/default
for name in $units; do echo "PINTLE_STATE_DIR=$state" > "/etc/default/$name"; done
systemctl daemon-reload

# kubectl takes seconds in a VM without hardware; the process tells as well whether the container is still the same one.
process() {
  pgrep -fx 'sleep 777'
}
unchanged() {
  [ "$(process)" = "$1" ] || { echo "the process was $1 and is $(process) after $2" >&2; return 1; }
}
restarts() {
  "$KUBECTL" get pod one -o jsonpath='{.status.containerStatuses[0].restartCount}'
}
# The limits of the container in the kernel; systemd knows nothing of these groups and must leave them alone.
limits() {
  group=/sys/fs/cgroup$(sed 's/^0:://' "/proc/$(process)/cgroup")
  [ "$(cat "$group/memory.max")" = 33554432 ]
  [ "$(cat "$group/cpu.max")" = '20000 100000' ]
}
# No process of ours but the supervisors of pods.
only_pods_run() {
  [ "$(pgrep -cx pintle)" = 0 ]
  process >/dev/null
}
nothing_is_left() {
  [ "$(pgrep -cf '/pintle |pintle-runc')" = 0 ]
  [ ! -e /sys/fs/cgroup/pintle ]
  [ ! -e /run/pintle ]
  [ "$(ip -o link | grep -vc ': \(lo\|lan.\)[:@]')" = 0 ]
  [ -z "$(nft list tables)" ]
  [ -z "$(find /sys/fs/cgroup/system.slice -path '*pintle*' -name cgroup.procs -exec cat {} +)" ]
}
at() {
  echo "--- $SECONDS s: $*"
}
start_pod() {
  at a pod
  "$KUBECTL" apply -f tests/tests/systemd/one.yaml
  "$KUBECTL" wait pod one --for=condition=Ready --timeout=200s
}

# /bin/sh and sleep are enough.
pintle image build --state-dir $state --name pintle.example/busybox:1 --file examples/busybox.yaml --symlink busybox:/bin/sleep

at a server and an agent, as on real nodes
systemctl start pintle-server
printf 'PINTLE_SERVER=https://192.0.2.1:6443\nPINTLE_TOKEN=%s\n' "$(cat $state/server/token)" >> /etc/default/pintle-agent
# Returns once the node is Ready.
systemctl start pintle-agent
"$KUBECTL" get nodes --no-headers | grep ' Ready '
start_pod
before=$(process)
limits
systemctl daemon-reload
limits
at restart
systemctl restart pintle-agent pintle-server
unchanged "$before" 'a restart of both services'
at kill -9
systemctl kill --kill-whom=main --signal=KILL pintle-agent
until [ "$(systemctl show -P NRestarts pintle-agent)" = 1 ] && systemctl -q is-active pintle-agent; do sleep 0.1; done
unchanged "$before" 'a kill -9 of the agent'
[ "$(restarts)" = 0 ]
at stop
systemctl stop pintle-agent pintle-server
only_pods_run
at down
pintle down --state-dir $state --host-network
nothing_is_left

at a whole cluster on one machine
rm -rf $state/server $state/agent/pki $state/agent/*.kubeconfig
systemctl start pintle
start_pod
before=$(process)
at restart
systemctl restart pintle
unchanged "$before" 'a restart of the service'
[ "$(restarts)" = 0 ]
limits
at stop
systemctl stop pintle
only_pods_run
at down
pintle down --state-dir $state
nothing_is_left
echo 'systemd: all is well'
