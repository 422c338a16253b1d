from support import only_our_objects, real_stderr, watchdog  # noqa: F401
