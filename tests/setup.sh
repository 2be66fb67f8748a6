#!/bin/bash
# Makes a Debian or Ubuntu machine ready for the end-to-end tests: packages, a docker daemon, the test image
# `unpriv-zoo:latest`, and the fixture tree /opt/zoo that the plain form of the workloads uses. Run it as root;
# run it again at any time, only what is missing is done. `setup.sh --rebuild` builds the image anew.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=/var/cache/unpriv-zoo
image=unpriv-zoo:latest
# What the workloads call; the same on the host and in the image.
read -ra programs <<<"$("$here/image.sh" --programs)"
# What building and running needs on the host alone; apparmor has the parser that every emitted profile is given to.
tools=(apparmor crun debootstrap docker.io runc tar)
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

build_image() {
    if [ "${1-}" = --rebuild ]; then rm -f "$cache/$VERSION_CODENAME"-*.tar; fi
    local tar recipe
    tar=$("$here/image.sh" "$VERSION_CODENAME")
    recipe=$(basename "$tar" .tar)
    ln -sf "$recipe.fixture.tar" "$cache/fixture.tar"
    if [ "$(docker image inspect -f '{{.Config.Labels.recipe}}' "$image" 2>/dev/null)" = "$recipe" ]; then return; fi
    say "importing $image"
    docker import -c "LABEL recipe=$recipe" -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        "$tar" "$image" >/dev/null
}

mkdir -p "$cache" /opt/zoo
# As udev would have it; users may mount FUSE file systems.
if [ -c /dev/fuse ]; then chmod 666 /dev/fuse; fi
install_packages
start_docker
build_image "$@"
say "ready: $(docker version -f 'docker {{.Server.Version}}'), $image"
