#!/bin/bash
# Makes a Debian or Ubuntu machine ready for the end-to-end tests: packages, a docker daemon, the test image
# `unpriv-zoo:latest`, and the fixture tree /opt/zoo that the plain form of the workloads uses. Run it as root;
# run it again at any time, only what is missing is done. `setup.sh --rebuild` builds the image anew.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=/var/cache/unpriv-zoo
image=unpriv-zoo:latest
# What the workloads call; the same on the host and in the image.
programs=(bindfs busybox-static e2fsprogs fuse3 iproute2 iptables iputils-ping libcap2-bin mount nftables procps
    strace tcpdump util-linux)
# What building and running needs on the host alone.
tools=(crun debootstrap docker.io runc tar)
export DEBIAN_FRONTEND=noninteractive

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

[ "$(id -u)" = 0 ] || die "must run as root (it installs packages and starts dockerd)"
command -v apt-get >/dev/null || die "knows only Debian and Ubuntu (no apt-get here)"
# shellcheck source=/dev/null
. /etc/os-release

install_packages() {
    local missing=() package
    for package in "${programs[@]}" "${tools[@]}"; do
        # Those that did not come from Debian will do as well; docker's own packages and these exclude each other.
        case $package in
        docker.io) ! command -v dockerd >/dev/null || continue ;;
        runc | crun) ! command -v "$package" >/dev/null || continue ;;
        esac
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

start_docker() {
    if docker version >/dev/null 2>&1; then return; fi
    if [ -d /run/systemd/system ]; then
        say "starting docker by systemctl"
        systemctl start docker
    else
        mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup
        local log=${DOCKERD_LOG:-/var/log/unpriv-zoo-dockerd.log} flags
        # Kernels without nat or filter tables cannot carry docker's rules; the workloads do not need them.
        for flags in "" --iptables=false "--iptables=false --bridge=none"; do
            say "starting dockerd $flags (log: $log)"
            # shellcheck disable=SC2086 # several flags, or none
            setsid nohup dockerd $flags >>"$log" 2>&1 </dev/null &
            local dockerd=$!
            for _ in $(seq 60); do
                if docker version >/dev/null 2>&1; then return; fi
                kill -0 "$dockerd" 2>/dev/null || break
                sleep 0.5
            done
            kill "$dockerd" 2>/dev/null || true
        done
        tail -n 5 "$log" >&2
    fi
    docker version >/dev/null || die "no docker daemon answers"
}

# The mirror this machine itself installs from; nothing, which is debootstrap's own choice, when it is not a plain URL.
mirror() {
    apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
        awk -v suite="$VERSION_CODENAME" '$1 == suite && $2 ~ /^https?:/ && !mirror { mirror = $2 } END { print mirror }'
}

build_rootfs() {
    local rootfs=$1 components=main log=$cache/build.log mirror
    mirror=$(mirror)
    if [ "$ID" = ubuntu ]; then components=main,universe; fi
    say "bootstrapping $VERSION_CODENAME (about a minute)"
    # The programs come by apt: debootstrap does not resolve alternatives, such as bindfs' fuse3 or fuse.
    # shellcheck disable=SC2086 # a mirror, or none
    debootstrap --variant=minbase --components="$components" "$VERSION_CODENAME" "$rootfs" $mirror >"$log" 2>&1 ||
        { tail -n 20 "$log" >&2; die "debootstrap failed (all of it: $log)"; }
    say "installing the programs into it"
    cp /etc/resolv.conf "$rootfs/etc/resolv.conf"
    if [ "$(dpkg --print-architecture)" = amd64 ]; then chroot "$rootfs" dpkg --add-architecture i386; fi
    chroot "$rootfs" /bin/sh -ec 'apt-get update -qq; apt-get install -y -qq --no-install-recommends "$@"' \
        sh "${programs[@]}" >>"$log" 2>&1 || { tail -n 20 "$log" >&2; die "apt-get failed (all of it: $log)"; }
    if [ "$(dpkg --print-architecture)" = amd64 ]; then
        chroot "$rootfs" /bin/sh -ec 'cd /tmp; apt-get download -qq busybox-static:i386; dpkg -x busybox-static_*_i386.deb x
            mv x/bin/busybox /busybox32; rm -rf x *.deb' >>"$log" 2>&1 ||
            say "no 32-bit program to be had: that workload will fail"
    fi
    rm -rf "$rootfs"/var/cache/apt/* "$rootfs"/var/lib/apt/lists/* "$rootfs"/usr/share/{doc,locale,man}
}

# Same recipe, same hash: a changed recipe builds a new image, nothing else does.
recipe=$(cat "$here/setup.sh" "$here/fixture.sh" | sha256sum | cut -c1-16)

build_image() {
    if [ "${1-}" != --rebuild ] && [ -e "$cache/fixture.tar" ] &&
        [ "$(docker image inspect -f '{{.Config.Labels.recipe}}' "$image" 2>/dev/null)" = "$recipe" ]; then
        return
    fi
    local rootfs
    rootfs=$(mktemp -d "$cache/rootfs.XXXXXX")
    # In memory: dpkg syncs after every file, which a busy disk makes minutes of.
    mount -t tmpfs -o mode=755 rootfs "$rootfs"
    # shellcheck disable=SC2064 # the value of now
    trap "umount '$rootfs' && rmdir '$rootfs'" EXIT
    build_rootfs "$rootfs"
    say "laying out the fixture tree"
    mkdir "$rootfs/opt/zoo"
    if [ -e "$rootfs/busybox32" ]; then mv "$rootfs/busybox32" "$rootfs/opt/zoo/"; fi
    chroot "$rootfs" /bin/sh -eu -s <"$here/fixture.sh"
    tar -C "$rootfs/opt/zoo" --xattrs --xattrs-include='*' -cpf "$cache/fixture.tar" .
    say "importing $image"
    tar -C "$rootfs" --xattrs --xattrs-include='*' --one-file-system -c . |
        docker import -c "LABEL recipe=$recipe" -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
            - "$image" >/dev/null
}

mkdir -p "$cache" /opt/zoo
# As udev would have it; users may mount FUSE file systems.
if [ -c /dev/fuse ]; then chmod 666 /dev/fuse; fi
install_packages
start_docker
build_image "$@"
say "ready: $(docker version -f 'docker {{.Server.Version}}'), $image"
