# What the parts of guest.sh share. BIN names the directory of pintle-runc. A process counts in its memory and writes the
# number down; a restored one goes on from where it was, a new one would begin with 1.
cd /var/lib/vm
mkdir -p bundle/rootfs/{bin,proc,sys,dev,tmp,data} data
cp /bin/busybox bundle/rootfs/bin/
for applet in sh sleep cat echo test tty nc tee mkfifo; do ln -s busybox bundle/rootfs/bin/$applet; done
root=/run/pintle-criu
runc() { "$BIN/pintle-runc" --root $root "$@"; }

# config.py [CHANGE]: the counter stops with 7 when it is told so, and says each number on stdout. CHANGE is Python.
cat > config.py <<'P'
import json, subprocess, sys, os
os.chdir('/var/lib/vm/bundle')
if os.path.exists('config.json'): os.remove('config.json')
subprocess.run([os.environ['BIN'] + '/pintle-runc', 'spec'], check=True)
config = json.load(open('config.json'))
process, linux = config['process'], config['linux']
process.update(terminal=False, args=['/bin/sh', '-c',
  'i=0; while ! test -e /tmp/stop; do i=$((i+1)); echo $i > /data/n; cat /data/n; sleep 0.2; done; exit 7'])
config['root']['readonly'] = False
config['mounts'].append({'destination': '/data', 'type': 'bind', 'source': '/var/lib/vm/data', 'options': ['rbind']})
linux['resources'] = {'pids': {'limit': 40}}
def network(path):
    for ns in linux['namespaces']:
        if ns['type'] == 'network': ns['path'] = path
exec(sys.argv[1] if len(sys.argv) > 1 else '')
json.dump(config, open('config.json', 'w'))
P
configure() { python3 /var/lib/vm/config.py "$@"; }

count() { cat data/n; }
status() { runc state "$1" | sed -n 's/.*"status": "\(.*\)".*/\1/p'; }
# eventually COMMAND...: within a minute of this slow machine's
eventually() {
  for _ in $(seq 300); do if "$@"; then return; fi; sleep 0.2; done
  echo "never: $*" >&2
  return 1
}
is_beyond() { [ "$(count 2>/dev/null || echo 0)" -gt "$1" ] 2>/dev/null; }
is_stopped() { [ "$(status "$1")" = stopped ]; }
# Waits until the counter is above $1.
beyond() { eventually is_beyond "$1"; }
# Starts the bundle as $1; the counter has counted.
up() {
  echo 0 > data/n
  runc run -d -b bundle "$1" </dev/null >/dev/null 2>&1
  beyond 3
}
# fails PATTERN COMMAND...: with one line that has the pattern
fails() {
  local code=0
  "${@:2}" 2> said >&2 || code=$?
  cat said
  [ $code = 1 ]
  [ "$(grep -c . said)" = 1 ]
  grep -q "$1" said
}
# Nothing of any container: state, cgroup, mounts, processes, CRIU.
nothing_is_left() {
  [ -z "$(runc list -q)" ]
  [ -z "$(ls $root)" ]
  for id in "$@"; do [ ! -e "/sys/fs/cgroup/$id" ]; done
  [ -z "$(grep " $root" /proc/mounts || true)" ]
  [ -z "$(pgrep -x criu || true; pgrep -f 'pintle-runc.*(checkpoint|restore)' || true)" ]
}
at() { echo "== $SECONDS s: $*"; }
