// needs: base, text
static int calls_made;
static const char *last_call = "nothing";

/* The result of a call must be `want`. */
#define is(call, want) check_result(#call, raw(call), (long)(want))

static void check_result(const char *call, long found, long want)
{
	calls_made++;
	last_call = call;
	if (found == want)
		return;
	used = 0;
	put_result(want);
	put(", found ");
	put_result(found);
	dprintf(OUT, "diverges in call %d, %s: expected %s\n", calls_made, call, view);
	_exit(1);
}

/* A text about this process must be `want`, line by line. */
#define same(found, want) check_text(#found, found, want)

static void check_text(const char *what, const char *found, const char *want)
{
	int have, should;

	while (*found || *want) {
		have = strcspn(found, "\n");
		should = strcspn(want, "\n");
		if (have != should || memcmp(found, want, have)) {
			dprintf(OUT, "diverges after call %d, %s: %s: expected \"%.*s\", found \"%.*s\"\n",
				calls_made, last_call, what, should, want, have, found);
			_exit(1);
		}
		found += have + (found[have] == '\n');
		want += should + (want[should] == '\n');
	}
}
