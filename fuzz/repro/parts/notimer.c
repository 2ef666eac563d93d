// needs:
#define watch(microseconds)
