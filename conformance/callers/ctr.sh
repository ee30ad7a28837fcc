# A container's life through containerd and its shim for runc, which is told to call $RT.
cat > "$B/containerd.toml" <<C
version = 2
root = "$B/containerd/root"
state = "$B/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
[grpc]
address = "$B/containerd.sock"
C
"$PEERS/usr/bin/containerd" --config "$B/containerd.toml" >"$B/containerd.log" 2>&1 &
daemon=$!
trap 'kill $daemon; wait $daemon 2>/dev/null' EXIT
ctr() { "$PEERS/usr/bin/ctr" --address "$B/containerd.sock" "$@"; }
step "containerd answers" await ctr version
runtime="--runtime io.containerd.runc.v2 --runc-binary $RT"
# ctr names no unit by itself.
unit() { if by_systemd; then echo "--runc-systemd-cgroup --cgroup t.slice:ctr:$1"; fi; }
step "run --rm gives the program's output" is hello ctr run --rm $runtime $(unit one) --rootfs "$B/rootfs" one /bin/echo hello
step "the exit code comes back" code 7 ctr run --rm $runtime $(unit two) --rootfs "$B/rootfs" two /bin/sh -c 'exit 7'
step "run --detach" ctr run --detach $runtime $(unit c) --memory-limit 67108864 --rootfs "$B/rootfs" c /bin/sleep 1000
step "tasks ls says running" has RUNNING ctr tasks ls
if by_systemd; then
  step "the container is a unit with its limit" is 67108864 systemctl show -P MemoryMax ctr-c.scope
  step "the unit holds its process" has sleep systemctl status --no-pager ctr-c.scope
fi
step "exec gives output" is inside ctr tasks exec --exec-id e1 c /bin/echo inside
step "exec's exit code comes back" code 5 ctr tasks exec --exec-id e2 c /bin/sh -c 'exit 5'
step "exec with a user and a directory" is "1000 /tmp" ctr tasks exec --exec-id e3 --user 1000 --cwd /tmp c /bin/sh -c 'echo $(id -u) $(pwd)'
step "ps" has PID ctr tasks ps c
step "metrics" has memory ctr tasks metrics c
step "pause" ctr tasks pause c
step "tasks ls says paused" has PAUSED ctr tasks ls
step "resume" ctr tasks resume c
step "kill" ctr tasks kill --signal KILL c
step "the task ends" await has STOPPED ctr tasks ls
step "tasks rm" ctr tasks rm c
by_systemd && step "its unit is gone" is not-found systemctl show -P LoadState ctr-c.scope
step "containers rm" ctr containers rm c
step "nothing is listed" is "" ctr containers ls -q
# As does containerd, by the name of its namespace.
remove_parent default
