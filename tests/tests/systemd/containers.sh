#!/bin/bash
# Runs in a VM whose first process is systemd (vagrant/vm/run.sh -S): containers as systemd's units, through
# `pintle-runc --systemd-cgroup`. BIN is where pintle-runc is.
. tests/tests/systemd/lib.sh
gone() { # unit, directory
  shows "$1" LoadState=not-found ActiveState=inactive
  [ ! -e "$top/$2" ]
}

at created with limits, in files and in systemd
bundle t-a.slice:t:one '"memory": {"limit": 67108864, "reservation": 33554432, "swap": 67108864},
  "cpu": {"shares": 512, "quota": 20000, "period": 50000, "cpus": "0"}, "pids": {"limit": 50},
  "unified": {"memory.high": "59998208", "memory.oom.group": "1"}' \
  '"org.systemd.property.TimeoutStopSec": "7", "org.systemd.property.CollectMode": "'"'inactive'"'"'
create one
one=t-one.scope dir=t.slice/t-a.slice/t-one.scope
is state "$(runc state one | grep -o '"status": "[a-z]*"')" '"status": "created"'
is members "$(cat $top/$dir/cgroup.procs)" "$(cat pid)"
holds $dir memory.max=67108864 memory.low=33554432 memory.swap.max=0 cpu.weight=59 'cpu.max=20000 50000' cpuset.cpus=0 \
  pids.max=50 memory.high=59998208 memory.oom.group=1
shows $one MemoryMax=67108864 MemoryLow=33554432 MemorySwapMax=0 CPUWeight=59 CPUQuotaPerSecUSec=400ms CPUQuotaPeriodUSec=50ms \
  AllowedCPUs=0 TasksMax=50 MemoryHigh=59998208 Slice=t-a.slice Delegate=yes DefaultDependencies=no MemoryAccounting=yes \
  IOAccounting=yes TimeoutStopUSec=7s CollectMode=inactive 'Description=pintle container one' ActiveState=active
systemctl daemon-reload
holds $dir memory.max=67108864

at started, and another process in it
runc start one
is exec "$(runc exec one cat /proc/self/cgroup)" 0::/
runc exec -d --pid-file second one sleep 100
grep -qx "$(cat second)" $top/$dir/cgroup.procs
is ps "$(runc ps -f json one | tr -dc '0-9,\n' | tr ',' '\n' | grep -cx "$(cat pid)\|$(cat second)")" 2
at paused and resumed
runc pause one
is frozen "$(cat $top/$dir/cgroup.freeze)" 1
runc resume one
at updated
runc update --memory 50331648 --memory-swap 100663296 --cpu-quota 5000 --cpu-period 100000 --pids-limit 20 one
holds $dir memory.max=50331648 memory.swap.max=50331648 'cpu.max=5000 100000' pids.max=20 memory.low=33554432
shows $one MemoryMax=50331648 MemorySwapMax=50331648 CPUQuotaPerSecUSec=50ms CPUQuotaPeriodUSec=100ms TasksMax=20
at an update that the kernel refuses changes nothing in either place
fails runc update --memory 60000000 --cpuset-cpus 77 one 2>/dev/null
holds $dir memory.max=50331648 cpuset.cpus=0
shows $one MemoryMax=50331648 AllowedCPUs=0
at killed with all its processes, and deleted
runc kill --all one KILL
until [ "$(runc state one | grep -o stopped)" ]; do sleep 0.1; done
runc delete one
gone $one $dir

at a process limit of one, which the unit\'s holder must not use up
bundle t.slice:t:narrow '"pids": {"limit": 1}'
sed -i 's|"/bin/sh", "-c", "[^"]*"|"/bin/sleep", "100"|' config.json
create narrow
runc start narrow
holds t.slice/t-narrow.scope pids.max=1
shows t-narrow.scope TasksMax=1
runc delete --force narrow
gone t-narrow.scope t.slice/t-narrow.scope

