# A container's life through Podman, with $RT as its runtime.
# Podman looks for its helpers and settings where packages install them.
cat > "$B/containers.conf" <<C
[containers]
# Podman's own default is more than a host without CAP_SYS_RESOURCE may give.
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "${CGROUPS:-cgroupfs}"
conmon_path = ["$PEERS/usr/bin/conmon"]
events_logger = "file"
runtime_supports_json = ["runc", "crun", "pintle-runc"]
[network]
network_config_dir = "$B/net"
C
cat > "$B/storage.conf" <<C
[storage]
driver = "vfs"
graphroot = "$B/graph"
runroot = "$B/run"
C
echo '{"default":[{"type":"insecureAcceptAnything"}]}' > "$B/policy.json"
export CONTAINERS_CONF="$B/containers.conf" CONTAINERS_STORAGE_CONF="$B/storage.conf"
p() { "$PEERS/usr/bin/podman" --runtime "$RT" --tmpdir "$B/tmp" "$@"; }
common="--network none --security-opt seccomp=$PEERS/usr/share/containers/seccomp.json"
step "run --rm gives the program's output" is hello p run --rm $common --rootfs "$B/rootfs" /bin/echo hello
step "an exit code of 7 comes back" code 7 p run --rm $common --rootfs "$B/rootfs" /bin/sh -c 'exit 7'
step "create" p create --name c $common --memory 64m --pids-limit 50 --rootfs "$B/rootfs" /bin/sh -c 'echo from the log; trap "exit 0" TERM; while :; do sleep 0.1; done'
step "start" p start c
step "the runtime is the one under test" is "$RT" p inspect -f "{{.OCIRuntime}}" c
step "the state is running" is running p inspect -f '{{.State.Status}}' c
step "exec gives output" is inside p exec c /bin/echo inside
step "exec's exit code comes back" code 5 p exec c /bin/sh -c 'exit 5'
step "a missing program is exit code 127" code 127 p exec c /bin/missing
step "exec with a user and a directory" is "1000 /tmp" p exec --user 1000 --workdir /tmp c /bin/sh -c 'echo $(id -u) $(pwd)'
step "logs" is "from the log" p logs c
step "top" has "sleep" p top c
if [ "$(id -u)" = 0 ] || [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  step "stats" has "MEM USAGE" p stats --no-stream c
  step "the memory limit is set" is 67108864 p exec c /bin/sh -c "$memory_limit"
  if by_systemd; then
    unit=libpod-$(p inspect -f '{{.Id}}' c).scope
    step "the container is a unit with its limits" is "67108864 50" show "$unit"
  fi
  step "update" p update --memory 96m c
  by_systemd && step "its unit has the new limit" is "100663296 50" show "$unit"
  step "pause" p pause c
  step "the state is paused" is paused p inspect -f '{{.State.Status}}' c
  step "unpause" p unpause c
else
  # On cgroup v1 a user has no cgroups, and Podman says so before or after the runtime does.
  step "stats are refused on cgroup v1" refused "without cgroups v2" p stats --no-stream c
  step "update is refused without cgroups, and the field named" refused "linux.resources.memory.limit" p update --memory 96m c
  step "pause is refused on cgroup v1" refused "this container does not have a cgroup" p pause c
  step "the state is still running" is running p inspect -f '{{.State.Status}}' c
fi
step "kill with a signal" p kill --signal TERM c
step "wait gives the exit code" is 0 p wait c
step "start again" p start c
step "stop" p stop -t 5 c
step "rm" p rm c
by_systemd && step "its unit is gone" is not-found systemctl show -P LoadState "$unit"
step "a detached run, rm --force" p run -d --name d $common --rootfs "$B/rootfs" /bin/sleep 1000
step "rm --force of a running container" p rm -f -t 0 d
step "nothing is listed" is "" p ps -aq
# Podman leaves the parent of its containers' cgroups.
for d in /sys/fs/cgroup/libpod_parent /sys/fs/cgroup/*/libpod_parent; do [ ! -d "$d" ] || find "$d" -depth -type d -exec rmdir {} +; done
