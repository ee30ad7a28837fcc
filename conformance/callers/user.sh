# What follows is done by an ordinary user: "$@", with $B at $PLACE, where he can go. Runs in mount and pid namespaces that
# go with it; /etc itself is not changed. newuidmap gives him the ids that his lines in subuid and subgid name.
set -eu
user=pintle id=61000
mount --make-rshared /
mkdir -p "$B/home" "$B/xdg" "$B/tmp" "$B/net" "$B/peers" "$B/etc"
: > "$B/pintle-runc"
mount --bind "$PEERS" "$B/peers"
mount --bind "$RT" "$B/pintle-runc"
for file in passwd subuid subgid; do cp "/etc/$file" "$B/etc/$file"; done
echo "$user:x:$id:$id::$PLACE/home:/bin/sh" >> "$B/etc/passwd"
echo "$user:2000000:65536" | tee -a "$B/etc/subuid" >> "$B/etc/subgid"
for file in passwd subuid subgid; do mount --bind "$B/etc/$file" "/etc/$file"; done
chown "$id:$id" "$B" "$B/home" "$B/xdg" "$B/tmp" "$B/net"
chown -R "$id:$id" "$B/rootfs"
mount --rbind "$B" "$PLACE"
cd "$PLACE"
export B="$PLACE" HOME="$PLACE/home" PEERS="$PLACE/peers" RT="$PLACE/pintle-runc" USER=$user
exec setpriv --reuid=$id --regid=$id --clear-groups --inh-caps=-all "$@"
