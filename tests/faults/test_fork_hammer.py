"""Q10: a fork beside threads that use dicts and lists in every way, with references still to be
dropped, and in get_or_create: the child reads, writes, collects and ends, and so does the parent.
"""

import pytest
from support import FREES_AT_ONCE, rounds, run_script

BEGIN = """
import faulthandler, gc, os, signal, sys, threading, time, traceback, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
from qsbrcontainers import ConcurrentDict, ConcurrentList, collect, stats

def in_child(function, end=os._exit):
    pid = os.fork()
    if pid == 0:
        faulthandler.dump_traceback_later(60, exit=True)  # turns a deadlock into a failure
        try:
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        end(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, f"a child ended with {status}"

def run(*functions):
    errors = []
    def guarded(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)
    threads = [threading.Thread(target=guarded, args=(f,)) for f in functions]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if errors:
        raise errors[0]

class Value:
    alive = 0
    def __init__(self, n):
        self.n = n
        Value.alive += 1
    def __del__(self):
        Value.alive -= 1
"""

# Values are tuples, and what threads share is ours: a list's or dict's own lock, with which free-
# threaded builds guard each operation, may stay held in the child for good.
HAMMER = """
children, where = int(sys.argv[1]), sys.argv[2]
STABLE = range(50)
d = ConcurrentDict((("stable", i), (i,)) for i in STABLE)
d["first"] = d["second"] = 0  # one thread assigns them in turn
e = ConcurrentDict()  # comes and goes; a value has its key
values = ConcurrentList(range(100))  # what is at i is i, and any times 1000
over = False
shared = ConcurrentDict(iterator=iter(e.items()))

def change(me, n):
    key = n * 7 % 60
    d["stable", key % 50] = (key % 50,)
    d["more", me, key] = n
    d.pop(("more", me, (key + 30) % 60), None)
    d.incr(("count", me))
    e[key] = (key,)
    e.setdefault(key + 1, (key + 1,))
    e.get_or_create(key + 2, lambda: (key + 2,))
    e.update({key + 3: (key + 3,)})
    if me == 0:
        d["first"] = n
        d["second"] = n
        values.append(len(values))
        if n % 3 == 0:
            values.pop()
            values.extend([len(values), len(values) + 1])
        if len(values) > 500:
            values.clear()
    else:
        i = n % 400
        try:
            values[i] = i + 1000 * n
        except IndexError:
            pass
        if n % 50 == 0:
            e.clear()
            d.snapshot()
    for _ in range(2):
        try:
            e.popitem()
        except KeyError:
            pass

def look():
    for i in STABLE:
        assert d["stable", i] == (i,)
    second, first = d["second"], d["first"]
    assert first >= second
    for key, value in e.items():
        assert value == (key,)
    for i, value in enumerate(values):
        assert value % 1000 == i, (i, value)
    key, value = next(shared["iterator"], (0, (0,)))
    assert value == (key,)
    for key, value in e.snapshot().items():
        assert value == (key,)
    shared["iterator"] = iter(e.items())

def hammer(me):
    n = 0
    while not over:
        n += 1
        change(me, n)
        look()

def whole():
    look()
    moment = d.snapshot()
    assert moment["first"] - moment["second"] in (0, 1) or moment["second"] == 0
    for container in d, e:
        keys = list(container)
        assert len(container) == len(keys) == len(set(keys)) == len(container.snapshot())
        assert list(container.snapshot()) == keys
        assert all(key in container and container.get(key) is not None for key in keys)
    assert len(values) == len(values.snapshot()) == len(list(values))

def child():
    whole()
    assert stats()["records"] == 1 and stats()["quarantined"] == 0
    for n in range(1, 100):
        change(n % 3, n * 1000)
    run(*[lambda me=me: [change(me, n) for n in range(1, 100)] for me in range(3)])
    d["first"] = d["second"] = 0
    whole()
    gc.collect()
    collect()
    before = len(d)
    d["new"] = 1
    del d["new"]
    assert len(d) == before
    for container in d, e, values:
        container.clear()
        assert len(container) == 0 and not list(container)
    collect()
    gc.collect()

def fork_all():
    for n in range(children):
        in_child(child, sys.exit if n % 10 == 0 and where == "main" else os._exit)

threads = [threading.Thread(target=hammer, args=(me,), daemon=True) for me in range(3)]
for each in threads:
    each.start()
run(fork_all) if where == "thread" else fork_all()
over = True
for each in threads:
    each.join()
d["first"] = d["second"]
whole()
"""


@pytest.mark.parametrize("where", ["main", "thread"])
@pytest.mark.parametrize("attempt", range(2))
def test_Q10_fork_beside_threads_that_change_everything(where, attempt):
    run_script(BEGIN + HAMMER, rounds(25), where, timeout=300)


