#!/bin/bash
# run.sh [options] -- COMMAND [ARG...]
#   Runs a command as root in a throw-away VM with pure cgroup v2 (but see -L) and exits with its code. The guest sees
#   the host's root read-only; what it writes is gone afterwards, except below shared directories.
#     -k DIR   unpacked kernel package (default: .cache/vm/kernel of this repository, fetched when missing)
#     -s DIR   directory shared read-write at the same path (repeatable)
#     -d SIZE  scratch ext4 disk at /var/lib/vm        -m MB  memory (1024)     -c N  CPUs (2)
#     -D FILE  the disk's file, made when missing and kept: the next VM finds what this one wrote
#     -t SEC   time-out (300)                          -C CPU model (Nehalem)   -K  use KVM
#     -n CIDR  address on eth0                         -N PORT  L2 segment shared by all VMs of that port, over loopback
#     -H NAME  host name                               -v  kernel log on stderr
#     -S       systemd is the first process, without the host's own units; the command is a unit of its own
#     -L KIND  with -S: cgroup v1, "legacy" alone or "hybrid" with systemd's own hierarchy on v2
#   Exit codes of its own: 2 bad usage, 124 time-out, 125 the VM died before the command ended.
#   GUEST_ENV="A=1 B=2" passes variables.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$(cd "$here/../.." && pwd)/.cache/vm
kernel=$cache/kernel shares=() disk= image= memory=1024 cpus=2 timeout=300 accel=tcg,thread=multi cpu=Nehalem
cidr= segment= name=vm verbose= systemd= cgroups=
while getopts k:s:d:D:m:c:t:C:Kn:N:H:vSL: option; do
  case $option in
    k) kernel=$OPTARG ;; s) shares+=("$(realpath "$OPTARG")") ;; d) disk=$OPTARG ;;
    D) image=$OPTARG ;; m) memory=$OPTARG ;;
    c) cpus=$OPTARG ;; t) timeout=$OPTARG ;; C) cpu=$OPTARG ;; K) accel=kvm cpu=host ;; n) cidr=$OPTARG ;;
    N) segment=$OPTARG ;; H) name=$OPTARG ;; v) verbose=1 ;; S) systemd=1 ;; L) cgroups=$OPTARG ;;
    *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || { echo "run.sh: no command" >&2; exit 2; }
case $cgroups in
  '') hierarchies=cgroup_no_v1=all ;;
  legacy) hierarchies="systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1" ;;
  hybrid) hierarchies="systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=0" ;;
  *) echo "run.sh: -L is legacy or hybrid" >&2; exit 2 ;;
esac
[ -z "$cgroups" ] || [ -n "$systemd" ] || { echo "run.sh: -L needs -S: systemd mounts the hierarchies" >&2; exit 2; }

"$here/fetch-kernel.sh" "$kernel"
[ -z "$systemd" ] || [ -x /lib/systemd/systemd -a -x /usr/bin/dbus-daemon ] ||
  apt-get install -yq --no-install-recommends systemd dbus >&2
vmlinuz=$(ls "$kernel"/boot/vmlinuz-* | tail -1)
version=${vmlinuz##*/vmlinuz-}
modules=$kernel/lib/modules/$version
[ -d "$modules" ] || modules=$kernel/usr/lib/modules/$version
initrd=$cache/$version.cpio

# The initramfs and the unpacked kernel are built once per kernel.
build_initrd() {
  local tree n=0 module name
  [ -s "$modules/modules.dep" ] || depmod -b "${modules%/lib/modules/*}" "$version"
  tree=$(mktemp -d)
  mkdir -p "$tree"/{bin,proc,sys,dev,m,n}
  cp /bin/busybox "$tree/bin/busybox"
  ln -s busybox "$tree/bin/sh"
  install -m 755 "$here/guest-init.sh" "$tree/init"
  for module in virtio_pci virtio_console 9pnet_virtio 9p overlay virtio_blk virtio_net crc32c_generic ext4; do
    modprobe -d "${modules%/lib/modules/*}" -S "$version" --show-depends $module 2>/dev/null | awk '$1 == "insmod" {print $2}'
  done | awk '!seen[$0]++' | while read -r module; do
    n=$((n + 1)); name=$(printf '%02d-%s' $n "$(basename "$module")")
    case $module in
      *.xz) xz -dc "$module" > "$tree/m/${name%.xz}" ;;
      *.zst) zstd -qdc "$module" > "$tree/m/${name%.zst}" ;;
      *) cp "$module" "$tree/m/$name" ;;
    esac
  done
  (cd "$tree" && find . | cpio -o -H newc --quiet) > "$initrd.$$"
  mv "$initrd.$$" "$initrd"
  rm -rf "$tree"
  python3 "$here/extract-kernel.py" "$vmlinuz" "$initrd.$$" && mv "$initrd.$$" "${initrd%.cpio}.vmlinux" || rm -f "$initrd.$$"
}
mkdir -p "$cache"
[ -s "$initrd" ] && [ "$initrd" -nt "$here/guest-init.sh" ] || build_initrd
[ -s "${initrd%.cpio}.vmlinux" ] && vmlinuz=${initrd%.cpio}.vmlinux

