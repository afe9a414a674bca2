#!/bin/sh
# Make a machine that has netem: Debian's cloud kernel, and an initramfs of busybox, tc and init. Nothing is compiled,
# nothing is installed. For Debian on x86-64 with iproute2, ethtool and kmod.
#
#   build.sh FOLDER     leaves FOLDER/vmlinuz and FOLDER/initramfs
set -eu
[ $# = 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p')
[ -n "$kernel" ] || { echo "apt knows no linux-image-cloud-amd64: apt-get update, on Debian" >&2; exit 1; }
apt-get download -q -o APT::Sandbox::User=root "$kernel" busybox-static
mkdir debian root
for package in *.deb; do dpkg-deb -x "$package" debian; done
version=${kernel#linux-image-}
cp "debian/boot/vmlinuz-$version" "$out/vmlinuz"

mkdir -p root/bin root/dev root/proc root/sys root/modules
cp debian/bin/busybox root/bin/
cp "$here/init" root/init
chmod 755 root/init

# the modules, and what they need, in the order in which to load them
depmod -b debian "$version"
modprobe -d debian -S "$version" -D -a virtio_pci virtio_net sch_netem |
    awk '$1 == "insmod" && !seen[$2]++ { print $2 }' > modules
while read -r module; do cp "$module" root/modules/; done < modules
sed 's:.*/:/modules/:' modules > root/modules/order

# this machine's own tc, ip and ethtool with their libraries
for tool in tc ip ethtool; do
    path=$(PATH="$PATH:/usr/sbin:/sbin" command -v "$tool")
    cp "$path" root/bin/
    ldd "$path" | sed -n 's:^[^/]*\(/[^ ]*\) (.*:\1:p'
done | sort -u | while read -r library; do
    mkdir -p "root$(dirname "$library")"
    cp "$library" "root$library"
done

(cd root && find . | ../debian/bin/busybox cpio -o -H newc 2>/dev/null) | gzip > "$out/initramfs"
echo "$kernel, $(cat modules | wc -l) modules: $out"
