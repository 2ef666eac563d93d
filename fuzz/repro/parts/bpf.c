// needs: object
#include <linux/bpf.h>
#include <sys/syscall.h>

static int new_map(int type, int key, int value, int entries, int flags)
{
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.map_type = type;
	attributes.key_size = key;
	attributes.value_size = value;
	attributes.max_entries = entries;
	attributes.map_flags = flags;
	return need(syscall(SYS_bpf, (long)BPF_MAP_CREATE, &attributes, sizeof(attributes)), "bpf");
}
