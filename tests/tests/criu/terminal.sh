# A terminal: its master is outside, with whoever listens at the console socket, and again so after the restore.
cat > master.py <<'P'
# master.py SOCKET LOG: takes the master, writes what it says into LOG and what LOG.in says into it; ends with the terminal.
import array, os, select, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(1)
peer, _ = listener.accept()
_, ancillary, _, _ = peer.recvmsg(4096, socket.CMSG_SPACE(4))
fd = array.array('i', ancillary[0][2])[0]
os.mkfifo(sys.argv[2] + '.in')
keys = os.open(sys.argv[2] + '.in', os.O_RDWR)
log = open(sys.argv[2], 'wb', buffering=0)
while True:
    for ready in select.select([fd, keys], [], [])[0]:
        try: data = os.read(ready, 4096)
        except OSError: sys.exit()
        if not data: sys.exit()
        if ready == keys: os.write(fd, data)
        else: log.write(data)
P
configure "process.update(terminal=True, args=['/bin/sh', '-c', 'tty; n=0; while read line; do n=\$((n+1)); echo \"\$n: \$line\"; done'])"

at a program at a terminal answers what is typed
python3 master.py console first.log & master=$!
eventually test -S console
runc run -d -b bundle --console-socket console c </dev/null
eventually test -p first.log.in
echo one > first.log.in
eventually grep -q '1: one' first.log
grep -q '^/dev/pts/0' first.log

at its terminal goes with it, and comes back with another master
runc checkpoint --image-path terminal c
nothing_is_left c
eventually test ! -e /proc/$master
python3 master.py console2 second.log &
eventually test -S console2
runc restore -d -b bundle --image-path terminal --console-socket console2 c </dev/null
eventually test -p second.log.in
echo two > second.log.in
eventually grep -q '2: two' second.log
[ "$(runc exec c test -c /dev/console && echo there)" = there ]

at without a console socket there is no restore
runc checkpoint --image-path terminal2 c
fails 'cannot allocate tty if runc will detach without setting console socket' runc restore -d -b bundle --image-path terminal2 c
nothing_is_left c
