# kill -9 of the runtime at moments spread over the whole: the state can be read, `delete --force` cleans everything, nothing
# is left behind.
configure
no_criu_runs() { ! pgrep -x criu >/dev/null; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }
# Kills `runc "$@"` after $took ms * $part / 8, and cleans up.
killed() {
  local code=0 said
  timeout -s KILL "$(printf '%d.%03d' $((took * part / 8 / 1000)) $((took * part / 8 % 1000)))" \
    "$BIN/pintle-runc" --root $root "$@" </dev/null || code=$?
  # CRIU ends what it has begun, one way or the other; the container is as it was, or gone, or dead.
  said=$(runc list -q)
  runc list >/dev/null
  [ -z "$said" ] || said=$(status c)
  echo "$part/8 of $took ms: exit code $code, then ${said:-nothing}"
  runc delete -f c
  eventually no_criu_runs
  nothing_is_left c
}

at kill -9 amid a checkpoint
up c
began=$(now_ms); runc checkpoint --image-path whole c; took=$(($(now_ms) - began))
for part in 1 2 3 4 5 6 7; do
  up c
  killed checkpoint --image-path killed c
done

at kill -9 amid a restore
began=$(now_ms); runc restore -d -b bundle --image-path whole c </dev/null; took=$(($(now_ms) - began))
runc delete -f c
for part in 1 2 3 4 5 6 7; do killed restore -d -b bundle --image-path whole c; done
