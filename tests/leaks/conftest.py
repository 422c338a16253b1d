import gc

import pytest
from support import real_stderr, watchdog  # noqa: F401


@pytest.fixture(scope="session", autouse=True)
def only_our_objects():
    """Thousands of collections follow: what is there already need not be looked at each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