at a name that is taken
systemd-run -q --scope --unit=t-taken --slice=u sleep 1000 &
until [ "$(show t-taken.scope ActiveState)" = active ]; do sleep 0.1; done
bundle t.slice:t:taken
fails create taken
grep -q 'a unit of that name exists already' out
is 'the other unit' "$(show t-taken.scope ActiveState)" active
[ ! -e state/taken ]
systemctl stop t-taken.scope
at a name that a failed unit has left
systemd-run -q --scope --unit=t-left --slice=t --property=RuntimeMaxSec=1 sleep 1000 || true
until [ "$(show t-left.scope ActiveState)" = failed ]; do sleep 0.1; done
bundle t.slice:t:left
create left
is members "$(cat $top/t.slice/t-left.scope/cgroup.procs)" "$(cat pid)"
runc delete --force left
gone t-left.scope t.slice/t-left.scope

at refused paths
for path in /kubepods/c a:b 't--x.slice:a:b'; do
  bundle "$path"
  fails create refused
  grep -q 'linux.cgroupsPath' out
done
at a program that is missing leaves nothing
bundle t.slice:t:broken
sed -i 's|"/bin/sh", "-c"|"/bin/none", "-c"|' config.json
fails create broken
gone t-broken.scope t.slice/t-broken.scope

at kill -9 of the runtime at any moment
bundle t.slice:t:killed '"memory": {"limit": 33554432}, "pids": {"limit": 9}'
killed_at_any_moment

at over the message bus
systemctl start dbus
until busctl --system list 2>/dev/null | grep -q org.freedesktop.systemd1; do sleep 0.2; done
mv /run/systemd/private /run/systemd/private.away
bundle t.slice:t:bus '"pids": {"limit": 9}'
create bus
runc update --pids-limit 8 bus
runc delete --force bus
mv /run/systemd/private.away /run/systemd/private
gone t-bus.scope t.slice/t-bus.scope

at an ordinary user\'s systemd, which moves processes in that come from outside of what is delegated to it
run=/run/user/4321 home=/tmp/someone
echo "someone:x:4321:4321::$home:/bin/sh" >> /etc/passwd
mkdir -p $run $home
cp "$BIN/pintle-runc" $home
cp -r rootfs $home
bundle '' '"pids": {"limit": 9}, "memory": {"limit": 33554432}, "devices": [{"allow": false, "access": "rwm"}]'
map='[{"containerID": 0, "hostID": 4321, "size": 1}]'
sed -e 's|"type": "cgroup"}, |&{"type": "user"}, |; /"type": "sysfs"/d; s|{"destination": "/sys/fs/cgroup".*|],|' \
  -e 's|"source": "proc"},|"source": "proc"}|' -e "s|\"linux\": {|&\"uidMappings\": $map, \"gidMappings\": $map, |" config.json > $home/config.json
chown -R 4321:4321 $run $home
as_user() {
  setpriv --reuid 4321 --regid 4321 --clear-groups env XDG_RUNTIME_DIR=$run HOME=$home "$@"
}
user_runc() {
  as_user $home/pintle-runc "$@"
}
systemd-run -q --unit=t-manager --uid=4321 --property=Delegate=yes --setenv=XDG_RUNTIME_DIR=$run --setenv=HOME=$home \
  /lib/systemd/systemd --user --unit=basic.target
until [ -S $run/systemd/private ]; do sleep 0.2; done
(cd $home && user_runc --systemd-cgroup create --pid-file pid c </dev/null >out 2>&1) || { cat $home/out >&2; false; }
dir=system.slice/t-manager.service/user.slice/pintle-c.scope
is members "$(cat $top/$dir/cgroup.procs)" "$(cat $home/pid)"
holds $dir pids.max=9 memory.max=33554432
user_runc start c
user_runc exec -d --pid-file $home/second c /bin/sleep 100 </dev/null >out 2>&1
grep -qx "$(cat $home/second)" $top/$dir/cgroup.procs
user_runc update --pids-limit 7 c
holds $dir pids.max=7
is TasksMax "$(as_user systemctl --user show -P TasksMax pintle-c.scope)" 7
user_runc pause c
user_runc resume c
user_runc delete --force c
is 'the unit' "$(as_user systemctl --user show -P LoadState pintle-c.scope)" not-found
[ ! -e $top/$dir ]
systemctl stop t-manager
rm -r $home $run

rm -r "$work"
systemctl stop t.slice u.slice
is 'units left' "$(systemctl list-units --all --plain --no-legend 't-*' 'u-*' | wc -l)" 0
[ ! -e $top/t.slice ]
echo 'systemd: containers are units'
