#!/bin/sh
# First process of the guest. Mounts the host's root read-only over 9p with a tmpfs overlay on top, pure cgroup v2 with
# all controllers delegated (unless systemd is to mount v1), then hands over to the command that run.sh left in /ctl/cmd.
B=/bin/busybox
$B --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /m/*.ko; do insmod "$module" || echo "guest: insmod $module failed"; done

nine="trans=virtio,version=9p2000.L,msize=524288"
mount -t tmpfs overlay /n
mkdir -p /n/lower /n/upper /n/work /n/root /ctl
mount -t 9p -o $nine,ro,cache=loose root /n/lower || echo "guest: no root"
mount -t overlay -o lowerdir=/n/lower,upperdir=/n/upper,workdir=/n/work overlay /n/root
R=/n/root
mount -t 9p -o $nine,cache=none ctl /ctl
. /ctl/env

for dir in proc sys dev run tmp; do mkdir -p $R/$dir; done
mount -t proc proc $R/proc
mount -t sysfs sys $R/sys
mount -t devtmpfs dev $R/dev
mkdir -p $R/dev/pts $R/dev/shm $R/dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 pts $R/dev/pts
mount -t tmpfs shm $R/dev/shm
mount -t mqueue mq $R/dev/mqueue
for link in fd:/proc/self/fd stdin:/proc/self/fd/0 stdout:/proc/self/fd/1 stderr:/proc/self/fd/2; do
  ln -sfn "${link#*:}" "$R/dev/${link%%:*}"
done
mount -t tmpfs run $R/run
mount -t tmpfs tmp $R/tmp
chmod 1777 $R/tmp $R/dev/shm
mount -t bpf bpf $R/sys/fs/bpf 2>/dev/null
if [ -z "$GUEST_CGROUPS" ]; then
  mount -t cgroup2 -o nsdelegate none $R/sys/fs/cgroup
  for c in $(cat $R/sys/fs/cgroup/cgroup.controllers); do echo "+$c" > $R/sys/fs/cgroup/cgroup.subtree_control; done 2>/dev/null
fi

mkdir -p $R/lib/modules/"$(uname -r)"
mount -t 9p -o $nine,ro,cache=loose mods $R/lib/modules/"$(uname -r)"
share=0
while read -r dir; do
  mkdir -p "$R$dir"
  mount -t 9p -o $nine,cache=mmap share$share "$R$dir"
  share=$((share + 1))
done < /ctl/shares
if [ -b /dev/vda ]; then mkdir -p $R/var/lib/vm && mount -t ext4 /dev/vda $R/var/lib/vm; fi

hostname "$GUEST_NAME"
ip link set lo up
if [ -n "$GUEST_CIDR" ]; then ip addr add "$GUEST_CIDR" dev eth0; ip link set eth0 up; fi
date -s "@$(cat /ctl/now)" >/dev/null

mkdir -p $R/run/vm $R/run/vm-bin
mount --bind /ctl $R/run/vm
cp /bin/busybox $R/run/vm-bin/busybox
cat > $R/run/vm-bin/init <<'I'
#!/run/vm-bin/busybox sh
. /run/vm/env
B=/run/vm-bin/busybox
(exec /usr/bin/env -i PATH="$GUEST_PATH" HOME=/root TERM=dumb $GUEST_ENV $B setsid /bin/bash /run/vm/cmd </dev/null >/dev/hvc0 2>&1)
echo $? > /run/vm/rc
$B umount /var/lib/vm 2>/dev/null
$B sync
$B reboot -f
I
chmod +x $R/run/vm-bin/init
if [ -n "$GUEST_SYSTEMD" ]; then
  # Nothing of the host's own configuration: neither its units nor its file systems.
  [ -n "$GUEST_CGROUPS" ] || umount $R/sys/fs/cgroup
  rm -rf $R/etc/systemd/system $R/.dockerenv
  mkdir -p $R/etc/systemd/system $R/run/systemd/system
  : > $R/etc/fstab
  # What empties /tmp, where shared directories may be; and what a machine without consoles, devices that come and go,
  # and a clock of its own does not need.
  for unit in systemd-tmpfiles-setup.service systemd-tmpfiles-clean.timer systemd-tmpfiles-clean.service \
    systemd-tmpfiles-setup-dev.service cryptsetup.target veritysetup.target integritysetup.target \
    modprobe@dm_mod.service modprobe@loop.service systemd-journald-audit.socket systemd-udevd.service systemd-udev-trigger.service \
    systemd-udevd-control.socket systemd-udevd-kernel.socket \
    systemd-timesyncd.service systemd-binfmt.service systemd-hwdb-update.service systemd-update-utmp.service \
    systemd-random-seed.service systemd-remount-fs.service systemd-pstore.service systemd-modules-load.service \
    systemd-journal-flush.service kmod-static-nodes.service systemd-sysusers.service systemd-machine-id-commit.service \
    systemd-boot-system-token.service systemd-ask-password-wall.path systemd-ask-password-console.path \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
    sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount swap.target; do
    ln -s /dev/null $R/etc/systemd/system/$unit
  done
  printf '[Unit]\nWants=vm-command.service\n' > $R/run/systemd/system/vm.target
  printf '[Service]\nExecStart=/run/vm-bin/init\nKillMode=process\n' > $R/run/systemd/system/vm-command.service
  exec switch_root $R /lib/systemd/systemd --unit=vm.target
fi
# The guest's own processes leave the cgroup root, so that it may have controllers enabled below it.
mkdir -p $R/sys/fs/cgroup/guest
echo $$ > $R/sys/fs/cgroup/guest/cgroup.procs
exec switch_root $R /run/vm-bin/init
