// needs: text, maps
/* What the program maps, by its number in the model; from FIRST_NEW on what appears while it runs. */
#define FIRST_NEW 64
struct object {
	const char *name;
	unsigned long device, inode;
	int memory, opaque;
};
static struct object objects[FIRST_NEW + 256];
static int new_objects;

static int object_of(const struct mapping *m)
{
	int i;

	if (!m->device && !m->inode)
		return 0;
	for (i = 1; i < FIRST_NEW + new_objects; i++)
		if (objects[i].inode == m->inode && objects[i].device == m->device)
			return i;
	if (new_objects == 256)
		cannot("there are too many objects");
	objects[i].device = m->device;
	objects[i].inode = m->inode;
	objects[i].memory = 1;
	return FIRST_NEW + new_objects++;
}

static void put_object(const struct mapping *m)
{
	static const char *const names[] = { "[heap]", "[stack]", "[vdso]", "[vvar]", "[anon:]" };
	int object = object_of(m);

	if (object >= FIRST_NEW)
		put("shared anonymous #%d", object - FIRST_NEW + 1);
	else if (object)
		put("%s", objects[object].name);
	else if (!m->name[0])
		put("anonymous");
	else if (m->name[0] == '/')
		put("file");
	else
		for (int i = 0; i < 6; i++)
			if (i == 5 || !strncmp(m->name, names[i], strlen(names[i]) - 1)) {
				put("%s", i < 5 ? names[i] : "other");
				break;
			}
	if (object || m->offset)
		put(" offset %lup", m->offset / PAGE);
}

/* The mappings of this process, a line each. */
static const char *layout(void)
{
	struct reader *r = open_lines("/proc/self/maps");
	struct mapping m;

	used = view[0] = 0;
	while (next_mapping(r, &m)) {
		if (is_own(&m) || is_filler(&m))
			continue;
		put_address(m.start);
		put(" .. ");
		put_address(m.end);
		put(" %s ", m.permissions);
		put_object(&m);
		put("\n");
	}
	return view;
}
