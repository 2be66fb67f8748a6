#!/bin/busybox sh
# The initramfs of a lab machine: loads what the root disk takes and hands over to stage2. No device is there before
# devtmpfs is mounted, the console neither.
b=/bin/busybox
$b mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
for module in $($b cat /modules/order); do
    $b insmod "/modules/$module" || echo "vm: cannot load $module"
done
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 500 ]; do
    $b usleep 20000
    tries=$((tries + 1))
done
$b mount -t ext4 -o rw,noatime /dev/vda /new || { echo "vm: no root disk"; $b poweroff -f; }
release=$($b uname -r)
$b mkdir -p "/new/lib/modules/$release"
$b mount -t ext4 -o ro /dev/vdb "/new/lib/modules/$release"
$b cp /stage2 /settings /command /new/run/
for directory in dev proc sys; do $b mount --move /$directory /new/$directory; done
# Not busybox's shell: it would take its own mount, ip and losetup for the root disk's.
exec $b switch_root /new /bin/dash /run/stage2
