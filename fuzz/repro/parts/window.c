// needs: maps
/* What is outside the window is not looked at. */
static int is_own(const struct mapping *m)
{
	return m->start < W || m->start >= W + WINDOW_PAGES * PAGE;
}
