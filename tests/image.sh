#!/bin/bash
# The root directory of the test image as a tar, for a Debian or Ubuntu suite: `image.sh SUITE` builds it when it is
# not there yet, and prints its path. Beside it lies SUITE-HASH.fixture.tar, the fixture tree /opt/zoo alone.
# Run it as root. The same recipe has the same hash: a changed recipe builds anew, nothing else does.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
suite=$1
cache=/var/cache/unpriv-zoo
# What the workloads call; the same on the host and in the image.
programs=(bindfs busybox-static e2fsprogs fuse3 iproute2 iptables iputils-ping libcap2-bin mount nftables procps
    strace tcpdump util-linux)
export DEBIAN_FRONTEND=noninteractive

say() { echo "image: $*" >&2; }
die() { say "$*"; exit 1; }

if [ "$suite" = --programs ]; then
    echo "${programs[@]}"
    exit
fi
[ "$(id -u)" = 0 ] || die "must run as root (it makes a root directory)"
command -v debootstrap >/dev/null || die "debootstrap is missing: apt-get install debootstrap"

recipe=$(cat "$here/image.sh" "$here/fixture.sh" | sha256sum | cut -c1-16)
tar=$cache/$suite-$recipe.tar
log=$cache/build.log
mkdir -p "$cache"
# One at a time: who comes second finds it made.
exec 9>"$cache/lock"
flock 9
if [ -e "$tar" ]; then
    echo "$tar"
    exit
fi

# The mirror this machine itself installs that suite from; nothing, which is debootstrap's own choice, when it is not
# a plain URL or another distribution's.
mirror() {
    apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
        awk -v suite="$suite" '$1 == suite && $2 ~ /^https?:/ && !mirror { mirror = $2 } END { print mirror }'
}

components=main
if [ -e "/usr/share/debootstrap/scripts/$suite" ] &&
    [ "$(readlink "/usr/share/debootstrap/scripts/$suite")" = gutsy ]; then
    components=main,universe
fi
rootfs=$(mktemp -d "$cache/rootfs.XXXXXX")
# In memory: dpkg syncs after every file, which a busy disk makes minutes of.
mount -t tmpfs -o mode=755 rootfs "$rootfs"
trap 'umount "$rootfs" && rmdir "$rootfs"; rm -f "$tar.part"' EXIT

say "bootstrapping $suite (about a minute)"
# The programs come by apt: debootstrap does not resolve alternatives, such as bindfs' fuse3 or fuse.
# shellcheck disable=SC2046 # a mirror, or none
debootstrap --variant=minbase --components="$components" "$suite" "$rootfs" $(mirror) >"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; die "debootstrap failed (all of it: $log)"; }
say "installing the programs into it"
cp /etc/resolv.conf "$rootfs/etc/resolv.conf"
if [ "$(dpkg --print-architecture)" = amd64 ]; then chroot "$rootfs" dpkg --add-architecture i386; fi
# A mirror that is just being updated has lists that do not fit together: that passes.
chroot "$rootfs" /bin/sh -ec 'for wait in 10 30 60 0; do apt-get update -qq --error-on=any && break; sleep $wait; done
    apt-get install -y -qq --no-install-recommends "$@"' \
    sh "${programs[@]}" >>"$log" 2>&1 || { tail -n 20 "$log" >&2; die "apt-get failed (all of it: $log)"; }
mkdir "$rootfs/opt/zoo"
if [ "$(dpkg --print-architecture)" = amd64 ]; then
    chroot "$rootfs" /bin/sh -ec 'cd /tmp; apt-get download -qq busybox-static:i386; dpkg -x busybox-static_*_i386.deb x
        mv x/bin/busybox /opt/zoo/busybox32; rm -rf x *.deb' >>"$log" 2>&1 ||
        say "no 32-bit program to be had: that workload will fail"
fi
rm -rf "$rootfs"/var/cache/apt/* "$rootfs"/var/lib/apt/lists/* "$rootfs"/usr/share/{doc,locale,man}
say "laying out the fixture tree"
chroot "$rootfs" /bin/sh -eu -s <"$here/fixture.sh"
tar -C "$rootfs/opt/zoo" --xattrs --xattrs-include='*' -cpf "${tar%.tar}.fixture.tar" .
tar -C "$rootfs" --xattrs --xattrs-include='*' --one-file-system -cpf "$tar.part" .
# What was made by another recipe is of no use.
find "$cache" -maxdepth 1 -name "$suite-*.tar" ! -name "$suite-$recipe.*" -delete
mv "$tar.part" "$tar"
echo "$tar"
