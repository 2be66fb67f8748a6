# Sourced on a lab machine: starts dockerd with runc and crun. podman needs no daemon. $DOCKER_NET=1 gives containers
# a network; without one dockerd starts 4 s sooner, and each container a second.
say() { read -r up _ </proc/uptime; echo "<3>vm: [$up] $*" >/dev/kmsg; }
modprobe -a overlay tun fuse loop 2>/dev/null
chmod 666 /dev/fuse
flags="--iptables=false --ip6tables=false --bridge=none"
[ "${DOCKER_NET:-}" = 1 ] && flags=
# Started by itself: dockerd gives the one that it starts 15 s, which a busy host may not.
containerd >/var/log/containerd.log 2>&1 &
containerd=$!
for _ in $(seq 1200); do
    [ -S /run/containerd/containerd.sock ] && break
    sleep 0.1
done
# shellcheck disable=SC2086 # several flags, or none
dockerd --containerd=/run/containerd/containerd.sock --storage-driver=overlay2 \
    --exec-opt native.cgroupdriver=cgroupfs --add-runtime crun=/usr/bin/crun $flags \
    >/var/log/dockerd.log 2>&1 &
dockerd=$!
for _ in $(seq 1200); do
    [ -S /run/docker.sock ] && docker version >/dev/null 2>&1 && break
    kill -0 $dockerd || break
    sleep 0.1
done
docker version >/dev/null || { tail -n 30 /var/log/dockerd.log >&2; exit 97; }
say "docker is ready"
