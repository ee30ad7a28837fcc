# Connections that outlive a checkpoint: the other end is outside and sees nothing but a pause. Between checkpoint and
# restore the network namespace is made anew with the same address, as callers do it: CRIU 3.17 leaves the old one locked.
for module in veth nf_tables nft_compat xt_mark; do modprobe -q $module || true; done
network() {
  ip netns add outside
  ip link add to-c type veth peer name eth0 address 02:00:00:00:00:02 netns outside
  ip addr add 10.9.0.1/24 dev to-c
  ip link set to-c up
  ip -n outside addr add 10.9.0.2/24 dev eth0
  ip -n outside link set eth0 up
  ip -n outside link set lo up
}
network
configure "network('/run/netns/outside'); process['args'] = ['/bin/sh', '-c', 'i=0; while :; do i=\$((i+1)); echo \$i > /data/n; cat /data/n; sleep 0.2; done | nc 10.9.0.1 7777']"
cat > receive.py <<'P'
import socket
peer, _ = socket.create_server(('10.9.0.1', 7777)).accept()
with open('received', 'wb', buffering=0) as file:
    while data := peer.recv(4096): file.write(data)
P
python3 receive.py & listener=$!
eventually grep -q ':1E61 ' /proc/net/tcp

at a connection that was not said to be allowed is an error, and the container goes on
up c
eventually test -s received
fails 'tcp-established' runc checkpoint --image-path tcp-refused c
[ "$(status c)" = running ]
beyond "$(count)"

at with --tcp-established the other end gets every number once
runc checkpoint --image-path tcp --tcp-established c
nothing_is_left c
number=$(count)
ip netns del outside
eventually test ! -e /sys/class/net/to-c
network
[ -e /proc/$listener ]
runc restore -d -b bundle --image-path tcp --tcp-established c </dev/null
beyond $((number + 5))
has_come() { grep -qx $((number + 5)) received; }
eventually has_come
[ "$(head -n "$number" received)" = "$(seq "$number")" ]
runc delete -f c
nothing_is_left c
kill $listener 2>/dev/null || true
ip netns del outside
