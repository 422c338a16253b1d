"""Everything at once, for runs in a process of their own: `python torture.py SCALE`.

Threads count words, keep objects alive for each other, take snapshots and iterate, make keys
together and share lists; all of it is checked. Prints the barrier in use.
"""

import sys

from support import Census, run_threads, settle

from qsbrcontainers import ConcurrentDict, ConcurrentList, stats


def main(scale):
    sys.setswitchinterval(1e-5)
    census, counts, threads = Census(), int(4000 * scale), 3
    d, log, made = ConcurrentDict(first=0, last=0), ConcurrentList(), []
    for k in range(10):
        d["object", k] = census.new(k)

    def work(me):
        for i in range(counts):
            d.incr(i % 7)
            d["object", i % 10] = census.new(i)
            d["own", me] = i
            assert d["own", me] == i
            if me == 0:
                d["first"] = i
                d["last"] = i
            d["come and go", me, i] = i
            if i >= 40:
                del d["come and go", me, i - 40]
            log.append((me, i))
            if i % 20 == 0:
                d.get_or_create(("made", i), lambda i=i: made.append(i) or [i])

    def read():
        for k in range(10):
            assert d["object", k].check() % 10 == k
        if len(log):
            me, i = log[-1]
            assert d["own", me] >= i

    def whole():
        seen = d.snapshot()
        assert seen["last"] <= seen["first"] <= seen["last"] + 1
        for key, value in d.items():
            if key[0] == "object" if isinstance(key, tuple) else False:
                value.check()

    run_threads(threads, work, background=[read, whole])
    assert sum(d[k] for k in range(7)) == threads * counts
    assert sorted(log) == sorted((me, i) for me in range(threads) for i in range(counts))
    assert sorted(made) == list(range(0, counts, 20))
    settle()
    assert census.alive == 10
    d.clear()
    settle()
    assert census.alive == 0 and stats()["items_held"] == 0
    print(stats()["barrier"])


if __name__ == "__main__":
    main(float(sys.argv[1]))
