#!/bin/sh
# Write the edge's image for arm64 to a tar file, on amd64. Nothing of it is run: Debian's packages are unpacked, the wheels
# for arm64 are laid beside them, and zfec, which has none, is cross-compiled.
#
#   deploy/arm64-image.sh                writes dist/gradfec-edge-arm64.tar; as root
#   docker import --platform linux/arm64 --change 'USER gradfec' --change 'ENTRYPOINT ["gradfec-edge"]' \
#     --change 'ENV GRADFEC_KEY_FILE=/key/key' dist/gradfec-edge-arm64.tar gradfec-edge
#
# Needs Debian bookworm's mmdebstrap, gcc-aarch64-linux-gnu and python3-dev, and uv. DEBIAN_MIRROR is where its packages
# come from, by default Debian's own server.
set -eu
cd "$(dirname "$0")/.."
python=3.11 # bookworm's
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

mmdebstrap --quiet --variant=extract --architectures=arm64 --include=base-files,ca-certificates,libstdc++6,python3 \
    bookworm "$root" "${DEBIAN_MIRROR:-http://deb.debian.org}/debian"
# What the packages' scripts would have done, where it matters.
for folder in bin sbin lib; do [ -e "$root/$folder" ] || ln -s "usr/$folder" "$root/$folder"; done
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
printf 'root:x:0:0::/root:/bin/sh\ngradfec:x:10001:10001::/tmp:/usr/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nvideo:x:44:\ngradfec:x:10001:\n' >"$root/etc/group"
install -d -m 1777 "$root/tmp"
install -d -o 10001 -g 10001 "$root/results"
install -d -o 10001 -g 10001 -m 700 "$root/key"

packages=$root/usr/lib/python3/dist-packages
uv pip compile --quiet --no-header --python-platform aarch64-manylinux_2_28 --python-version $python \
    --only-binary :all: --no-binary zfec -c constraints.txt --extra edge pyproject.toml >"$work/all.txt"
grep -v '^zfec==' "$work/all.txt" >"$work/wheels.txt"
uv pip install --quiet --no-deps --python /usr/bin/python$python --python-platform aarch64-manylinux_2_28 \
    --target "$packages" -r "$work/wheels.txt" .
# The wheel of zfec for amd64 brings its source, two files of C. This machine's headers of Python do: they differ between
# these two processors in nothing that it uses.
uv pip install --quiet --no-deps --python /usr/bin/python$python --python-platform x86_64-manylinux_2_28 \
    --target "$packages" "$(grep -o '^zfec==[0-9.]*' "$work/all.txt")"
rm "$packages"/zfec/*.so
mkdir "$work/aarch64-linux-gnu"
ln -s "/usr/include/x86_64-linux-gnu/python$python" "$work/aarch64-linux-gnu/"
aarch64-linux-gnu-gcc -shared -fPIC -O2 -std=c99 "-I$work" -I/usr/include/python$python "$packages/zfec/_fecmodule.c" \
    "$packages/zfec/fec.c" -o "$packages/zfec/_fec.cpython-311-aarch64-linux-gnu.so"
for command in gradfec gradfec-edge; do
    module=$(echo "$command" | sed 's/^gradfec$/gradfec_cli/; s/-/_/')
    printf '#!/usr/bin/python3\nfrom %s.cli import main\n\nmain()\n' "$module" >"$root/usr/bin/$command"
    chmod 755 "$root/usr/bin/$command"
done
mkdir -p dist
tar -C "$root" --numeric-owner -cf dist/gradfec-edge-arm64.tar .
du -h dist/gradfec-edge-arm64.tar
