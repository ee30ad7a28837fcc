#!/bin/bash
# Runs in a VM whose kernel CRIU knows (vagrant/vm/run.sh): containerd checkpoints tasks of our shim and makes them again.
# SHIM is pintle-runc, PEERS the directory of containerd's packages. A process counts in its memory and writes the number down;
# a restored one goes on from where it was, a new one would begin with 1.
set -Eeuo pipefail
trap 'echo "line $LINENO failed: $BASH_COMMAND" >&2; tail -n 30 containerd.log >&2; find . -name "*.log" -path "*criu*" -exec tail -n 5 {} + >&2 || true' ERR
# The machine needs its own /run to end.
[ -n "${APART:-}" ] || APART=1 exec unshare --mount --propagation private bash "$0"
cd /var/lib/vm
mkdir -p bin image/rootfs/{bin,proc,sys,dev,tmp}
ln -s "$SHIM" bin/containerd-shim-pintle-v1
export PATH=$PWD/bin:$PEERS/usr/bin:$PATH LD_LIBRARY_PATH=$PEERS/usr/lib/x86_64-linux-gnu
mount -t tmpfs tmpfs /run

# An image of busybox, as `docker save` writes one.
cp /bin/busybox image/rootfs/bin/
for applet in sh sleep cat echo test mkfifo; do ln -s busybox image/rootfs/bin/$applet; done
tar -C image/rootfs -cf image/layer.tar .
sum=$(sha256sum image/layer.tar); sum=${sum%% *}
echo '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:'$sum'"]}}' > image/config.json
echo '[{"Config":"config.json","RepoTags":["pintle.test/busybox:1"],"Layers":["layer.tar"]}]' > image/manifest.json
tar -C image -cf image.tar config.json manifest.json layer.tar

cat > containerd.toml <<T
version = 2
root = "/var/lib/vm/root"
state = "/run/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "/run/containerd.sock"
T
containerd --config containerd.toml > containerd.log 2>&1 &
ctr() { command ctr --address /run/containerd.sock "$@"; }
for _ in $(seq 300); do ctr version >/dev/null 2>&1 && break; sleep 0.2; done
ctr images import --snapshotter native image.tar >/dev/null
count() { ctr tasks exec --exec-id "e$RANDOM$RANDOM" "$1" /bin/cat /n; }
status() { ctr tasks ls | awk -v id="$1" '$1 == id {print $3}'; }
is() { for _ in $(seq 300); do [ "$(status "$1")" = "$2" ] && return; sleep 0.2; done; status "$1"; return 1; }
# Waits until the counter of task $1 is above $2.
beyond() { for _ in $(seq 300); do [ "$(count "$1" || echo 0)" -gt "$2" ] 2>/dev/null && return; sleep 0.2; done; return 1; }
begin() { ctr run -d --snapshotter native --runtime io.containerd.pintle.v1 pintle.test/busybox:1 "$1" /bin/sh -c "$2"; }
counter='i=0; while :; do i=$((i+1)); echo $i > /n; sleep 0.1; done'

# Of Checkpoint's options ctr passes none to runtimes with other names than runc's: they are said to the shim itself.
cat > checkpoint.py <<'P'
import os, socket, struct, sys
NUMBERS = {'exit': 1, 'open_tcp': 2, 'external_unix_sockets': 3, 'terminal': 4, 'file_locks': 5, 'empty_namespaces': 6,
           'cgroups_mode': 7, 'image_path': 8, 'work_path': 9}
def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)
def field(number, data):
    return bytes([number << 3 | 2]) + varint(len(data)) + data
bundle, task, *words = sys.argv[1:]
words = dict(word.split('=') for word in words)
path = os.path.abspath(words.pop('path'))
options = b''
for name, value in words.items():
    number = NUMBERS[name]
    value = os.path.abspath(value) if name.endswith('_path') else value
    options += bytes([number << 3, 1]) if number <= 5 else field(number, value.encode())
options = field(1, b'containerd.runc.v1.CheckpointOptions') + field(2, options)
payload = field(1, task.encode()) + field(2, path.encode()) + field(3, options)
request = field(1, b'containerd.task.v2.Task') + field(2, b'Checkpoint') + field(3, payload)
shim = socket.socket(socket.AF_UNIX)
shim.connect(open(bundle + '/address').read().removeprefix('unix://'))
shim.sendall(struct.pack('>IIBB', len(request), 1, 1, 0) + request)
length = struct.unpack('>IIBB', shim.recv(10, socket.MSG_WAITALL))[0]
answer = shim.recv(length, socket.MSG_WAITALL) if length else b''
if answer.startswith(b'\x0a'):
    sys.exit(answer.decode(errors='replace'))
