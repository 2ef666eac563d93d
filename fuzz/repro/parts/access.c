// needs: base
#include <setjmp.h>
#include <signal.h>

static sigjmp_buf faulted;
static volatile unsigned long last_word;

static void on_signal(int signal)
{
	siglongjmp(faulted, signal);
}

/* Read a word, or write it: 0, or the signal that the access got. */
static int reach(unsigned long address, int write, unsigned long word)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_NODEFER };
	int signal;

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGPROF, &action, NULL);
	signal = sigsetjmp(faulted, 0);
	if (signal)
		return signal;
	if (write)
		*(volatile unsigned long *)address = word;
	else
		last_word = *(volatile unsigned long *)address;
	return 0;
}
