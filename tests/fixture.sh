# shellcheck shell=sh
# The files that the workloads find in /opt/zoo. Made once, as root, in the image's root directory.
set -eu
cd /opt/zoo
chmod 755 .

# Another user's things: a private file, a private directory, a program, a sticky directory.
mkdir other other/private sticky
echo secret >other/0600
echo shared >other/0644
echo inside >other/private/file
echo data >sticky/file
chmod 600 other/0600
chmod 700 other/private
chmod 755 other
chmod 1777 sticky
chown -R 1000:1000 other sticky
# root's own file, of a group that root is not in.
echo program >of-group-1000
chmod 755 of-group-1000
chown 0:1000 of-group-1000
# root's own file that the mode bits close to everybody.
echo closed >mode-0000
chmod 0 mode-0000
# A read-only file of root's: root by capability writes it, root without cannot.
echo read-only >mode-0444
chmod 444 mode-0444

# Programs with capabilities, and setuid.
mkdir caps
for name in chown true cat id; do cp "/bin/$name" "caps/$name"; done 2>/dev/null ||
    for name in chown true cat id; do cp "/usr/bin/$name" "caps/$name"; done
setcap cap_chown=ep caps/chown
setcap cap_net_raw=ep caps/true
setcap cap_dac_read_search=ep caps/cat
cp caps/true caps/true-permitted
setcap cap_net_raw=p caps/true-permitted
cp caps/true caps/true-inheritable
setcap cap_sys_admin=ei caps/true-inheritable
cp caps/chown caps/chown-setuid
chmod 4755 caps/chown-setuid

# Somewhere that anybody may write.
mkdir tmp
chmod 1777 tmp
