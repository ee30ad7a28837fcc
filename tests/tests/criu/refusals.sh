# What is refused before CRIU is asked.
at mapped ids in mounts
configure "config['mounts'][-1].update(options=['bind'], uidMappings=[{'containerID': 0, 'hostID': 0, 'size': 1000}], gidMappings=[{'containerID': 0, 'hostID': 0, 'size': 1000}])"
up c
fails 'mounts\[7\]: CRIU cannot restore a mount with mapped ids' runc checkpoint --image-path mapped c
[ "$(status c)" = running ]
beyond "$(count)"
runc delete -f c
nothing_is_left c

at ordinary users
configure
up c
chmod 755 "$BIN" 2>/dev/null || true
cp "$BIN/pintle-runc" /tmp/user-runc
as_user() { setpriv --reuid 4321 --regid 4321 --clear-groups env XDG_RUNTIME_DIR=/tmp/user "$@"; }
mkdir -p /tmp/user && chown 4321:4321 /tmp/user
fails 'checkpoint and restore need root' as_user /tmp/user-runc checkpoint --image-path /tmp/user/images c
fails 'checkpoint and restore need root' as_user /tmp/user-runc restore -b bundle --image-path /tmp/user/images c
[ ! -e /tmp/user/images ]
[ -z "$(ls /tmp/user/runc 2>/dev/null || true)" ]
runc delete -f c
nothing_is_left c
