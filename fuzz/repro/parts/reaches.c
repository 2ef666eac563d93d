// needs: expect, touch
/* What accesses get must be `want`. */
#define reaches(call, want) check_access(#call, call, want)

static void check_access(const char *call, const char *found, const char *want)
{
	calls_made++;
	last_call = call;
	if (!strcmp(found, want))
		return;
	dprintf(OUT, "diverges in call %d, %s: expected \"%s\", found \"%s\"\n", calls_made, call, want, found);
	_exit(1);
}
