#!/bin/bash
# One guest with a small corpus: the newest known kernel, on QEMU. What is missing is said, and no failure.
set -uo pipefail

vmadiff=${1:?usage: guest.sh VMADIFF}
kernel=7.3.4

if ! command -v qemu-system-x86_64 >/dev/null && ((EUID == 0)) && command -v apt-get >/dev/null; then
	apt-get update -q >/dev/null && apt-get install -qy --no-install-recommends qemu-system-x86 >/dev/null
fi
if ! command -v qemu-system-x86_64 >/dev/null; then
	echo "NO GUEST WAS TESTED: qemu-system-x86 is not installed"
	exit 0
fi
if ! "$vmadiff" kernels fetch "$kernel"; then
	echo "NO GUEST WAS TESTED: kernel $kernel could not be fetched"
	exit 0
fi
exec "$vmadiff" matrix --kernels "$kernel" corpus/witnesses corpus/seeds/mremap-multi-vma-*.prog
