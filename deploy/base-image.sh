#!/bin/sh
# Make the base image of deploy/Dockerfile if you cannot reach a registry of images: Debian, with its Python.
#
#   deploy/base-image.sh        as root, with docker and debootstrap (Debian, Ubuntu: apt-get install debootstrap)
#
# DEBIAN_MIRROR is where its packages come from, by default Debian's own server.
set -eu
image=python:3.11-slim-bookworm
mirror=${DEBIAN_MIRROR:-http://deb.debian.org}

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$root" "$mirror/debian"
printf 'deb %s bookworm%s main\n' "$mirror/debian" '' "$mirror/debian" -updates "$mirror/debian-security" -security \
    > "$root/etc/apt/sources.list"
env -u TMPDIR DEBIAN_FRONTEND=noninteractive chroot "$root" \
    sh -c 'apt-get update && apt-get -y upgrade && apt-get clean'
ln -s python3 "$root/usr/bin/python"
rm -rf "$root"/var/lib/apt/lists/*
tar -C "$root" -c . | docker import --change 'CMD ["python3"]' - "$image"
