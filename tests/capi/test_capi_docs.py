"""docs/c_api.md: its example compiles and keeps its promises, and it tells of every function."""

import re
import sys
import threading
from pathlib import Path

import pytest
from building import compile_extension, load
from support import Census, run_script, run_threads, scaled, settle

import qsbrcontainers

DOCS = Path(__file__).parent.parent.parent / "docs" / "c_api.md"
HEADER = Path(qsbrcontainers.get_include()) / "qsbrcontainers.h"


@pytest.fixture(scope="module")
def built_setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    code = re.search(r"```c\n(#include <qsbrcontainers.h>.*?)```", DOCS.read_text(), re.DOTALL)
    (folder / "setting.c").write_text(code[1])
    return compile_extension(folder, "setting", [folder / "setting.c"])


@pytest.fixture(scope="module")
def setting(built_setting):
    return load(built_setting)


def test_the_example_survives_an_import_that_fails(built_setting):
    printed = run_script(
        """
import gc, sys
import qsbrcontainers._native as native
sys.path.insert(0, sys.argv[1])
api, native._C_API = native._C_API, 5
for _ in range(2):
    try:
        import setting
    except ImportError:
        print("refused")
    gc.collect()
native._C_API = api
import setting
setting.Setting().set(1)
""",
        built_setting.parent,
    )
    assert printed == "refused\nrefused"


def test_the_example_works(setting):
    s, value = setting.Setting(), [1]
    before = sys.getrefcount(value)
    assert s.get() is None
    for _ in range(3000):
        s.set(value)
        assert s.get() is value
    s.set(s)  # a cycle
    del s
    settle()
    for thread in [threading.Thread(target=setting.Setting().get) for _ in range(3)]:
        thread.start()
        thread.join()
    other = setting.Setting()
    for _ in range(3000):  # a thread looks after the queue every 1024 operations
        other.get()
    assert sys.getrefcount(value) - before <= 1020  # what is not yet a full batch


def test_the_example_under_threads(setting):
    """Q1: no reader gets an object that was finalized."""
    census, s = Census(), setting.Setting()
    s.set(census.new(0))

    def write(me):
        for i in range(scaled(5000)):
            s.set(census.new(i))

    def read():
        for _ in range(100):
            s.get().check()

    run_threads(2, write, background=[read, read])


def test_every_function_is_told_of():
    text = DOCS.read_text()
    names = set(re.findall(r"^#define (qsbrc_\w+) ", HEADER.read_text(), re.MULTILINE))
    names |= set(re.findall(r"^(qsbrc_\w+|qsbrcontainers_\w+)\(", HEADER.read_text(), re.MULTILINE))
    assert len(names) > 50
    assert not {name for name in names if f"{name}(" not in text}
    assert not set(re.findall(r"\bqsbrc_\w+(?=\()", text)) - names


def test_versions_agree():
    header = HEADER.read_text()
    major = re.search(r"#define QSBRC_API_MAJOR (\d+)", header)[1]
    minor = re.search(r"#define QSBRC_API_MINOR (\d+)", header)[1]
    assert f"This is version {major}.{minor}." in DOCS.read_text()
