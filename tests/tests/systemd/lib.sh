# What the scripts about containers under systemd share; sourced. BIN is where pintle-runc is.
set -Eeuo pipefail
trap 'echo "line $LINENO failed: $BASH_COMMAND" >&2; systemctl --no-pager --all list-units "*t-*" >&2; cat "$log" >&2 || true' ERR
work=$(mktemp -d) top=/sys/fs/cgroup log=/tmp/log.json
cd "$work"
mkdir -p rootfs/{bin,proc,sys,dev,tmp}
cp /bin/busybox rootfs/bin/
for applet in sh sleep cat true; do ln -s busybox rootfs/bin/$applet; done

runc() {
  "$BIN/pintle-runc" --root "$work/state" --log $log --log-format json "$@"
}
# bundle CGROUPSPATH [JSON of linux.resources] [JSON of annotations]: a container that runs until it is told to end.
bundle() {
  local resources=${2:-} annotations=${3:-}
  cat > config.json <<J
{"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "annotations": {${annotations}},
 "process": {"args": ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait; done"], "cwd": "/",
  "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
 "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
  {"destination": "/sys", "type": "sysfs", "source": "sysfs"},
  {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}],
 "linux": {"cgroupsPath": "$1", "resources": {${resources}},
  "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "cgroup"}, {"type": "ipc"}, {"type": "network"}]}}
J
}
create() {
  runc --systemd-cgroup create --pid-file pid "$@" < /dev/null > out 2>&1
}
show() {
  systemctl show -P "$2" "$1"
}
# fails COMMAND...: errexit does not look at what follows a `!`.
fails() {
  if "$@"; then echo "this succeeded: $*" >&2; return 1; fi
}
# is WHAT ACTUAL EXPECTED
is() {
  [ "$2" = "$3" ] || { echo "$1 is '$2', not '$3'" >&2; return 1; }
}
# shows UNIT PROPERTY=VALUE...: asked once, because every program takes a while here.
shows() {
  systemctl show "$1" > shown
  for pair in "${@:2}"; do grep -qxF "$pair" shown || { echo "no $pair in $1" >&2; return 1; }; done
}
# holds DIRECTORY FILE=VALUE...
holds() {
  for pair in "${@:2}"; do is "${pair%%=*}" "$(cat "$top/$1/${pair%%=*}")" "${pair#*=}"; done
}
at() { # since the start, and what comes
  echo "--- $SECONDS s: $*"
}
# killed_at_any_moment: creations of the bundle t.slice:t:killed that are killed, each later; nothing is left of them.
killed_at_any_moment() {
  local ended=0 code
  for moment in 0.05 0.1 0.2 0.3 0.4 0.6 0.9 2 8; do
    code=0
    timeout -s KILL $moment "$BIN/pintle-runc" --root "$work/state" --systemd-cgroup create killed </dev/null >out 2>&1 || code=$?
    runc delete --force killed
    gone t-killed.scope t.slice/t-killed.scope
    [ ! -e state/killed ]
    fails pgrep -f 'pintle-runc.*create killed'
    [ $code -ne 0 ] || { ended=1 && break; }
  done
  is 'creation was reached' $ended 1
}
