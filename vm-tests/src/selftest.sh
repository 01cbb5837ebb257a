#!/bin/sh
# A test binary for the harness's own test: speaks libtest's language, and each case ends in its own way.
cases="passes fails skips is_ignored runs_nothing breaks_the_kernel_log expects_the_kernel_log sees_its_disks
leaves_a_process hangs panics_the_guest comes_after_the_panic"

if [ "$1" = --list ]; then
	for name in $cases; do
		echo "$name: test"
	done
	exit 0
fi

result() {
	echo "test result: $1. $2 passed; $3 failed; $4 ignored; 0 measured; 0 filtered out; finished in 0.00s"
}

printf 'test %s ... ' "$2"
case $2 in
passes) ;;
fails)
	echo 'the reason is this'
	result FAILED 0 1 0
	exit 101
	;;
skips) echo 'SKIPPED: there is no such device' ;;
is_ignored)
	echo 'ignored, needs a moon'
	result ok 0 0 1
	exit 0
	;;
runs_nothing) exit 0 ;;
breaks_the_kernel_log) echo 'BUG: test' >/dev/kmsg ;;
expects_the_kernel_log)
	echo 'VM-EXPECT-KMSG: BUG: exp'
	echo 'BUG: expected' >/dev/kmsg
	;;
sees_its_disks)
	set -ex
	echo hello >"$LAMINA_TEST_DIR/file"
	for disk in $(echo "$LAMINA_TEST_DISKS" | tr : ' '); do
		test -b "$disk"
	done
	for target in 9p overlay ext4 btrfs; do
		grep -qw "$target" /proc/filesystems
	done
	# Not loaded yet: the kernel must find its module by itself.
	mount -t squashfs "${LAMINA_TEST_DISKS%%:*}" /mnt 2>/dev/null || grep -qw squashfs /proc/filesystems
	test -c /dev/mapper/control
	test -c /dev/loop-control
	# Nothing of the host's but the way to where it was built, if that is there.
	test "$(stat -f -c %T /var/tmp)" = tmpfs
	test -z "$(find /var/tmp -xdev -type f)"
	;;
leaves_a_process) sleep 1000 & ;;
hangs) sleep 1000 ;;
panics_the_guest) echo c >/proc/sysrq-trigger ;;
comes_after_the_panic) ;;
esac
echo ok
result ok 1 0 0
