// needs: base
#include <setjmp.h>
#include <signal.h>

static sigjmp_buf faulted;
static volatile unsigned long last_word;

static void on_signal(int signal)
{
	siglongjmp(faulted, signal);
}

static void catch(int signal)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_NODEFER };

	sigaction(signal, &action, NULL);
}

/* Read a word, or write it: 0, or the signal that the access got. */
static int reach(unsigned long address, int write, unsigned long word)
{
	int signal;

	catch(SIGSEGV);
	catch(SIGBUS);
	signal = sigsetjmp(faulted, 0);
	if (signal)
		return signal;
	if (write)
		*(volatile unsigned long *)address = word;
	else
		last_word = *(volatile unsigned long *)address;
	return 0;
}
