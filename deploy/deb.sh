#!/bin/sh
# Build a Debian package for machines like this one: the same release of Debian or Ubuntu, the same processor.
#
#   deploy/deb.sh edge     writes dist/gradfec-edge_VERSION_ARCHITECTURE.deb; `make deb` does the same
#   deploy/deb.sh cloud    writes dist/gradfec-cloud_VERSION_ARCHITECTURE.deb
#
# Needs python3-venv, and gcc and python3-dev where zfec has no wheel. DEBFULLNAME and DEBEMAIL say who maintains it.
set -eu
half=${1:-edge}
case $half in
edge) extras=edge other=cloud ;;
cloud) extras=cloud,mqtt,webhook other=edge ;;
*) echo "deb.sh: error: $half is not edge or cloud" >&2 && exit 2 ;;
esac
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root opt=$work/root/opt/gradfec
umask 022

# The virtual environment, as if it had been made in /opt. Its compiled modules come along: the service cannot write them.
/usr/bin/python3 -m venv "$opt"
"$opt/bin/pip" install --quiet --no-compile --disable-pip-version-check -c constraints.txt ".[$extras]"
"$opt/bin/pip" uninstall --quiet --yes pip setuptools
rm "$opt"/lib/python3*/site-packages/gradfec-*.dist-info/direct_url.json # it names this folder
grep -rlIF "$root" "$opt/bin" "$opt/pyvenv.cfg" | xargs sed -i "s|$root||g"
"$opt/bin/python" -m compileall -q -s "$root" "$opt/lib"

install -d "$root/usr/bin" "$root/etc/gradfec"
for command in gradfec "gradfec-$half"; do ln -s "/opt/gradfec/bin/$command" "$root/usr/bin/$command"; done
install -D -m 644 deploy/systemd/gradfec.sysusers "$root/usr/lib/sysusers.d/gradfec.conf"
install -D -m 644 "deploy/systemd/gradfec-$half.service" "$root/lib/systemd/system/gradfec-$half.service"
install -D -m 644 LICENSE "$root/usr/share/doc/gradfec-$half/copyright"
case $half in
edge) printf '# camera = "/dev/video0"\n# cloud = "server.example:9000"\n' ;;
cloud) printf 'listen = 9000\nmetrics = 9100\n' ;;
esac >"$root/etc/gradfec/$half.toml"

version=$("$opt/bin/python" "$opt/bin/gradfec" --version)
version=${version##* }
python=$("$opt/bin/python" -c 'import sys; print("python3 (>= 3.%d), python3 (<< 3.%d)" % (sys.version_info[1], sys.version_info[1] + 1))')
architecture=$(dpkg --print-architecture)
install -d "$root/DEBIAN"
echo "/etc/gradfec/$half.toml" >"$root/DEBIAN/conffiles"
cat >"$root/DEBIAN/control" <<EOF
Package: gradfec-$half
Version: $version
Architecture: $architecture
Maintainer: ${DEBFULLNAME:-$(id -un)} <${DEBEMAIL:-$(id -un)@$(uname -n)}>
Installed-Size: $(du -sk "$root" | cut -f 1)
Depends: $python, libc6 (>= 2.28), libstdc++6, systemd
Conflicts: gradfec-$other
Section: net
Priority: optional
Description: split inference over a lossy link: the $half
 The first layers of a neural network run on a camera box, the others on a
 server. What goes over the link between them is protected against loss.
EOF
cat >"$root/DEBIAN/postinst" <<EOF
#!/bin/sh
set -e
[ "\$1" = configure ] || exit 0
systemd-sysusers gradfec.conf
chgrp gradfec /etc/gradfec && chmod 750 /etc/gradfec
[ ! -d /run/systemd/system ] || { systemctl daemon-reload && systemctl try-restart gradfec-$half; }
EOF
cat >"$root/DEBIAN/prerm" <<EOF
#!/bin/sh
set -e
[ "\$1" = remove ] && [ -d /run/systemd/system ] || exit 0
systemctl disable --now gradfec-$half
EOF
cat >"$root/DEBIAN/postrm" <<EOF
#!/bin/sh
set -e
[ "\$1" != purge ] || rm -rf /etc/gradfec /var/lib/gradfec
EOF
chmod 755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm" "$root/DEBIAN/postrm"
mkdir -p dist
dpkg-deb --root-owner-group -Zzstd --build "$root" "dist/gradfec-${half}_${version}_$architecture.deb"
