"""The loop that is measured: a case's operations written out for one contender, run by threads.

Ten operations (or a hundred, for mixes) stand in each step of a loop that is generated for the
case, so that the loop costs little beside them and the same for everyone:

    def run(c, steps, passes, v):
        for _ in range(passes):
            for k0, k1, k2, k3, k4, k5, k6, k7, k8, k9 in steps:
                c[k0]
                ...

What an operation looks like is the case's (`Op`), with other spellings where a contender needs
one; what `c` is to a thread and what stands around an operation is the contender's. Keys are made,
and drawn, before the measurement.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import accumulate, cycle, islice

import contenders
from contenders import Contender
from noise import Watch

from qsbrcontainers import share, stats
from qsbrcontainers._demo_measure import gil_enabled, together

TURNS = 50  # about so many a measurement; between them each thread looks at the clock


def make_slowly() -> int:
    """What a cache would keep: some 50 microseconds of work."""
    return sum(range(5000))


def changed(value: str) -> str:
    return value.swapcase()


def reduced(key: object, current: object, new: str) -> str:
    """The same in cereggii's way; `current` is no str where it has not looked yet."""
    return changed(current) if isinstance(current, str) else new


# What operations use besides.
HELPERS = {
    "islice": islice,
    "make_slowly": make_slowly,
    "changed": changed,
    "reduced": reduced,
    "stats": stats,
}


@dataclass(frozen=True)
class Op:
    """An operation on the container {c} with the key (or index) {k} and the thread's value {v}.

    With {s} in it, it is one on all the keys of a step together. `instead` has other contenders'
    spellings; None for one that cannot do it.
    """

    code: str
    instead: Mapping[str, str | None] = field(default_factory=dict, hash=False)
    name: str = ""  # tells it from others with the same code

    def spelled_for(self, contender: Contender) -> str | None:
        return self.instead.get(contender.spelling, self.code)


KEYS: dict[str, Callable[[int], object]] = {
    "str": lambda n: f"session:{n}",  # made at run time: not interned
    "interned": lambda n: sys.intern(f"session_{n}"),
    "int": lambda n: 1_000_000 + n,
    "tuple": lambda n: (f"session:{n}", n),
    "index": lambda n: n,
}
VALUES: dict[str, Callable[[int], object]] = {
    "int": lambda n: 1_000_000 + n,
    "float": lambda n: n + 0.5,
    "none": lambda n: None,
    "object": lambda n: object(),
    "text": lambda n: f"value number {n} " * 5,
}


