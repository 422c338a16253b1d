"""The fuzz target of the whole Python API: bytes become operations, which three threads make on
shared containers.

    python fuzz_api.py FILE...                     replays inputs, each several times
    python fuzz_api.py --random N SEED FOLDER      makes N of them; one that fails is left in FOLDER
    python fuzz_api.py --libfuzzer LIBRARY ARG...  lets libFuzzer make them

Schedules differ, so what is checked is what no schedule may change:

    owned dict    each key is one thread's to change, in every way that concerns one key: each
                  result is what a dict of the thread's own gives (K1-K3), and in the end the
                  entries and each thread's order are those of the three dicts (K5)
    cells         the same with the elements of a list (A1, A4)
    counters      all threads add to them: the sums are exact (K2, A4)
    log           all threads append: nothing is lost or doubled, each thread's order is kept, and
                  append_index() says where it is for good (A2)
    pools         a dict and a list of values that are put in once: each of them is taken out once
                  or is there in the end (K4, A3)
    wild          a dict and a list that everybody changes in every way, with keys whose __eq__
                  changes it too or raises, and values whose finalizers come back: what is found
                  belongs where it is found, and in the end it is whole

All are read by all threads in every way. In the end every object is gone (K8).
"""

import ctypes
import gc
import os
import random
import sys
import threading
import traceback

from qsbrcontainers import DELETE, MISSING, ConcurrentDict, ConcurrentList, collect, stats

THREADS = 3
KEYS = 12  # of each thread
MOST = 400  # operations of one input
REPLAYS = 20


class Boom(Exception):
    """What hostile keys raise."""


class Token:
    """A value that says where it belongs; counts lives."""

    def __init__(self, world, place):
        self.place, self.world = place, world
        world.made.append(None)

    def __del__(self):
        self.world.gone.append(None)


class Finalizer(Token):
    """Comes back into the container as it goes."""

    def __del__(self):
        super().__del__()
        self.world.come_back(self.place)


class Key:
    """Collides with all others of its kind; `__eq__` does something else first, sometimes."""

    def __init__(self, world, number, meddle=0):
        self.world, self.number, self.meddle = world, number, meddle

    def __hash__(self):
        return 7

    def __eq__(self, other):
        if not isinstance(other, Key):
            return NotImplemented
        if self.meddle:
            self.world.meddle(self.meddle)
        return self.number == other.number


class Text(str):
    pass


class Unhashable:
    def __hash__(self):
        raise Boom