P

echo '== a task is checkpointed and goes on'
begin c "$counter"
beyond c 3
ctr events > events & listener=$!
for n in $(seq 300); do ctr containers label c "n=$n" >/dev/null; [ -s events ] && break; sleep 0.2; done
ctr tasks checkpoint c > name
grep -q containerd.io/checkpoint/c: name
[ "$(status c)" = RUNNING ]
beyond c "$(count c)"
for _ in $(seq 100); do grep -q /tasks/checkpointed events && break; sleep 0.2; done
grep -q '/tasks/checkpointed.*"checkpoint":"/' events
kill $listener

echo '== options of no sense are refused by their words'
bundle=/run/state/io.containerd.runtime.v2.task/default/c
for word in cgroups_mode=x empty_namespaces=pid; do
  code=0; python3 checkpoint.py "$bundle" c path=refused $word 2> said || code=$?
  [ $code = 1 ]
  grep -q 'Invalid manage-cgroups-mode value\|namespace "pid" is not supported' said
done
[ ! -e refused ]

echo '== with its file system and its memory it becomes an image, and another task goes on counting where it was'
# Of a container that it has checkpointed once containerd 1.6 makes no whole image again (containerd issue 7980).
remove() { ctr tasks kill -s KILL "$1"; is "$1" STOPPED; ctr tasks rm "$1" || true; ctr containers rm "$1"; }
remove c
begin d "$counter"
beyond d 3
ctr containers checkpoint --rw --task d pintle.test/counter:1
[ "$(status d)" = RUNNING ]
[ ! -e /run/state/io.containerd.runtime.v2.task/default/d/criu-work ]
number=$(count d)
remove d
ctr containers restore --rw --live again pintle.test/counter:1
is again RUNNING
beyond again "$number"
[ "$(count again)" -lt $((number + 2000)) ]
pid=$(ctr tasks ls | awk '$1 == "again" {print $2}')
[ "$pid" -gt 1 ]
[ "$(cat "/proc/$pid/comm")" = sh ]
[ "$(cat "/proc/$(awk '/^PPid/ {print $2}' "/proc/$pid/status")/comm")" = containerd-shim ]

echo '== checkpointed with the option exit it ends, and leaves no cgroup; images and log are where they were asked for'
bundle=/run/state/io.containerd.runtime.v2.task/default/again
python3 checkpoint.py "$bundle" again path=last exit=1 image_path=copy work_path=last-criu
is again STOPPED
[ -s last/pages-1.img ]
cmp last/pages-1.img copy/pages-1.img
[ -s last-criu/dump.log ]
grep -q 'file\[' last/descriptors.json
[ ! -e "/proc/$pid" ]
[ ! -e /sys/fs/cgroup/default/again ]
ctr tasks rm again || true
ctr containers rm again

echo '== what cannot be dumped goes on, and CRIU is quoted'
# A TCP connection, and nobody has allowed one.
begin e 'mkfifo /p; sleep 100000 > /p & nc="/bin/busybox nc"; $nc -l -p 7 < /p > /dev/null &
  until $nc 127.0.0.1 7 < /p > /dev/null; do sleep 0.2; done & '"$counter"
established() { ctr tasks exec --exec-id "n$RANDOM$RANDOM" e /bin/cat /proc/net/tcp | grep -c ' 0100007F:0007 01 ' || true; }
for _ in $(seq 300); do [ "$(established)" = 1 ] && break; sleep 0.2; done
code=0; ctr tasks checkpoint e 2> said || code=$?
cat said
[ $code = 1 ]
grep -q 'criu failed: type DUMP' said
grep -q '/default/e/criu-work/dump.log' said
[ -s /run/state/io.containerd.runtime.v2.task/default/e/criu-work/dump.log ]
is e RUNNING
beyond e "$(count e)"
remove e

echo '== nothing of the shims is left'
for _ in $(seq 100); do [ -z "$(ls /run/containerd/s 2>/dev/null)" ] && break; sleep 0.2; done
[ -z "$(ls -A /run/containerd/s)$(ls -A /run/containerd/pintle/default)" ]
echo 'checkpoints of the shim: all is well'
