"""One suite over the builtins and ours: the fixtures are constructors."""

import pytest
from support import (  # noqa: F401
    DICTS,
    LISTS,
    OUR_DICTS,
    OUR_LISTS,
    only_our_objects,
    real_stderr,
    watchdog,
)


@pytest.fixture(params=DICTS)
def make_dict(request):
    return DICTS[request.param]


@pytest.fixture(params=OUR_DICTS)
def make_our_dict(request):
    return OUR_DICTS[request.param]


@pytest.fixture(params=LISTS)
def make_list(request):
    return LISTS[request.param]


@pytest.fixture(params=OUR_LISTS)
def make_our_list(request):
    return OUR_LISTS[request.param]