class Bytes:
    """What is left of the input; zeroes when it is used up."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def __bool__(self):
        return self.at < len(self.data)

    def one(self, below=256):
        if self.at >= len(self.data):
            return 0
        self.at += 1
        return self.data[self.at - 1] % below


def check(condition, *seen):
    """As assert, which is left out by -O."""
    if not condition:
        raise AssertionError(seen)


class World:
    """The containers of one input, and what must come of them."""

    def __init__(self):
        self.made, self.gone = [], []
        self.owned, self.counters, self.wild = ConcurrentDict(), ConcurrentDict(), ConcurrentDict()
        self.pool = ConcurrentDict()
        self.cells = ConcurrentList([("cell", i) for i in range(3 * THREADS)])
        self.sums = ConcurrentList([0] * 4)
        self.log, self.heap, self.wild_list = ConcurrentList(), ConcurrentList(), ConcurrentList()
        self.limit = 0
        self.keys = [self.new_keys(owner) for owner in range(THREADS)]

    def new_keys(self, owner):
        """Of all kinds; none equals another."""
        kinds = [
            lambda n: n,
            lambda n: f"key {n}",
            lambda n: ("tuple", n),
            lambda n: Key(self, n),
            lambda n: Text(f"text {n}"),
            lambda n: n + 0.5,
        ]
        return [kinds[i % len(kinds)](owner * KEYS + i) for i in range(KEYS)]

    def meddle(self, what):
        """In the middle of a comparison: something else with what is compared."""
        if what == 1:
            self.wild.pop("key 1", None)
        elif what == 2:
            self.wild["meddled"] = ("wild", "meddled")
        elif what == 3:
            self.wild.clear()
        elif what == 4:
            raise Boom
        elif what == 5:
            collect()
        elif what == 6:
            len(list(self.wild.items()))

    def come_back(self, place):
        if self.limit < 50:
            self.limit += 1
            self.wild["finalized", place] = ("wild", ("finalized", place))


class Player:
    """One thread's part: its operations, its model."""

    def __init__(self, world, me, bytes_):
        self.world, self.me, self.bytes = world, me, bytes_
        self.model = {}
        self.cells = {i: world.cells[i] for i in range(me, 3 * THREADS, THREADS)}
        self.added, self.sums = [0] * 4, [0] * 4
        self.logged, self.numbers = [], 0
        self.put, self.taken, self.pushed, self.pulled = [], [], [], []
        self.iterators = []

    def run(self):
        steps = [
            *[self.own] * 5,
            *[self.cell] * 2,
            self.count,
            *[self.append] * 2,
            *[self.use_pool] * 2,
            *[self.use_heap] * 2,
            *[self.be_wild] * 3,
            *[self.be_wild_with_a_list] * 2,
            *[self.look] * 3,
            *[self.look_at_lists] * 2,
            self.iterate,
        ]
        while self.bytes:
            steps[self.bytes.one(len(steps))]()

    def number(self):
        """Another one at each call, of all threads."""
        self.numbers += 1
        return self.numbers * THREADS + self.me

    # Keys of one's own

    def value(self, i):
        """One that belongs to this key: its index is in it."""
        kind, n = self.bytes.one(6), self.bytes.one()
        whole = n * 100 + self.me * KEYS + i
        if kind == 0:
            return whole
        if kind == 1:
            return float(whole)
        if kind == 2:
            return whole + 2**70 // 100 * 100
        if kind == 3:
            return Token(self.world, self.me * KEYS + i)
        if kind == 4:
            return Finalizer(self.world, self.me * KEYS + i)
        return [whole]

    def own(self):
        i = self.bytes.one(KEYS)
        key, d, model = self.world.keys[self.me][i], self.world.owned, self.model
        before = model.get(i, MISSING)
        what = self.bytes.one(20)
        if what <= 4:
            d[key] = model[i] = self.value(i)
        elif what == 5:
            new = self.value(i)
            d.update({key: new}) if self.bytes.one(2) else d.update([(key, new)])
            model[i] = new
        elif what == 6:
            same(d.pop(key, MISSING), before)
            model.pop(i, None)
        elif what == 7:
            try:
                del d[key]
                check(before is not MISSING)
            except KeyError:
                check(before is MISSING, key)
            model.pop(i, None)
        elif what == 8:
            new = self.value(i)
            same(d.setdefault(key, new), new if before is MISSING else before)
            model.setdefault(i, new)
        elif what == 9:
            new = self.value(i)
            check(d.add(key, new) is (before is MISSING))
            model.setdefault(i, new)
        elif what == 10:
            new = self.value(i)
            same(d.swap(key, new, MISSING), before)
            model[i] = new
        elif what == 11:
            new = self.value(i)
            check(d.compare_and_set(key, before, new) is True)
            model[i] = new
        elif what == 12:
            check(d.compare_and_set(key, object(), self.value(i)) is False)
        elif what == 13:
            check(d.compare_and_delete(key, before) is True)
            model.pop(i, None)
        elif what == 14:
            new, given = self.value(i), []
            same(d.compute(key, lambda old: given.append(old) or new), new)
            check(len(given) == 1)  # nobody else changes it
            same(given[0], before)
            model[i] = new
        elif what == 15:
            d.compute(key, lambda old: DELETE)
            model.pop(i, None)
        elif what == 16:
            check(d.discard(key) is (before is not MISSING))
            model.pop(i, None)
        elif what == 17:
            new = self.value(i)
            same(d.get_or_create(key, lambda: new), new if before is MISSING else before)
            model.setdefault(i, new)
        elif what == 18 and type(before) in (int, float):
            same(d.incr(key, 100), before + 100)
            model[i] = before + 100
        else:
            d |= {key: (new := [self.value(i)])}
            self.world.owned.get(key)
            model[i] = new
        self.compare(key, i)

    def compare(self, key, i):
        d, expected = self.world.owned, self.model.get(i, MISSING)
        same(d.get(key, MISSING), expected)
        check((key in d) is (expected is not MISSING), key)
        try:
            same(d[key], expected)
        except KeyError:
            check(expected is MISSING, key)

    # Elements of one's own

    def cell(self):
        cells = self.world.cells
        i = self.me + THREADS * self.bytes.one(3)
        before, what = self.cells[i], self.bytes.one(6)
        new = ("cell", i) if what == 5 else self.number() * 100 + i
        at = i if self.bytes.one(2) else i - len(cells)
        if what == 0:
            cells[at] = new
        elif what == 1:
            same(cells.swap(at, new), before)
        elif what == 2:
            check(cells.compare_and_set(at, before, new) is True)
        elif what == 3:
            same(cells.compute(at, lambda old: new), new)
        elif what == 4 and type(before) is int:
            new = before + 100
            same(cells.incr(at, 100), new)
        elif what == 5:
            cells[at : at + 1 or None] = [new]
        else:
            new = before
        self.cells[i] = new
        same(cells[at], new)

    # What all threads do, and what comes of it

    def count(self):
        which, delta, kind = self.bytes.one(4), self.bytes.one(), self.bytes.one(4)
        delta = delta << 45 if which == 3 else delta  # beyond 51 bits
        if kind == 0:
            self.world.counters.incr(which, delta)
        elif kind == 1:
            self.world.counters.compute(which, lambda old: old + delta, 0)
        else:
            self.world.sums.incr(which, delta)
            self.sums[which] += delta
            return
        self.added[which] += delta

    def append(self):
        log, what = self.world.log, self.bytes.one(4)
        new = [(self.me, self.number()) for _ in range(self.bytes.one(8) if what > 1 else 1)]
        if what == 0:
            log.append(new[0])
        elif what == 1:
            at = log.append_index(new[0])
            check(log[at] is new[0], at)
        elif what == 2:
            log.extend(new)
        else:
            log += iter(new)
        self.logged += new

    def use_pool(self):
        pool, what = self.world.pool, self.bytes.one(7)
        if what <= 2:
            key = f"{self.number()}" if what == 0 else self.number()
            check(pool.add(key, ("pool", key)) is True)
            self.put.append(key)
        elif what == 3:
            try:
                key, value = pool.popitem()
                check(value == ("pool", key))
                self.taken.append(key)
            except KeyError:
                pass
        else:
            for key in pool:  # any; others may be quicker
                if what == 4 and pool.pop(key, None) is not None:
                    self.taken.append(key)
                elif what == 5 and pool.discard(key):
                    self.taken.append(key)
                elif what == 6 and pool.compare_and_delete(key, ("pool", key)):
                    self.taken.append(key)
                break

    def use_heap(self):
        heap, what, i = self.world.heap, self.bytes.one(13), self.bytes.one(20) - 10
        new = self.number()
        try:
            if what <= 2:
                heap.append(new)
            elif what == 3:
                heap.insert(i, new)
            elif what == 4:
                heap[i:i] = [new]
            elif what == 5:
                self.pulled.append(heap.pop())
                return
            elif what == 6:
                self.pulled.append(heap.pop(i))
                return
            elif what == 7:
                self.pulled.append(heap.swap(i, new))
            elif what == 8:
                old = heap[i]
                if not heap.compare_and_set(i, old, new):
                    return
                self.pulled.append(old)
            elif what == 9:
                self.pulled += heap.drain()
                return
            elif what == 10:
                old = heap[i]
                heap.remove(old)  # each is there once
                self.pulled.append(old)
                return
            elif what == 11:
                heap.reverse()
                return
            else:
                heap.sort(reverse=i % 2 == 0)
                return
        except (IndexError, ValueError):
            return
        self.pushed.append(new)

    # Anything goes

    def wild_key(self):
        n = self.bytes.one(8)
        if (kind := self.bytes.one(8)) < 3:
            return f"key {n}"
        if kind == 3:
            return Key(self.world, n)
        if kind == 4:
            return Key(self.world, n, 1 + self.bytes.one(6))
        if kind == 5:
            return n
        if kind == 6:
            return float("nan")
        return Unhashable() if n == 0 else Text(f"key {n}")

    def be_wild(self):
        try:
            self.wild_step(self.world.wild, self.wild_key(), self.bytes.one(18))
        except (Boom, KeyError):
            pass

    def wild_step(self, d, key, what):
        name = key.number if isinstance(key, Key) else key
        new = Finalizer(self.world, "wild") if self.bytes.one(4) == 0 else ("wild", name)
        if what <= 3:
            d[key] = new
        elif what == 4:
            del d[key]
        elif what == 5:
            key, value = d.popitem()
        elif what == 6:
            d.clear()
        elif what == 7:
            d.update({key: new, "key 3": ("wild", "key 3")})
        elif what == 8:
            d.discard_if(lambda key, value: self.bytes.one(3) == 0)
        elif what == 9:
            d.update(d)
        elif what == 10:
            check(d.copy() is not d)
        elif what == 11:
            d.get_or_create(key, lambda: new)
        elif what == 12:
            d.compute(key, lambda old: DELETE if self.bytes.one(2) else new)
        elif what == 13:
            check((d == d.snapshot()) in (True, False))
        elif what == 14:
            d | {key: new}
        elif what == 15:
            d.compare_and_set(key, d.get(key), new)
        elif what == 16:
            self.iterators.append(iter(d.items()))
        else:
            for one in d.get_many([key, "key 1", "key 2"], MISSING):
                check(one is MISSING or isinstance(one, (tuple, Token)), one)

    def be_wild_with_a_list(self):
        values, what = self.world.wild_list, self.bytes.one(20)
        i, j = self.bytes.one(16) - 8, self.bytes.one(16) - 8
        new = ("wild", i) if j % 2 else Finalizer(self.world, "wild list")
        step = 1 + self.bytes.one(3)
        try:
            if what <= 2:
                values.append(new)
            elif what == 3:
                values[i] = new
            elif what == 4:
                del values[i]
            elif what == 5:
                values[i:j] = [new] * (self.bytes.one(5))
            elif what == 6:
                del values[i:j:step]
            elif what == 7:
                values.insert(i, new)
            elif what == 8:
                values.pop(i)
            elif what == 9:
                values.remove(("wild", i))
            elif what == 10:
                values.reverse()
            elif what == 11:
                values.sort(key=lambda value: id(value) % 17, reverse=j % 2 == 0)
            elif what == 12:
                values.clear()
            elif what == 13:
                values.drain()
            elif what == 14 and len(values) < 100:
                values *= i % 3
            elif what == 15 and len(values) < 100:
                values += values
            elif what == 16 and len(values) < 100:
                values.extend(values)
            elif what == 17:
                values[::step] = [new] * len(values[::step])
            elif what == 18:
                values.compute(i, lambda old: new)
            else:
                self.iterators.append(reversed(values) if j % 2 else iter(values))
        except (IndexError, ValueError):
            pass

    # Looking

    def look(self):
        """At what others change."""
        d, what = self.world.owned, self.bytes.one(8)
        owner, i = self.bytes.one(THREADS), self.bytes.one(KEYS)
        if what <= 2:
            belongs(owner * KEYS + i, d.get(self.world.keys[owner][i], MISSING))
        elif what == 3:
            check(0 <= len(d) <= THREADS * KEYS)
        elif what == 4:
            self.mine_are_there(d.snapshot())
        elif what == 5:
            self.mine_are_there(dict(d.items()))
        elif what == 6:
            self.mine_are_there(d.copy())
            check(len(repr(d)) >= 2)
        else:
            found = d.get_many(self.world.keys[owner], MISSING)
            for i, value in enumerate(found):
                belongs(owner * KEYS + i, value)

    def mine_are_there(self, found):
        """Nobody else changes them: in the order in which this thread put them in."""
        mine = {id(key): i for i, key in enumerate(self.world.keys[self.me])}
        entries = [(mine[id(key)], value) for key, value in found.items() if id(key) in mine]
        check([i for i, _ in entries] == list(self.model), entries, self.model)
        for i, value in entries:
            same(value, self.model[i])

    def look_at_lists(self):
        world, what = self.world, self.bytes.one(7)
        if what == 0:
            for i, value in enumerate(world.cells[:]):
                cell_belongs(i, value)
        elif what == 1:
            i = self.bytes.one(9)
            cell_belongs(i, world.cells[i])
        elif what == 2:
            cells = world.cells.snapshot()
            for i, value in self.cells.items():
                same(cells[i], value)
        elif what == 3:
            log = list(world.log)
            check([one for one in log if one[0] == self.me] == self.logged)
        elif what == 4:
            heap = world.heap.snapshot()
            check(len(set(heap)) == len(heap), heap)  # one moment
        elif what == 5:
            check(isinstance(world.wild_list == world.wild_list.snapshot(), bool))
            repr(world.wild_list)
        else:
            check(0 <= len(world.wild_list))
            world.wild_list.count(("wild", 1))
            check((("wild", 2) in world.wild_list) in (True, False))

    def iterate(self):
        """One step of each iterator of the wild ones: changes never raise here."""
        for each in self.iterators[-3:]:
            next(each, None)
        if len(self.iterators) > 6:
            del self.iterators[:3]
        if self.bytes.one(16) == 0:
            stats()
            collect()


