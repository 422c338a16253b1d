"""Threads that work on a container while a test does something terrible to it, and check all the
while that nothing happens to what is theirs: `run_threads(1, terrible, background=company.work)`,
then `company.check()`.

What hostile keys do, they do in one thread only (`only_here`), so that the others may collide with
them, compare with them, and still expect the right answers.
"""

import sys
import threading

from support import Census, SameHash, Text, settle


class Hostile(SameHash):
    """Collides with SameHash and compares as it does; in the thread that calls `only_here`, and
    there alone, `then` is called first."""

    def __init__(self, value, then=lambda: None):
        super().__init__(value)
        self.then, self.thread = then, None

    def only_here(self):
        self.thread = threading.get_ident()
        return self

    __hash__ = SameHash.__hash__

    def __eq__(self, other):
        if self.thread == threading.get_ident():
            self.then()
        return super().__eq__(other)


KEYS = [
    lambda n: f"company {n}",
    lambda n: n + (1 << 40),
    lambda n: ("company", n),
    lambda n: SameHash(("company", n)),
    lambda n: Text(f"company text {n}"),
]


class DictCompany:
    """`kept`: what is not theirs to clear is not cleared; otherwise keys may vanish at any time,
    and only wrong values are wrong."""

    def __init__(self, d, kept=True):
        self.d, self.kept, self.census = d, kept, Census()
        self.counts = [0, 0]
        self.stable = {make(-n): self.census.new(n) for make in KEYS for n in range(1, 5)}
        d.update(self.stable)
        self.work = [self.read, lambda: self.write(0), lambda: self.write(1)]

    def right(self, found, value):
        assert found is value or (found is None and not self.kept), (found, value)

    def read(self):
        for key, value in self.stable.items():
            found = self.d.get(key)
            self.right(found, value)
            assert found is None or found.check() == value.first
        met = list(self.d)
        identities = {id(key) for key in met}
        assert len(identities) == len(met), "an entry was met twice"
        if self.kept:
            assert all(id(key) in identities for key in self.stable), "a key was not met"

    def write(self, me):
        for n in range(10 * me + 1, 10 * me + 9):
            for make in KEYS:
                value = self.census.new(n)
                self.d[make(n)] = value
                self.right(self.d.get(make(n)), value)
                value = self.census.new(n)
                self.d[make(n)] = value
                self.right(self.d.pop(make(n), None), value)
                assert make(n) not in self.d
        if self.kept:
            self.d.incr("company's count")
        self.counts[me] += 1

    def check(self):
        """And takes out what is theirs."""
        if self.kept:
            assert self.d.pop("company's count") == sum(self.counts)
        for key, value in self.stable.items():
            self.right(self.d.pop(key, None), value)
        self.stable.clear()
        del key, value
        settle()
        assert self.census.alive == 0


class ListCompany:
    """Objects of theirs may be moved and taken out by others; what is in the list is alive, was put
    there by somebody, and those that nobody takes out are there until the end."""

    def __init__(self, values, kept=True):
        self.values, self.kept, self.census = values, kept, Census()
        self.stable = [self.census.new(n) for n in range(20)]
        values.extend(self.stable)
        self.work = [self.read, self.write, self.write]

    def read(self):
        for look in (iter, reversed, lambda values: values.snapshot(), lambda values: values[:]):
            for value in look(self.values):
                if hasattr(value, "check"):
                    value.check()
        if self.kept:
            there = {id(value) for value in self.values.snapshot()}
            assert all(id(value) in there for value in self.stable), "an element is lost"

    def write(self):
        mine = [self.census.new(n) for n in range(5)]
        for value in mine:
            self.values.append(value)
        self.values.extend(mine)
        for value in mine * 2:
            try:
                self.values.remove(value)
            except ValueError:
                assert not self.kept, "an element is lost"

    def check(self):
        for value in self.stable:
            if self.kept:
                self.values.remove(value)
        if not self.kept:
            self.values.clear()
        self.stable.clear()
        value = None
        settle()
        assert self.census.alive == 0


def references(objects):
    """How many references each has, when nothing is only deferred."""
    settle()
    return [sys.getrefcount(each) for each in objects]
