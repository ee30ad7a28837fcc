#!/bin/bash
# Runs in a VM with pure cgroup v2 whose first process is systemd (vagrant/vm/run.sh -S): callers take containers through
# their lives, once for each of the drivers, "systemd" and "cgroupfs". `guest.sh RUNTIME PEERS DRIVER...`; ends with 1 if
# a step does not hold.
set -euo pipefail
here=$(dirname "$0") runtime=$1 peers=$2 failed=0
shift 2
systemctl start dbus
# Docker has profiles read where the package puts their parts.
for path in etc/apparmor etc/apparmor.d usr/share/apparmor-features; do mkdir -p "/$path" && cp -rn "$peers/$path/." "/$path/"; done

life() { # driver, caller
  local work steps
  work=$(mktemp -d)
  mkdir -p "$work"/rootfs/{bin,etc,proc,sys,dev,tmp}
  cp /bin/busybox "$work/rootfs/bin/"
  for applet in sh echo sleep cat id pwd ps; do ln -s busybox "$work/rootfs/bin/$applet"; done
  printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/:/bin/sh\n' > "$work/rootfs/etc/passwd"
  cat "$here/prelude.sh" "$here/$2.sh" > "$work/life.sh"
  env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="$work" B="$work" RT="$runtime" PEERS="$peers" CGROUPS="$1" \
    sh "$work/life.sh" | tee "$work/steps"
  # The last of all lives: a script that broke off said nothing of it.
  grep -qx 'ok nothing is listed' "$work/steps" && ! grep -q '^not ok ' "$work/steps"
}

for driver; do
  for caller in podman docker ctr; do
    echo "--- $SECONDS s: $caller, cgroups by $driver"
    life "$driver" "$caller" || failed=1
  done
done
left=$(find /sys/fs/cgroup -mindepth 1 -type d \( -name '*.scope' ! -name init.scope -o -name '*libpod*' -o -name docker -o -name default \))
[ -z "$left" ] || { echo "not ok no cgroup is left: $left"; failed=1; }
echo "--- $SECONDS s: $([ $failed = 0 ] && echo 'all steps hold' || echo 'there are steps that do not hold')"
exit $failed
