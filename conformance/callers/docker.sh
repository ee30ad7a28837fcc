# A container's life through Docker, whose daemon is told of $RT. It starts a containerd of its own, and that its shim for runc.
# Packages put dockerd beside ip; containers get no network.
export DOCKER_HOST="unix://$B/docker.sock"
by_systemd && driver=systemd || driver=cgroupfs
"$PEERS/usr/sbin/dockerd" --host "$DOCKER_HOST" --data-root "$B/data" --exec-root "$B/exec" --pidfile "$B/docker.pid" \
  --storage-driver vfs --bridge none --iptables=false --ip6tables=false --ip-forward=false \
  --exec-opt native.cgroupdriver=$driver --add-runtime "test=$RT" --default-runtime test >"$B/dockerd.log" 2>&1 &
daemon=$!
trap 'kill $daemon; wait $daemon 2>/dev/null' EXIT
d() { "$PEERS/usr/bin/docker" "$@"; }
step "dockerd answers" await d version
step "the runtime is the one under test" is test d info -f '{{.DefaultRuntime}}'
image() { tar -C "$B/rootfs" -c . | d import - box; }
step "a root becomes an image" has sha256 image
step "run --rm gives the program's output" is hello d run --rm --network none box /bin/echo hello
step "an exit code of 7 comes back" code 7 d run --rm --network none box /bin/sh -c 'exit 7'
step "a missing program is exit code 127" code 127 d run --rm --network none box /bin/missing
step "a program that may not be executed is exit code 126" code 126 d run --rm --network none box /etc/passwd
step "input is read" is typed sh -c 'echo typed | docker run --rm -i --network none box /bin/cat'
step "create" d create --name web --network none --memory 64m --pids-limit 50 --init box /bin/sh -c 'echo from the log; trap "exit 3" TERM; while :; do sleep 0.1; done'
step "start" d start web
step "the state is running" is running d inspect -f '{{.State.Status}}' web
step "exec gives output" is inside d exec web /bin/echo inside
step "exec's exit code comes back" code 5 d exec web /bin/sh -c 'exit 5'
step "exec of a missing program is exit code 126, as with runc" code 126 d exec web /bin/missing
step "exec with a user, a directory and a variable" is "1000 /tmp x" d exec --user 1000 --workdir /tmp --env V=x web /bin/sh -c 'echo $(id -u) $(pwd) $V'
step "logs" await is "from the log" d logs web
step "top" has sleep d top web
step "stats" has 64MiB d stats --no-stream web
step "the memory limit is set" is 67108864 d exec web /bin/sh -c "$memory_limit"
if by_systemd; then
  unit=docker-$(d inspect -f '{{.Id}}' web).scope
  step "the container is a unit with its limits" is "67108864 50" show "$unit"
fi
step "update" d update --memory 96m --memory-swap 192m web
step "the new limit is set" is 100663296 d exec web /bin/sh -c "$memory_limit"
by_systemd && step "its unit has the new limit" is "100663296 50" show "$unit"
step "pause" d pause web
step "the state is paused" is paused d inspect -f '{{.State.Status}}' web
step "unpause" d unpause web
step "restart" d restart -t 5 web
step "the state is running again" is running d inspect -f '{{.State.Status}}' web
step "cp" d cp "$B/rootfs/etc/passwd" web:/tmp/passwd
step "stop" d stop -t 5 web
step "the exit code is kept" is 3 d inspect -f '{{.State.ExitCode}}' web
step "rm" d rm web
by_systemd && step "its unit is gone" is not-found systemctl show -P LoadState "$unit"
# Its first process lives a little longer: who watches for kills may come too late for a group that is gone.
hungry='/bin/sh -c "x=x; while :; do x=\$x\$x; done"; sleep 3'
eat() { d run --name big --network none --memory 16m --memory-swap 16m box /bin/sh -c "$hungry" >/dev/null 2>&1; d inspect -f '{{.State.OOMKilled}}' big; }
step "a container over its memory limit is told so" is true eat
step "a read-only, unprivileged one" is "1000 no" d run --rm --network none --read-only --user 1000 --cap-drop ALL --security-opt no-new-privileges box /bin/sh -c 'echo $(id -u) $(echo x 2>/dev/null >/f && echo yes || echo no)'
step "a privileged one sees the host's devices" has kmsg d run --rm --network none --privileged box /bin/sh -c 'echo /dev/*'
step "a terminal" has tty d run --rm -t --network none box /bin/sh -c '[ -t 0 ] && echo tty'
step "a detached run" d run -d --name other --network none box /bin/sleep 1000
step "rm --force of a running container" d rm -f other
step "the others go" d rm -f big
step "nothing is listed" is "" d ps -aq
# Docker leaves the parent of its containers' cgroups.
remove_parent docker
