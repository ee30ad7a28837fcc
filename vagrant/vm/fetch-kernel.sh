#!/bin/bash
# fetch-kernel.sh DIR: installs what a VM run needs (QEMU, cpio, kmod, busybox) and unpacks Debian's generic kernel
# (the cloud one lacks 9p) into DIR. Does nothing when all is there. Of several at once, one does the work.
set -euo pipefail
dir=$1
mkdir -p "$(dirname "$dir")"
exec 9> "$dir.lock"
flock 9
missing=()
command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
command -v cpio >/dev/null || missing+=(cpio)
command -v depmod >/dev/null || missing+=(kmod)
[ -x /bin/busybox ] || missing+=(busybox-static)
[ ${#missing[@]} -eq 0 ] || { apt-get update -q && apt-get install -yq --no-install-recommends "${missing[@]}"; } >&2
compgen -G "$dir/boot/vmlinuz-*" >/dev/null && exit 0
[ -n "$(apt-cache show linux-image-amd64 2>/dev/null)" ] || apt-get update -q >&2
package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/ {print $2; exit}')
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
(cd "$work" && apt-get download -q "$package" >&2)
mkdir -p "$dir"
dpkg -x "$work"/linux-image-*.deb "$dir"