def same(found, expected):
    """Numbers come back equal and of the same type, all else itself."""
    if type(expected) in (int, float):
        check(type(found) is type(expected) and found == expected, found, expected)
    else:
        check(found is expected, found, expected)


def belongs(place, value):
    """To the key of this index?"""
    while type(value) is list:
        (value,) = value
    if isinstance(value, Token):
        check(value.place == place, value.place, place)
    elif value is not MISSING:
        check(type(value) in (int, float) and int(value) % 100 == place, value, place)


def cell_belongs(i, value):
    check(value == ("cell", i) or value % 100 == i, i, value)


# One input


def test_one_input(data):
    """Raises what any of the threads raised, or AssertionError."""
    world = World()
    streams = [bytearray() for _ in range(THREADS)]
    for at in range(1, min(len(data), 16 * MOST), 16):
        # Sixteen bytes to each in turn: a change of one thread's leaves the others' as they are.
        streams[at // 16 % THREADS] += data[at : at + 16]
    players = [Player(world, me, Bytes(streams[me])) for me in range(THREADS)]
    errors = []
    start = threading.Barrier(THREADS)

    def work(player):
        try:
            start.wait()
            player.run()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(player,)) for player in players]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if errors:
        raise errors[0]
    compare_ends(world, players)
    lives(world, players)


