"""For all tests: Hypothesis tries the same examples each time, however slow the machine is."""

from hypothesis import settings

settings.register_profile("vmadiff", deadline=None, derandomize=True)
settings.load_profile("vmadiff")
