# Memory, cgroups, pipes, exit codes, and the errors of CRIU.
configure "config['hooks'] = {'createRuntime': [{'path': '/bin/busybox', 'args': ['touch', '/var/lib/vm/hooked']}]}"

at left running, and its memory dumped beforehand
up c
runc checkpoint --image-path first --leave-running c
[ "$(status c)" = running ]
[ -s first/pages-1.img ]
beyond "$(count)"
runc checkpoint --image-path before --pre-dump c
[ "$(status c)" = running ]
beyond "$(count)"

at checkpointed: gone, with its cgroup
runc checkpoint --image-path last --parent-path ../before c
nothing_is_left c
readlink last/parent
number=$(count); sleep 1; [ "$number" = "$(count)" ]

at restored under another id: the number goes on
rm -f hooked; echo 0 > data/n
runc restore -d -b bundle --image-path last --pid-file pid again </dev/null
beyond "$number"
[ "$(count)" -lt $((number + 400)) ]
[ "$(status again)" = running ]
[ -e hooked ]
[ ! -e $root/again/criu-root ]
[ "$(runc state again | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')" = "$(cat pid)" ]
[ "$(cat /sys/fs/cgroup/again/pids.max)" = 40 ]
grep -qx "$(cat pid)" /sys/fs/cgroup/again/cgroup.procs
[ "$(runc exec again cat /proc/1/comm)" = sh ]
runc kill again KILL
eventually is_stopped again
runc delete again
nothing_is_left c again

at what cannot be dumped goes on, and CRIU is quoted
mkfifo fifo; sleep 1000 > fifo & feeder=$!
echo 0 > data/n
runc run -d -b bundle --preserve-fds 1 c 3< fifo </dev/null >/dev/null 2>&1
beyond 3
fails 'criu failed: type DUMP' runc checkpoint --image-path broken --work-path broken-work c
grep -q '/var/lib/vm/broken-work/dump.log' said
grep -q 'Error (criu/' said
[ "$(status c)" = running ]
beyond "$(count)"
runc delete -f c

at stdio outside the container becomes that of the restorer\; a file is the same, for CRIU compares sizes
echo 0 > data/n
runc run -d -b bundle c < fifo >> out.file 2>/dev/null
beyond 3
runc checkpoint --image-path filed c
number=$(count)
runc restore -d -b bundle --image-path filed c < fifo >> out.file 2>/dev/null
beyond "$number"
[ "$(tail -1 out.file)" -ge "$number" ]
runc delete -f c
kill $feeder

at pipes become those of the restorer, the network namespace stays, the exit code comes through
ip netns add outside
configure "network('/run/netns/outside')"
echo 0 > data/n
runc run -d -b bundle c </dev/null 2>/dev/null > >(cat > out.first)
beyond 3
runc checkpoint --image-path piped c
number=$(count)
code=0; (beyond "$number"; : > bundle/rootfs/tmp/stop) &
runc restore -b bundle --image-path piped c </dev/null > >(cat > out.second) || code=$?
[ $code = 7 ]
eventually test -s out.second
[ "$(head -1 out.second)" -ge "$number" ]
nothing_is_left c
rm bundle/rootfs/tmp/stop
ip netns del outside