def compare_ends(world, players):
    for player in players:
        player.mine_are_there(world.owned.snapshot())
        for i, key in enumerate(world.keys[player.me]):
            player.compare(key, i)
        for i, value in player.cells.items():
            same(world.cells[i], value)
        check([one for one in world.log if one[0] == player.me] == player.logged)
    check(len(world.owned) == sum(len(player.model) for player in players))
    check(len(world.log) == sum(len(player.logged) for player in players))
    for which in range(4):
        same(world.counters.get(which, 0), sum(player.added[which] for player in players))
        same(world.sums[which], sum(player.sums[which] for player in players))
    put = [key for player in players for key in player.put]
    taken = [key for player in players for key in player.taken]
    check(sorted(map(str, put)) == sorted(map(str, [*taken, *world.pool])), put, taken)
    pushed = [n for player in players for n in player.pushed]
    pulled = [n for player in players for n in player.pulled]
    check(sorted(pushed) == sorted([*pulled, *world.heap]), pushed, pulled)
    whole(world.wild)
    whole(world.pool)
    whole(world.owned)
    check(len(world.wild_list) == len(list(world.wild_list)) == len(world.wild_list[:]))


def whole(d):
    """Nobody changes it now, but for keys that meddle: they are told not to."""
    for key in d:
        if isinstance(key, Key):
            key.meddle = 0
    keys = list(d)
    check(len(keys) == len(d) == len(d.snapshot()) == len(list(d.items())))
    for key, value in d.items():
        check(d.get(key, MISSING) is value or d[key] == value, key)


