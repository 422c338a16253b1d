"""stats(), collect(), share(), and the barrier's choice."""

import gc
import inspect
import re
import weakref
from pathlib import Path

import pytest
from support import FREES_AT_ONCE, OUR_DICTS, OUR_LISTS, Census, run_script, settle

import qsbrcontainers
from qsbrcontainers import ConcurrentDict, ConcurrentList, collect, share, stats

COUNTERS = ["advances", "polls", "heavy_barriers", "items_freed", "bytes_held_peak"]
HELD = ["bytes_held", "items_held", "records"]


def test_names():
    for name in ("ConcurrentDict", "ConcurrentList", "stats", "collect", "share"):
        assert name in qsbrcontainers.__all__ and getattr(qsbrcontainers, name).__doc__


@pytest.mark.parametrize("cls", [ConcurrentDict, ConcurrentList])
def test_the_readme_has_a_promise_for_every_method(cls):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    table = readme.split(f"### {cls.__name__}\n")[1].split("###")[0]
    promised = set(re.findall(r"\w+", " ".join(re.findall(r"`[^`]*`", table))))
    methods = {name for name in dir(cls) if not name.startswith("_")}
    assert methods <= promised, methods - promised
    assert all(getattr(cls, name).__doc__ for name in methods)


@pytest.mark.parametrize("cls", [ConcurrentDict, ConcurrentList])
def test_every_method_has_a_signature(cls):
    """That help() and editors can show; with the parameters that the stubs have."""
    builtin = dict if cls is ConcurrentDict else list
    for name in dir(cls):
        method = getattr(cls, name)
        if callable(method) and (not name.startswith("_") or name not in dir(builtin)):
            parameters = inspect.signature(method).parameters
            assert "self" in parameters or name == "fromkeys", name
    assert list(inspect.signature(ConcurrentDict().pop).parameters) == ["key", "default"]
    assert list(inspect.signature(ConcurrentDict().compute).parameters) == [
        *("key", "func", "default")
    ]
    for name in qsbrcontainers.__all__:
        if callable(thing := getattr(qsbrcontainers, name)):
            inspect.signature(thing)


def test_stats():
    before = stats()
    assert type(before) is dict
    assert before["barrier"] in ("membarrier", "fence")
    assert before["numbers"] in ("value", "object")
    assert before["frees"] in ("later", "at once")
    for name in COUNTERS + HELD:
        assert type(before[name]) is int and before[name] >= 0
    before["barrier"] = "mine"
    assert stats()["barrier"] != "mine"
    churn()
    after = stats()
    assert all(after[name] >= before[name] for name in COUNTERS)
    assert after["records"] >= 1
    with pytest.raises(TypeError):
        stats(1)


def churn():
    """Retire tables, keys and values of containers that two threads use."""
    for make in (OUR_DICTS["shared"], OUR_LISTS["shared"]):
        container = make()
        for i in range(2000):
            if hasattr(container, "append"):
                container.append([i])
            else:
                container[i] = [i]
            container[i // 2] = [i]
        container.clear()


@pytest.mark.skipif(FREES_AT_ONCE, reason="nothing waits here")
def test_churn_is_deferred_and_collect_frees_it():
    settle()
    before = stats()
    churn()
    during = stats()
    assert during["items_freed"] > before["items_freed"] or during["items_held"] > 0
    settle()
    after = stats()
    assert after["items_held"] == 0 and after["bytes_held"] == 0
    assert after["items_freed"] > before["items_freed"]
    assert after["bytes_held_peak"] > 0 and after["advances"] > before["advances"]


def test_collect():
    settle()
    assert collect() == 0
    shared_dict = OUR_DICTS["shared"](a=[])
    del shared_dict["a"]  # the key waits
    held = stats()["items_held"]
    freed = collect()
    assert type(freed) is int and freed >= held and (held > 0 or FREES_AT_ONCE)
    assert stats()["items_held"] == 0
    with pytest.raises(TypeError):
        collect(1)


def test_unshared_containers_defer_nothing():
    """T1: what only one thread has ever used is freed at once."""
    settle()
    census = Census()
    before = stats()
    d, values = ConcurrentDict(), ConcurrentList()
    for i in range(1000):
        d[i] = census.new()
        d[i % 10] = census.new()
        values.append(census.new())
        values[i % 10] = census.new()
        assert stats()["items_held"] == 0
    live = len(d) + len(values)
    assert census.alive == live
    for i in range(500):
        del d[i]
        values.pop()
    assert census.alive == live - 1000
    d.clear()
    values.clear()
    assert census.alive == 0
    d[1], reference = census.new(), weakref.ref(d)
    values.append(census.new())
    del d, values
    assert census.alive == 0 and reference() is None
    assert stats()["items_freed"] == before["items_freed"]


@pytest.mark.parametrize("thing", [5, "text", None, (), [1], {}, int, len, object()])
def test_share_returns_its_argument(thing):
    assert share(thing) is thing


def test_shared_objects_still_work_and_are_freed():
    class App:
        pass

    census = Census()
    app = share(share(App()))
    app.cache, app.counted = ConcurrentDict(a=1), census.new()
    app.me = app
    assert app.cache["a"] == 1
    reference = weakref.ref(app)
    del app
    settle()
    assert reference() is None and census.alive == 0


def test_shared_untracked_objects_do_not_leak():
    class Slotted:
        __slots__ = ("__weakref__",)

    for cls in (Slotted, ConcurrentDict, ConcurrentList):
        reference = weakref.ref(share(cls()))
        settle()
        assert reference() is None
    text = "".join(["not", "interned"])
    assert share(text) is text and not gc.is_tracked(text)
    with pytest.raises(TypeError):
        share()


BARRIER = "import qsbrcontainers; print(qsbrcontainers.stats()['barrier'])"


def test_Q12_the_barrier_can_be_forced():
    assert run_script(BARRIER, QSBRCONTAINERS_BARRIER="fence") == "fence"
    chosen = run_script(BARRIER, QSBRCONTAINERS_BARRIER="")
    assert chosen in ("membarrier", "fence")
    if chosen == "membarrier":
        assert run_script(BARRIER, QSBRCONTAINERS_BARRIER="membarrier") == "membarrier"


def test_importing_twice_and_in_a_thread():
    assert (
        run_script(
            "import sys, threading\n"
            "t = threading.Thread(target=lambda: __import__('qsbrcontainers'))\n"
            "t.start(); t.join()\n"
            "import qsbrcontainers as first\n"
            "d = first.ConcurrentDict(a=1)\n"
            "for name in [n for n in sys.modules if n.startswith('qsbrcontainers')]:\n"
            "    del sys.modules[name]\n"
            "import qsbrcontainers as second\n"
            "print(d['a'], second.ConcurrentDict(b=2) == {'b': 2}, d == {'a': 1})\n"
        )
        == "1 True True"
    )
