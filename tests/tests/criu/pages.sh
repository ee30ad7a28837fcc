# Pages that do not go through the directory of images: a page server, and pages that are fetched when they are touched.
ip link set lo up
at memory goes to a page server
configure
up c
mkdir -p served
criu page-server --images-dir served --address 127.0.0.1 --port 27001 --log-file server.log & server=$!
eventually grep -q ':6979 .* 0A ' /proc/net/tcp
runc checkpoint --image-path served --page-server 127.0.0.1:27001 c
wait $server
nothing_is_left c
number=$(count)
runc restore -d -b bundle --image-path served c </dev/null
beyond "$number"
[ "$(count)" -lt $((number + 400)) ]

at lazy pages: the restored process runs before it has its memory
mkfifo ready
(exec 9> ready; runc checkpoint --image-path lazy --lazy-pages --page-server 127.0.0.1:27002 --status-fd 9 c) & dumping=$!
[ "$(head -c 1 ready | od -An -tx1 | tr -d ' ')" = 00 ]
number=$(count)
[ -e /proc/$dumping ]
criu lazy-pages --images-dir lazy --page-server --address 127.0.0.1 --port 27002 --log-file lazy-pages.log & fetcher=$!
eventually test -S lazy/lazy-pages.socket
runc restore -d -b bundle --image-path lazy --lazy-pages again </dev/null
beyond "$number"
[ "$(count)" -lt $((number + 400)) ]
wait $fetcher
wait $dumping
[ "$(status again)" = running ]
[ "$(runc list -q)" = again ]
[ ! -e /sys/fs/cgroup/c ]
runc delete -f again
nothing_is_left c again
