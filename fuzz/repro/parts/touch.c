// needs: access
/* Access the first word of so many pages; what each access got. */
static const char *touch(unsigned long address, int pages, int write, int call)
{
	static char outcome[32 * 8];
	static int i, signal;

	strcpy(outcome, pages ? "" : "nothing");
	watch(20000);
	for (i = 0; i < pages && i < 32; i++, address += PAGE) {
		signal = reach(address & -PAGE, write,
			       (unsigned long)call << 36 | (address / PAGE & ((1UL << 36) - 1)));
		strcat(outcome, i ? " " : "");
		strcat(outcome, !signal ? "ok" : signal == SIGSEGV ? "SEGV" : signal == SIGBUS ? "BUS" : "endless");
	}
	watch(0);
	return outcome;
}

#define touch_read(address, pages) touch(address, pages, 0, 0)
/* What is written tells the number of the call and of the page. */
#define touch_write(address, pages, call) touch(address, pages, 1, call)