@dataclass
class Place:
    """Where the keys of one thread come from."""

    case: LoopCase
    size: int
    thread: int
    threads: int
    stored: Sequence[object]  # the very objects that are keys in the container

    def key(self, number: int) -> object:
        """An object of this thread's own, equal to the container's key of that number."""
        return KEYS[self.case.keys](number)

    def numbers_of_block(self) -> range:
        """This thread's part of the keys, all parts being of one size."""
        part = max(1, self.size // self.threads)
        first = min(self.thread * part, self.size - part)
        return range(first, first + part)

    @property
    def random(self) -> random.Random:
        return random.Random(1000 + self.thread)


def every_key(place: Place) -> list:
    return [place.key(n) for n in range(place.size)]


def shared_objects(place: Place) -> list:
    return list(place.stored)


def missing_keys(place: Place) -> list:
    return [place.key(n) for n in range(place.size, 2 * place.size)]


def own_block(place: Place) -> list:
    return [place.key(n) for n in place.numbers_of_block()]


def new_keys(place: Place) -> list:
    """Keys that are not in the container, and no other thread's."""
    return [place.key(place.size * (1 + place.thread) + n) for n in range(place.size)]


def one_new_key(place: Place) -> list:
    """One key that is not in the container and that no other thread uses."""
    return [place.key(place.size + place.thread)] * 1000


def interleaved(place: Place) -> list:
    return [place.key(n) for n in range(place.thread, place.size, place.threads)]


def one_hot_key(place: Place) -> list:
    return [place.key(place.size // 2)] * 1000


def at_random(place: Place) -> list:
    """For large containers not as many keys as it has: so many that no cache helps."""
    rng = place.random
    wanted = min(max(place.size, 1000), 200_000)
    return [place.key(rng.randrange(place.size)) for _ in range(wanted)]


def zipf_numbers(place: Place, wanted: int, scattered: bool = True) -> list[int]:
    """Numbers below the size, the n-th most frequent one as often as 1 / n ** 0.99 says.

    Scattered, the frequent ones are not neighbours; otherwise they are the lowest.
    """
    weights = list(accumulate(1 / n**0.99 for n in range(1, place.size + 1)))
    ranks = place.random.choices(range(place.size), cum_weights=weights, k=wanted)
    return [rank * 7919 % place.size for rank in ranks] if scattered else ranks


@dataclass(frozen=True, kw_only=True)
class LoopCase:
    """Operations on one container; see cases.py for how little it takes to declare one."""

    name: str
    title: str
    ops: Op | Mapping[Op, int]  # one; or several with their shares, in per cent
    kind: str = "dict"
    keys: str = "str"
    values: str = "int"
    draw: Callable[[Place], list] = every_key
    fill: Callable[[int], Iterable[int]] = range  # numbers of the keys that are there before
    held: str = "steps"  # or "locals", "literals": where the loop finds the keys
    reached: str = "argument"  # or "global", "class", "instance", "shared"
    step: int = 10  # operations, and keys, a step
    counts_for: Callable[[int], int] = lambda size: 1  # operations, each of them
    once: bool = False  # one pass a container, which is then made anew
    then: Op | None = None  # done with all keys of a step when `ops` was done with them
    beside: Op | None = None  # what one more thread does all the time
    beside_draw: Callable[[Place], list] = every_key  # and with which keys
    trial: str = ""  # an expression of c that raises where a container cannot do this yet
    sizes: tuple[int, ...] = (1000,)
    threads: tuple[int, ...] = (1, 2)
    contenders: tuple[str, ...] = ()
    group: str = ""
    unit: str = "operations/s"
    lower_is_better: bool = False
    rounds_at_most: int = 1000

    def operations(self) -> list[Op]:
        """Those of a step in their order, which is arbitrary for a mix, but always the same."""
        if isinstance(self.ops, Op):
            return [self.ops] * self.step
        found = [op for op, share in self.ops.items() for _ in range(share * self.step // 100)]
        random.Random(7).shuffle(found)
        return found

    def can(self, contender: Contender) -> bool:
        ops = {*self.operations(), self.then, self.beside} - {None}
        return all(op.spelled_for(contender) is not None for op in ops)

    def measure(self, cell: dict) -> dict:
        contender = contenders.BY_NAME[cell["contender"]]
        if self.trial:
            try:
                eval(self.trial, {"c": contenders.imported(contender.made_by)()})
            except (AttributeError, TypeError, NotImplementedError) as error:
                return {"cannot": f"{self.trial}: {error}"}
        return Measurement(self, contender, cell).result()


REACHED = {
    "argument": "c",
    "global": "C",
    "class": "Holder.cache",
    "instance": "app.cache",
    "shared": "app.cache",
}


def source(case: LoopCase, contender: Contender, literals: Sequence[object] = ()) -> str:
    """The code of the loop, for the interpreter and for whoever wants to see it."""
    names = [f"k{i}" for i in range(case.step)]
    # A thread's own handle, wrapper or dict is in nobody's reach but its own.
    own = contender.private or contender.seen_by_thread != "c"
    container = REACHED["argument" if own else case.reached]
    spelled = [op.spelled_for(contender) for op in case.operations()]
    whole_step = "{s}" in spelled[0]
    keyless = not any("{k}" in code or whole_step for code in spelled)
    if case.held == "literals":
        names = [repr(key) for key in literals]
    body = []
    pairs = [(spelled[0], "")] if whole_step else list(zip(spelled, names, strict=True))
    if case.then:
        pairs += [(case.then.spelled_for(contender), name) for name in names]
    for code, name in pairs:
        filled = code.format(c=container, k=name, s="s", v="v").splitlines()
        body += [contender.around] if contender.around else []
        body += [f"    {line}" if contender.around else line for line in filled]
    head = ["def run(c, steps, passes, v):"]
    if case.held == "locals":
        head.append(f"    {', '.join(names)}, = steps[0]")
    head.append("    for _ in range(passes):")
    deep = "        "
    if case.held == "steps" and not keyless:
        head.append(f"        for {'s' if whole_step else ', '.join(names) + ','} in steps:")
        deep += "    "
    return "\n".join(head + [deep + line for line in body]) + "\n"


class Measurement:
    """One cell: a case, a contender, so many threads and keys, in this process."""

    def __init__(self, case: LoopCase, contender: Contender, cell: dict):
        self.case, self.contender = case, contender
        self.threads, self.size = cell["threads"], cell["size"]
        self.seconds = cell["seconds"]
        self.make = contenders.imported(contender.made_by)
        self.helper = contenders.imported(contender.helper) if contender.helper else None
        self.value = VALUES[case.values]
        if contender.number:
            number = contenders.imported(contender.number)
            self.value = lambda n: number(n)

    def filled(self) -> tuple[object, list]:
        """A container as it is at the beginning, and the keys in it."""
        case, container = self.case, self.make()
        numbers = list(case.fill(self.size))
        stored = [KEYS[case.keys](n) for n in numbers]
        if case.kind == "list":
            container.extend([self.value(n) for n in numbers])
        else:
            for n, k in zip(numbers, stored, strict=True):
                container[k] = self.value(n)
        return container, stored

    def names(self, container) -> dict:
        """The globals of the loop."""

        class Holder:
            cache = container

        # Not of a class that has the attribute, too: the interpreter does not specialize that.
        class App:
            pass

        app = App()
        app.cache = container
        if self.case.reached == "shared":
            share(app)
        helper = self.helper() if self.contender.around else self.helper
        return {"C": container, "Holder": Holder, "app": app, "helper": helper, **HELPERS}

    def steps(self, place: Place) -> list[tuple]:
        keys, step = place.case.draw(place), place.case.step
        if not keys:
            raise ValueError(f"There are no keys for {self.case.name} with {self.size}.")
        while len(keys) < step:  # tiny sizes, in tests
            keys = keys + keys
        return [tuple(keys[i : i + step]) for i in range(0, len(keys) - step + 1, step)]

    def run(
        self, passes: int, watch: Watch | None = None, at_least: float = 0
    ) -> tuple[float, int]:
        """Seconds that the threads took, and the operations of all of them.

        Each thread begins so many passes again until *at_least* seconds are over: so all of them
        are busy to the end, however differently fast they are.
        """
        case, container, stored = self.case, self.container, self.stored
        if case.once:
            container, stored = self.filled()
        scope = self.names(container)
        code = source(case, self.contender, list(islice(cycle(stored), case.step)))
        exec(code, scope)
        threads, done = list(range(self.threads)), []
        turn = scope["run"]

        def prepare():
            place = Place(case, self.size, threads.pop(), self.threads, stored)
            steps = self.steps(place)
            own = self.filled()[0] if self.contender.private else container
            c = eval(self.contender.seen_by_thread, scope, {"c": own})
            return c, steps, passes, VALUES[case.values](self.size + place.thread)

        def work(given):
            steps, turns = given[1], 0
            over = time.perf_counter() + at_least
            while True:
                turn(*given)
                turns += 1
                if time.perf_counter() >= over:
                    break
            done.append(turns * (len(steps) if " in steps:" in code else 1))

        with self.writer(container, stored), watch or nullcontext():
            seconds = together(self.threads, prepare, work)
        return seconds, sum(done) * passes * case.step * case.counts_for(self.size)

    @contextmanager
    def writer(self, container, stored) -> Iterator[None]:
        """One more thread that does what the case has beside it, meanwhile."""
        case = self.case
        if case.beside is None:
            yield
            return
        beside = replace(
            case, ops=case.beside, then=None, held="steps", draw=case.beside_draw, step=10
        )
        scope, over = self.names(container), threading.Event()
        exec(source(beside, self.contender), scope)
        place = Place(beside, self.size, self.threads, self.threads + 1, stored)

        went_wrong: list[BaseException] = []

        def write():
            try:
                c = eval(self.contender.seen_by_thread, scope, {"c": container})
                steps = self.steps(place)
                while not over.is_set():
                    scope["run"](c, steps, 1, VALUES[case.values](self.size))
            except BaseException as error:
                went_wrong.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        if went_wrong:
            raise went_wrong[0]

    def result(self) -> dict:
        """After a warm-up, as long as the cell says."""
        self.container, self.stored = self.filled()
        watch = Watch(self.threads + (self.case.beside is not None))
        if self.case.once:
            self.run(1)
            seconds, operations = 0.0, 0
            with watch:
                while seconds < self.seconds or not operations:
                    more = self.run(1)
                    seconds, operations = seconds + more[0], operations + more[1]
        else:
            passes = 1
            while (seconds := self.run(passes)[0]) < self.seconds / 4:
                passes *= 2
            passes = max(1, round(passes * self.seconds / TURNS / seconds))
            seconds, operations = self.run(passes, watch, self.seconds)
        return {
            "figure": operations / seconds,
            "seconds": seconds,
            "gil": gil_enabled(),
            "seen": watch.seen,
        }
