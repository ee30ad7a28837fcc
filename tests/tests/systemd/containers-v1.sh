#!/bin/bash
# Runs in a VM whose first process is systemd with cgroup v1 (vagrant/vm/run.sh -S -L legacy|hybrid): containers as its
# units. BIN is where pintle-runc is.
. tests/tests/systemd/lib.sh

# The directory in every hierarchy that there is.
everywhere() {
  for hierarchy in $top/*; do [ -L "$hierarchy" ] || echo "$hierarchy/$1"; done
}
gone() { # unit, directory
  shows "$1" LoadState=not-found ActiveState=inactive
  nothing_is_left "$2"
}
nothing_is_left() {
  for place in $(everywhere "$1"); do [ ! -e "$place" ] || { echo "$place is left" >&2; return 1; }; done
}
# All cgroups of a process, v2's beside them too, are the unit's.
is_in() { # pid, directory
  ! grep -v ":/$2\$" "/proc/$1/cgroup" || { echo "that is not all in $2" >&2; return 1; }
}
finish() {
  rm -r "$work"
  systemctl stop t.slice
  is 'units left' "$(systemctl list-units --all --plain --no-legend 't-*' | wc -l)" 0
  echo "systemd: containers are units on $KIND cgroups"
  exit
}
devices() {
  LC_ALL=C sort "$top/devices/$1/devices.list" | tr '\n' ','
}
strict='"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 7, "minor": 0, "access": "r"}'
always='c *:* m,c 10:200 rwm,c 136:* rwm,c 1:3 rwm,c 1:5 rwm,c 1:7 rwm,c 1:8 rwm,c 1:9 rwm,c 5:0 rwm,c 5:1 rwm,c 5:2 rwm,'
mknod -m 666 rootfs/dev/vcsa c 7 128
mknod -m 666 rootfs/dev/vcs c 7 0

at created with limits, in files and in systemd
bundle t-a.slice:t:one '"memory": {"limit": 67108864, "reservation": 33554432, "swap": 67108864},
  "cpu": {"shares": 512, "quota": 20000, "period": 50000, "cpus": "0"}, "pids": {"limit": 50},
  "network": {"classID": 7}, "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}], '"$strict]"
create one
one=t-one.scope dir=t.slice/t-a.slice/t-one.scope
is state "$(runc state one | grep -o '"status": "[a-z]*"')" '"status": "created"'
is_in "$(cat pid)" $dir
is members "$(cat $top/systemd/$dir/cgroup.procs)" "$(cat pid)"
[ $KIND = legacy ] || is 'members beside' "$(cat $top/unified/$dir/cgroup.procs)" "$(cat pid)"
limited() {
  holds memory/$dir memory.limit_in_bytes=67108864 memory.soft_limit_in_bytes=33554432 memory.memsw.limit_in_bytes=67108864
  holds cpu/$dir cpu.shares=512 cpu.cfs_quota_us=20000 cpu.cfs_period_us=50000
  holds pids/$dir pids.max=50
  holds cpuset/$dir cpuset.cpus=0 cpuset.mems=0
  holds net_cls/$dir net_cls.classid=7
  holds hugetlb/$dir hugetlb.2MB.limit_in_bytes=4194304
  is devices "$(devices $dir)" "b *:* m,${always}c 7:0 r,"
}
limited
shows $one MemoryLimit=67108864 CPUShares=512 CPUQuotaPerSecUSec=400ms CPUQuotaPeriodUSec=50ms AllowedCPUs=0 TasksMax=50 \
  DevicePolicy=strict 'DeviceAllow=/dev/char/7:0 r' 'DeviceAllow=char-136 rwm' Slice=t-a.slice Delegate=yes \
  DefaultDependencies=no MemoryAccounting=yes BlockIOAccounting=yes ActiveState=active
at a reload leaves limits and devices as they are
systemctl daemon-reload
limited

at started, and another process in it
runc start one
runc exec -d --pid-file second one sleep 100
is_in "$(cat second)" $dir
is ps "$(runc ps -f json one | tr -dc '0-9,\n' | tr ',' '\n' | grep -cx "$(cat pid)\|$(cat second)")" 2
at devices are what they are allowed to be
runc exec one sh -c 'true < /dev/null && true < /dev/vcs'
fails runc exec one sh -c 'true < /dev/vcsa' 2> refused
grep -q 'Operation not permitted' refused
at paused and resumed
runc pause one
holds freezer/$dir freezer.state=FROZEN
runc resume one
holds freezer/$dir freezer.state=THAWED
at updated, while devices are in use
runc exec -d one sh -c 'until [ -e /tmp/enough ]; do true < /dev/null || echo refused > /tmp/refused; done' 2>/dev/null
for shares in 100 200 300; do runc update --cpu-share $shares one; done
[ ! -e rootfs/tmp/refused ]
# What a small quota keeps from running cannot stop either.
touch rootfs/tmp/enough
runc update --memory 50331648 --memory-swap 100663296 --cpu-quota 5000 --cpu-period 100000 --cpu-share 512 --pids-limit 20 one
holds memory/$dir memory.limit_in_bytes=50331648 memory.memsw.limit_in_bytes=100663296 memory.soft_limit_in_bytes=33554432
holds cpu/$dir cpu.cfs_quota_us=5000 cpu.cfs_period_us=100000 cpu.shares=512
holds pids/$dir pids.max=20
shows $one MemoryLimit=50331648 CPUQuotaPerSecUSec=50ms CPUQuotaPeriodUSec=100ms CPUShares=512 TasksMax=20
at an update that the kernel refuses changes nothing in either place
fails runc update --memory 60000000 --cpuset-cpus 77 one 2>/dev/null
holds memory/$dir memory.limit_in_bytes=50331648
shows $one MemoryLimit=50331648 AllowedCPUs=0
at an update of a paused container leaves it paused
runc pause one
runc update --pids-limit 21 one
is state "$(runc state one | grep -o '"status": "[a-z]*"')" '"status": "paused"'
runc resume one
at killed with all its processes, and deleted
runc kill --all one KILL
until [ "$(runc state one | grep -o stopped)" ]; do sleep 0.1; done
runc delete one
gone $one $dir

at a slice of its own
bundle t.slice::t-own.slice '"memory": {"limit": 33554432}'
create own
dir=t.slice/t-own.slice
is_in "$(cat pid)" $dir
holds memory/$dir memory.limit_in_bytes=33554432
shows t-own.slice MemoryLimit=33554432 ActiveState=active
runc delete --force own
# Of any name systemd takes there to be a slice.
shows t-own.slice ActiveState=inactive
nothing_is_left $dir
# The rest is the same on both.
[ $KIND = legacy ] || finish

at rules that systemd has no words for outlive an update
bundle t.slice:t:odd "$strict, "'{"allow": true, "type": "c", "minor": 77, "access": "r"}]'
runc --debug --systemd-cgroup create odd < /dev/null > out 2>&1
grep -q 'no words for these rules.*allow c \*:77 r' $log
dir=t.slice/t-odd.scope
grep -qx 'c \*:77 r' $top/devices/$dir/devices.list
runc update --pids-limit 30 odd
grep -qx 'c \*:77 r' $top/devices/$dir/devices.list
runc delete --force odd
gone t-odd.scope $dir
at all devices but one
bundle t.slice:t:but '"devices": [{"allow": false, "type": "c", "major": 7, "minor": 128, "access": "rwm"}]'
sed -i 's|"/bin/sh", "-c", "[^"]*"|"/bin/sh", "-c", "true < /dev/vcs \&\& ! true < /dev/vcsa"|' config.json
runc --systemd-cgroup run but < /dev/null
gone t-but.scope t.slice/t-but.scope
at all devices
bundle t.slice:t:all '"devices": [{"allow": true, "access": "rwm"}]'
create all
is devices "$(devices t.slice/t-all.scope)" 'a *:* rwm,'
shows t-all.scope DevicePolicy=auto
systemctl daemon-reload
is devices "$(devices t.slice/t-all.scope)" 'a *:* rwm,'
runc delete --force all

at a kill for memory is told though systemd has removed the cgroup
bundle t.slice:t:oom '"memory": {"limit": 16777216, "swap": 16777216}'
ln -s busybox rootfs/bin/tail
sed -i 's|"/bin/sh", "-c", "[^"]*"|"/bin/sh", "-c", "until [ -e /tmp/go ]; do sleep 0.1; done; exec tail /dev/zero"|' config.json
create oom
runc start oom
runc events --interval 1s oom > events &
until grep -q stats events; do sleep 0.2; done
watcher=$(pgrep -f 'pintle-runc.* events')
kill -STOP "$watcher"
touch rootfs/tmp/go
until [ "$(show t-oom.scope LoadState)" = not-found ]; do sleep 0.2; done
kill -CONT "$watcher"
wait
grep -qx '{"id":"oom","type":"oom"}' events
runc delete oom
gone t-oom.scope t.slice/t-oom.scope

at a process limit of one, which the unit\'s holder must not use up
bundle t.slice:t:narrow '"pids": {"limit": 1}'
sed -i 's|"/bin/sh", "-c", "[^"]*"|"/bin/sleep", "100"|' config.json
create narrow
runc start narrow
holds pids/t.slice/t-narrow.scope pids.max=1
shows t-narrow.scope TasksMax=1
runc delete --force narrow
gone t-narrow.scope t.slice/t-narrow.scope

at what v1 does not have is refused, and leaves nothing
bundle t.slice:t:refused '"unified": {"memory.high": "5"}'
fails create refused
grep -q 'this host uses cgroup v1' out
bundle t.slice:t:refused
sed -i 's|"/bin/sh", "-c"|"/bin/none", "-c"|' config.json
fails create refused
gone t-refused.scope t.slice/t-refused.scope
[ ! -e state/refused ]
bundle ''
map='[{"containerID": 0, "hostID": 4321, "size": 1}]'
sed -i -e 's|"type": "cgroup"}, |&{"type": "user"}, |; /"type": "sysfs"/d; s|{"destination": "/sys/fs/cgroup".*|],|' \
  -e 's|"source": "proc"},|"source": "proc"}|' -e "s|\"linux\": {|&\"uidMappings\": $map, \"gidMappings\": $map, |" config.json
cp "$BIN/pintle-runc" .
chmod 755 . rootfs
fails setpriv --reuid 4321 --regid 4321 --clear-groups env XDG_RUNTIME_DIR=/tmp ./pintle-runc --systemd-cgroup create c > out 2>&1 </dev/null
grep -q "this host has cgroup v1, of which a user's systemd has none to give" out

at kill -9 of the runtime at any moment
bundle t.slice:t:killed '"memory": {"limit": 33554432}, "pids": {"limit": 9}, '"$strict]"
killed_at_any_moment

finish
