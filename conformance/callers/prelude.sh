# What the scripts of callers share. $RT: the runtime, $PEERS: Debian's packages unpacked, $B: a directory with a rootfs.
# CGROUPS=systemd: he makes the cgroups.
# Each prints a line a step: `ok WHAT` or `not ok WHAT: what was seen`.
set -u
export PATH="$PEERS/usr/bin:$PEERS/usr/sbin:$PEERS/sbin:$PATH" LD_LIBRARY_PATH="$PEERS/usr/lib/x86_64-linux-gnu"
mkdir -p "$B/tmp" "$B/xdg" "$B/net"
export TMPDIR="$B/tmp" XDG_RUNTIME_DIR="$B/xdg"
step() {
  name=$1; shift
  if out=$("$@" 2>&1); then echo "ok $name"; else echo "not ok $name: $(echo "$out" | tail -2 | tr '\n' ' ')"; fi
}
is() { want=$1; shift; got=$("$@" 2>&1); [ "$got" = "$want" ] || { echo "$got, not $want"; return 1; }; }
has() { want=$1; shift; got=$("$@" 2>&1); case $got in *"$want"*) ;; *) echo "$got has no $want"; return 1;; esac; }
code() { want=$1; shift; got=$("$@" 2>&1); rc=$?; [ $rc = "$want" ] || { echo "exit code $rc, not $want: $got"; return 1; }; }
refused() { want=$1; shift; if got=$("$@" 2>&1); then echo "it was done"; return 1; fi; case $got in *"$want"*) ;; *) echo "$got"; return 1;; esac; }
await() { n=0; until "$@" >/dev/null 2>&1; do n=$((n+1)); [ $n -lt 600 ] || { "$@"; return 1; }; sleep 0.05; done; }
# Shows a container its own limit.
memory_limit='cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max'
# Removes a cgroup that a caller makes for its containers and leaves; what is still in it stays, and is seen.
remove_parent() { for d in /sys/fs/cgroup/$1 /sys/fs/cgroup/*/$1; do [ ! -d "$d" ] || rmdir "$d"; done; }
# The limits of a unit.
show() { echo $(systemctl show -P MemoryMax -P TasksMax "$1"); }
by_systemd() { [ "${CGROUPS-}" = systemd ]; }
