#!/bin/bash
# Runs in a VM whose kernel CRIU knows (vagrant/vm/run.sh). BIN names the directory of pintle-runc. A process counts in its
# memory and writes the number down; a restored one goes on from where it was, a new one would begin with 1.
set -Eeuo pipefail
trap 'echo "line $LINENO failed: $BASH_COMMAND" >&2; tail -n 5 /var/lib/vm/*/dump.log /var/lib/vm/*/restore.log >&2 || true' ERR
cd /var/lib/vm
mkdir -p bundle/rootfs/{bin,proc,sys,dev,tmp,data} data
cp /bin/busybox bundle/rootfs/bin/
for applet in sh sleep cat echo test; do ln -s busybox bundle/rootfs/bin/$applet; done
runc() { "$BIN/pintle-runc" --root /run/pintle-criu "$@"; }

# The counter stops with 7 when it is told so, and says each number on stdout.
cat > config.py <<'P'
import json, sys
config = json.load(open('bundle/config.json'))
config['process'].update(terminal=False, args=['/bin/sh', '-c',
  'i=0; while ! test -e /tmp/stop; do i=$((i+1)); echo $i > /data/n; cat /data/n; sleep 0.2; done; exit 7'])
config['root']['readonly'] = False
config['mounts'].append({'destination': '/data', 'type': 'bind', 'source': '/var/lib/vm/data', 'options': ['rbind']})
config['linux']['resources'] = {'pids': {'limit': 40}}
config['hooks'] = {'createRuntime': [{'path': '/bin/busybox', 'args': ['touch', '/var/lib/vm/hooked']}]}
for ns in config['linux']['namespaces']:
    if ns['type'] == 'network' and len(sys.argv) > 1:
        ns['path'] = sys.argv[1]
json.dump(config, open('bundle/config.json', 'w'))
P
(cd bundle && runc spec) && python3 config.py

count() { cat data/n; }
status() { runc state "$1" | sed -n 's/.*"status": "\(.*\)".*/\1/p'; }
# Waits until the counter is above $1.
beyond() { for _ in $(seq 300); do [ "$(count || echo 0)" -gt "$1" ] 2>/dev/null && return; sleep 0.2; done; return 1; }

echo '== left running, and its memory dumped beforehand'
runc run -d -b bundle c </dev/null >/dev/null 2>&1
beyond 3
runc checkpoint --image-path first --leave-running c
[ "$(status c)" = running ] && [ -s first/pages-1.img ]
beyond "$(count)"
runc checkpoint --image-path before --pre-dump c
[ "$(status c)" = running ]
beyond "$(count)"

echo '== checkpointed: gone, with its cgroup'
runc checkpoint --image-path last --parent-path ../before c
[ -z "$(runc list -q)" ] && [ ! -e /sys/fs/cgroup/c ] && [ ! -e /run/pintle-criu/c ]
readlink last/parent
number=$(count); sleep 1; [ "$number" = "$(count)" ]

echo '== restored under another id: the number goes on'
rm -f hooked; echo 0 > data/n
runc restore -d -b bundle --image-path last --pid-file pid again </dev/null
beyond "$number"
[ "$(count)" -lt $((number + 400)) ]
[ "$(status again)" = running ] && [ -e hooked ] && [ ! -e /run/pintle-criu/again/criu-root ]
[ "$(runc state again | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')" = "$(cat pid)" ]
[ "$(cat /sys/fs/cgroup/again/pids.max)" = 40 ] && grep -qx "$(cat pid)" /sys/fs/cgroup/again/cgroup.procs
[ "$(runc exec again cat /proc/1/comm)" = sh ]
runc kill again KILL
for _ in $(seq 100); do [ "$(status again)" = stopped ] && break; sleep 0.2; done
runc delete again
[ ! -e /sys/fs/cgroup/again ]
[ -z "$(grep ' /run/pintle-criu' /proc/mounts || true)" ]

echo '== what cannot be dumped goes on, and CRIU is quoted'
mkfifo fifo; sleep 1000 > fifo & feeder=$!
runc run -d -b bundle c < fifo >/dev/null 2>&1
beyond 3
code=0; runc checkpoint --image-path broken --work-path broken-work c 2> said || code=$?
cat said
[ $code = 1 ] && [ "$(grep -c . said)" = 1 ]
grep -q 'criu failed: type DUMP' said && grep -q '/var/lib/vm/broken-work/dump.log' said && grep -q 'Error (criu/' said
[ "$(status c)" = running ]
beyond "$(count)"
kill $feeder
runc delete -f c

echo '== pipes become those of the restorer, the network namespace stays, the exit code comes through'
ip netns add outside
python3 config.py /run/netns/outside
runc run -d -b bundle c </dev/null 2>/dev/null > >(cat > out.first)
beyond 3
runc checkpoint --image-path piped c
number=$(count)
code=0; (beyond "$number"; : > bundle/rootfs/tmp/stop) &
runc restore -b bundle --image-path piped c </dev/null > >(cat > out.second) || code=$?
[ $code = 7 ]
for _ in $(seq 100); do [ -s out.second ] && break; sleep 0.2; done
[ "$(head -1 out.second)" -ge "$number" ]
[ -z "$(runc list -q)" ] && [ ! -e /sys/fs/cgroup/c ]
echo 'criu: all is well'
