# The first process on a lab machine's root disk: mounts, runs the command, hands back its exit status, powers off.
export PATH=/unpriv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TERM=dumb LANG=C.UTF-8
say() { read -r up _ </proc/uptime; echo "<3>vm: [$up] $*" >/dev/kmsg; }
. /run/settings

# The root's own files on a memory disk would be hidden by /run.
mount -t tmpfs -o mode=755,nosuid,nodev run /mnt
cp -a /run/. /mnt/
mount --move /mnt /run
mkdir -p /run/lock /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o mode=1777 tmp /tmp
ln -sf /proc/self/fd /dev/fd
ln -sf fd/0 /dev/stdin
ln -sf fd/1 /dev/stdout
ln -sf fd/2 /dev/stderr
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t securityfs securityfs /sys/kernel/security
case $CGROUP in
v2)
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
    done 2>/dev/null
    ;;
*)
    mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
    while read -r controller _ _ enabled; do
        [ "$enabled" = 1 ] || continue
        mkdir "/sys/fs/cgroup/$controller"
        mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller"
    done </proc/cgroups
    if [ "$CGROUP" = hybrid ]; then
        mkdir /sys/fs/cgroup/unified
        mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
    fi
    ;;
esac
mount --make-rshared /
echo lab >/proc/sys/kernel/hostname
busybox ip link set lo up
echo 127.0.0.1 localhost lab >/etc/hosts
chmod 666 /dev/fuse 2>/dev/null

for port in /sys/class/virtio-ports/*; do
    read -r name <"$port/name"
    case $name in
    stdout) stdout=/dev/${port##*/} ;;
    stderr) stderr=/dev/${port##*/} ;;
    status) status=/dev/${port##*/} ;;
    esac
done
mount -t ext4 -o ro /dev/vdc /unpriv
mount -t ext4 /dev/vdd /out
cd /out || exit
say ready
/bin/bash /run/command >"$stdout" 2>"$stderr" </dev/null
code=$?
say "done, exit status $code"
cd /
sync
umount /out 2>/dev/null || mount -o remount,ro /out 2>/dev/null
[ "$KEEP_ROOT" = 1 ] && mount -o remount,ro /
echo $code >"$status"
exec busybox poweroff -f