RETIRED = """
who = sys.argv[1]
d = ConcurrentDict()
run(lambda: d.get(0))  # shared from now on
hold, ready = threading.Event(), threading.Event()

def replace():
    # Its safe point comes after 1024 operations: not in here.
    for i in range(400):
        d[Value(i)] = i
    d.clear()  # keys wait for readers
    for i in range(400):
        d[i] = Value(-i)
    ready.set()
    if who == "a thread that waits":
        hold.wait()

thread = None
if who == "the thread that forks":
    forker = threading.Thread(target=lambda: (replace(), whole()))
else:
    thread = threading.Thread(target=replace)
    thread.start()
    ready.wait()
    if who == "a thread that ended":
        thread.join()
    forker = threading.Thread(target=lambda: whole())

def check():
    assert [d[i].n for i in range(400)] == [-i for i in range(400)]

def child():
    assert Value.alive == 800, Value.alive
    check()  # may come to a safe point and free some
    collect()
    assert Value.alive == 400, Value.alive
    check()
    d.clear()
    assert Value.alive == 0, Value.alive
    collect()
    assert stats()["items_held"] == 0
    d[1] = Value(1)
    assert d[1].n == 1

errors = []

def whole():
    try:
        held = stats()["items_held"]
        assert held > 0 and Value.alive == 800, (held, Value.alive)
        in_child(child)
        in_child(child)
        assert stats()["items_held"] > 0
    except BaseException as error:
        errors.append(error)

forker.start()
forker.join()
if errors:
    raise errors[0]
hold.set()
if thread is not None:
    thread.join()
check()
collect()
assert Value.alive == 400, Value.alive
"""


@pytest.mark.skipif(FREES_AT_ONCE, reason="there are none here")
@pytest.mark.parametrize(
    "who", ["the thread that forks", "a thread that waits", "a thread that ended"]
)
def test_Q10_fork_with_hundreds_of_references_to_be_dropped(who):
    run_script(BEGIN + RETIRED, who)


CREATORS = """
d = ConcurrentDict()
started, go = threading.Event(), threading.Event()
got = []

def factory():
    started.set()
    go.wait()
    return ["parent"]

threads = [
    threading.Thread(target=lambda: got.append(d.get_or_create("key", factory))) for _ in range(4)
]
for each in threads:
    each.start()
started.wait()
time.sleep(0.1)  # the others wait by now, as a rule

def child():
    made, mine = [], []
    def create():
        made.append(1)
        return ["child"]
    run(*[lambda: mine.append(d.get_or_create("key", create)) for _ in range(4)])
    assert len(made) == 1 and mine == [["child"]] * 4
    assert d.get_or_create("other", lambda: 5) == 5
    d.pop("key")
    assert d.get_or_create("key", create) == ["child"] and len(made) == 2
    def asks_for_its_own():
        return d.get_or_create("own", asks_for_its_own)
    try:
        asks_for_its_own()
    except RuntimeError:
        pass
    else:
        raise AssertionError("a ring was not noticed")

for n in range(int(sys.argv[1])):
    in_child(child, sys.exit if n % 5 == 0 else os._exit)
assert "key" not in d
go.set()
for each in threads:
    each.join()
assert got == [["parent"]] * 4
"""


def test_K10_child_does_not_wait_for_a_creator_that_is_gone():
    run_script(BEGIN + CREATORS, rounds(20))


FACTORY_FORKS = """
d, pids = ConcurrentDict(), []

def factory():
    pids.append(os.fork())
    if pids[-1] == 0:
        signal.alarm(60)
        child()
        return "child's"
    return "parent's"

def child():
    # The creator is not gone: it is this thread.
    try:
        d.get_or_create("key", lambda: "nonsense")
    except RuntimeError:
        pass
    else:
        raise AssertionError("it did not notice that it asks for its own key")
    begun = threading.Event()
    def ask():
        begun.set()
        got.append(d.get_or_create("key", lambda: "nonsense"))
    waiters.extend(threading.Thread(target=ask) for _ in range(3))
    for each in waiters:
        each.start()
    begun.wait()
    time.sleep(0.1)
    assert got == []

got, waiters = [], []
value = d.get_or_create("key", factory)
if pids[-1] == 0:
    for each in waiters:
        each.join()
    assert value == "child's" and got == ["child's"] * 3, (value, got)
    assert d["key"] == "child's"
else:
    assert value == d["key"] == "parent's"
    assert os.waitstatus_to_exitcode(os.waitpid(pids[-1], 0)[1]) == 0
"""


def test_K10_a_factory_that_forks_goes_on_in_both():
    run_script(BEGIN + FACTORY_FORKS)


WAITER_FORKS = """
d = ConcurrentDict()
started, go = threading.Event(), threading.Event()
is_child, pids = False, []

def factory():
    started.set()
    go.wait()
    return "parent's"

def fork(number, frame):
    global is_child
    pids.append(os.fork())
    is_child = pids[-1] == 0
    if is_child:
        signal.alarm(60)

thread = threading.Thread(target=lambda: d.get_or_create("key", factory), daemon=True)
others = [
    threading.Thread(target=lambda: d.get_or_create("key", factory), daemon=True) for _ in range(3)
]
for each in thread, *others:
    each.start()
started.wait()
signal.signal(signal.SIGUSR1, fork)

def poke():
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGUSR1)
    while not pids:
        time.sleep(0.01)
    go.set()

poker = threading.Thread(target=poke)
poker.start()
value = d.get_or_create("key", lambda: "child's")  # waits; the handler forks in the middle
if is_child:
    assert value == "child's", value
    run(*[lambda: d.get_or_create("more", lambda: 1) for _ in range(3)])
else:
    poker.join()
    assert value == "parent's", value
    assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 0
"""


def test_K10_a_waiter_whose_signal_handler_forks():
    run_script(BEGIN + WAITER_FORKS)