def lives(world, players):
    """Every token is gone when the containers are empty."""
    world.limit = 1 << 30  # finalizers stay away
    for player in players:
        player.iterators.clear()
        player.model.clear()
    for container in world.owned, world.wild, world.wild_list, world.pool, world.log:
        container.clear()
    players.clear()
    for _ in range(5):
        collect()
        if len(world.made) == len(world.gone):
            return
        gc.collect()
    check(len(world.made) == len(world.gone), len(world.made), len(world.gone))


# What makes inputs


def fails(data):
    try:
        test_one_input(data)
    except BaseException:
        traceback.print_exc()
        return True
    return False


def replay(paths):
    for path in paths:
        with open(path, "rb") as file:
            data = file.read()
        for _ in range(REPLAYS):
            if fails(data):
                print(f"FAILS: {path}")
                return 1
    return 0


def at_random(count, seed, folder):
    print(f"seed {seed}")
    for i in range(count):
        rng = random.Random(f"{seed} {i}")
        data = rng.randbytes(rng.randrange(1, 16 * MOST // 4))
        if fails(data):
            path = os.path.join(folder, f"found-{seed}-{i}")
            with open(path, "wb") as file:
                file.write(data)
            print(f"FAILS: {path}")
            return 1
    return 0


def with_libfuzzer(library, arguments):
    """Never comes back: libFuzzer ends the process."""
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_uint8), ctypes.c_size_t)

    @callback
    def one_input(data, size):
        if fails(bytes(data[:size])):
            sys.stderr.flush()
            os.abort()  # libFuzzer keeps the input
        return 0

    arguments = [b"fuzz_api", *[argument.encode() for argument in arguments]]
    argv = (ctypes.c_char_p * (len(arguments) + 1))(*arguments)
    pointer = ctypes.c_void_p(ctypes.addressof(argv))
    run = ctypes.CDLL(library).LLVMFuzzerRunDriver
    return run(ctypes.byref(ctypes.c_int(len(arguments))), ctypes.byref(pointer), one_input)


def main(arguments):
    sys.setswitchinterval(1e-5)
    gc.freeze()
    if arguments[0] == "--libfuzzer":
        return with_libfuzzer(arguments[1], arguments[2:])
    if arguments[0] == "--random":
        return at_random(int(arguments[1]), int(arguments[2]), arguments[3])
    return replay(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
