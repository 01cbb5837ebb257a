#!/bin/busybox sh
# First program of the guest: reaches the host's root file system and hands over to the agent in it.
# Any failure ends this script, hence process 1, hence the machine: the host sees it with the console's last lines.
set -e
/bin/busybox --install -s /bin
export PATH=/bin
mkdir -p /proc /sys /dev /host /upper /root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
case " $(cat /proc/cmdline) " in
*" vm_tests.probe "*)
	echo vm-tests: probe reached >/dev/console
	poweroff -f
	;;
esac
while read -r module; do
	insmod "/modules/$module"
done </modules.order
ip link set lo up
mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro host /host
mount -t tmpfs -o mode=755 tmpfs /upper
mkdir /upper/data /upper/work
chmod 755 /upper/data
mount -t overlay -o lowerdir=/host,upperdir=/upper/data,workdir=/upper/work overlay /root
mkdir -p /root/proc /root/sys /root/dev
mount --move /proc /root/proc
mount --move /sys /root/sys
mount --move /dev /root/dev
exec switch_root -c /dev/console /root "$(cat /agent)" guest-agent
