import shutil

import pytest
from building import SOURCES, build, compiler, load
from support import only_our_objects, real_stderr, watchdog  # noqa: F401


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder with the extensions, to put on a script's path."""
    if shutil.which(compiler()[0]) is None:
        pytest.fail(f"there is no {compiler()[0]} here to compile an extension with")
    folder = tmp_path_factory.mktemp("extensions")
    for name in SOURCES:
        build(folder, name)
    return folder


@pytest.fixture(scope="session")
def chain(built):
    return load(next(built.glob("chain.*")))


@pytest.fixture(scope="session")
def probe(built):
    return load(next(built.glob("probe.*")))


@pytest.fixture(scope="session")
def foreign(built):
    return load(next(built.glob("foreign.*")))