ctl=$(mktemp -d -t vm.XXXXXX)
trap 'rm -rf "$ctl"' EXIT
{ printf 'cd %q || exit 126\nexec ' "$PWD"; printf '%q ' "$@"; echo; } > "$ctl/cmd"
printf '%s\n' "${shares[@]:-$ctl}" > "$ctl/shares"
date +%s > "$ctl/now"
printf 'GUEST_NAME=%q\nGUEST_CIDR=%q\nGUEST_PATH=%q\nGUEST_ENV=%q\nGUEST_SYSTEMD=%q\nGUEST_CGROUPS=%q\n' "$name" "$cidr" "$PATH" "${GUEST_ENV:-}" "$systemd" "$cgroups" > "$ctl/env"

args=(-M q35 -accel "$accel" -cpu "$cpu" -smp "$cpus" -m "$memory" -nodefaults -nographic -no-reboot -no-user-config
  -kernel "$vmlinuz" -initrd "$initrd"
  -append "console=ttyS0 panic=-1 reboot=t tsc=unstable mitigations=off $hierarchies net.ifnames=0 quiet loglevel=3"
  -chardev "file,id=console,path=$ctl/serial" -serial chardev:console
  -chardev stdio,id=out,signal=off -device virtio-serial-pci -device virtconsole,chardev=out
  -object rng-random,id=random,filename=/dev/urandom -device virtio-rng-pci,rng=random)
share() { # tag, directory, more options
  args+=(-fsdev "local,id=$1,path=$2,security_model=none,multidevs=remap$3" -device "virtio-9p-pci,fsdev=$1,mount_tag=$1")
}
share root / ,readonly=on
share ctl "$ctl" ""
share mods "$modules" ,readonly=on
number=0
for dir in "${shares[@]:-$ctl}"; do share share$number "$dir" ""; number=$((number + 1)); done
if [ -n "$disk" ]; then
  journal=has_journal
  [ -n "$image" ] || { image=$ctl/disk journal=^has_journal; }
  if [ ! -e "$image" ]; then
    truncate -s "$disk" "$image"
    mkfs.ext4 -qF -E lazy_itable_init=1 -O "$journal" "$image"
  fi
  args+=(-drive "if=none,id=disk,file=$image,format=raw,cache=unsafe" -device virtio-blk-pci,drive=disk)
fi
if [ -n "$segment" ]; then
  mac=52:54:00:$(printf '%02x:%02x:%02x' $((RANDOM % 256)) $((RANDOM % 256)) $((RANDOM % 256)))
  args+=(-netdev "socket,id=net,mcast=230.0.0.1:$segment,localaddr=127.0.0.1"
    -device "virtio-net-pci,netdev=net,mac=$mac,romfile=")
fi

code=0
timeout -k 5 "$timeout" qemu-system-x86_64 "${args[@]}" </dev/null || code=$?
[ -z "$verbose" ] || cat "$ctl/serial" >&2
if [ $code -ne 0 ]; then echo "run.sh: QEMU ended with $code" >&2; tail -5 "$ctl/serial" >&2; exit $code; fi
[ -s "$ctl/rc" ] || { echo "run.sh: the VM died" >&2; tail -30 "$ctl/serial" >&2; exit 125; }
exit "$(cat "$ctl/rc")"
