# Run once on a new root disk: gives both engines the test image, so that no later machine has to.
set -eu
. /unpriv/engines.sh
settings='ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
docker import -c "$settings" /unpriv/image.tar unpriv-zoo:latest >/dev/null
say "docker has the test image"
podman import -q -c "$settings" /unpriv/image.tar unpriv-zoo:latest >/dev/null
say "podman has the test image"
kill $dockerd
wait $dockerd || true
kill $containerd
wait $containerd || true
rm -rf /var/log/dockerd.log /var/log/containerd.log /run/docker* /var/tmp/*
