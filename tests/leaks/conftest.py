from debug_build import debug_build  # noqa: F401
from support import only_our_objects, real_stderr, watchdog  # noqa: F401
