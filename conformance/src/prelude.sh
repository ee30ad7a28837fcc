# What every host script of a case may use. $RT: the runtime, $ROOT: its --root, $B: the bundle, $CG: parent cgroup.
cd "$B" || exit 99
rt() { "$RT" --root "$ROOT" "$@"; }
# Creates container c; what it says goes to the file out, because init keeps it open.
mk() { rt create -b "$B" --pid-file "$B/pid" "$@" c >out 2>&1 </dev/null || { rc=$?; cat out >&2; return $rc; }; }
up() { mk "$@" && rt start c; }
status() { rt state "${1:-c}" 2>/dev/null | sed -n 's/.*"status": *"\([a-z]*\)".*/\1/p'; }
# Waits until a command succeeds; gives up after half a minute.
await() { _n=0; until "$@" >/dev/null 2>&1; do _n=$((_n+1)); [ $_n -lt 6000 ] || return 98; sleep 0.005; done; }
is() { [ "$(status)" = "$1" ]; }
gone() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.*Z' "/proc/$1/status"; }
# The directory of the container's cgroup: dir CONTROLLER [CGROUP]
dir() { for d in /sys/fs/cgroup/"$1""${2-$CG/c}" /sys/fs/cgroup"${2-$CG/c}"; do [ -d "$d" ] && { echo "$d"; return; }; done; return 0; }
# One value of a cgroup: value CONTROLLER FILE_V1 FILE_V2
value() { d=$(dir "$1"); [ -f "$d/$2" ] && cat "$d/$2" || cat "$d/$3"; }
