"""What is done to lists."""

from __future__ import annotations

import random

import contenders as who
from cases_reads import WAYS
from loops import LoopCase, Op, every_key, own_block

READ, ASSIGN = Op("{c}[{k}]"), Op("{c}[{k}] = {v}")
INCR = Op("{c}[{k}] += 1", {"ours": "{c}.incr({k})"})
APPEND, POP = Op("{c}.append({v})"), Op("{c}.pop()")
ITERATE = Op("for _ in {c}:\n    pass")
WITH_NULL = (*who.LISTS, who.NULL_LIST)
SHARED = tuple(name for name in who.LISTS if name != who.PRIVATE_LIST)


def shuffled(size: int) -> list[int]:
    numbers = list(range(size))
    random.Random(3).shuffle(numbers)
    return numbers


def nothing(size: int) -> range:
    return range(0)


def case(name: str, title: str, ops: Op, **more) -> LoopCase:
    return LoopCase(name=name, title=title, ops=ops, kind="list", keys="index", **more)


CASES = [
    *(
        case(
            f"list-read{name}",
            f"L[i], L {title}, ints",
            READ,
            reached=reached,
            contenders=WITH_NULL,
        )
        for name, title, reached in WAYS
    ),
    case("list-read-object", "l[i], objects", READ, values="object"),
    case("list-assign", "l[i] = v in own blocks", ASSIGN, draw=own_block, contenders=WITH_NULL),
    case("list-incr", "l[i] += 1, counted (list alone loses counts)", INCR),
    case(
        "list-iterate",
        "for x in l",
        ITERATE,
        step=1,
        counts_for=lambda size: size,
        contenders=WITH_NULL,
    ),
    case(
        "list-iterate-changing",
        "for x in l, while a thread appends and pops",
        ITERATE,
        step=1,
        counts_for=lambda size: size,
        beside=Op("{c}.append({v})\n{c}.pop()"),
        contenders=SHARED,
    ),
    case(
        "list-append-pop",
        "append and pop",
        APPEND,
        then=POP,
        counts_for=lambda size: 2,
        contenders=WITH_NULL,
    ),
    case(
        "list-append",
        "append, from an empty list",
        Op("{c}.append({k})"),
        fill=nothing,
        draw=every_key,
        once=True,
        sizes=(100_000,),
    ),
    case(
        "list-extend",
        "extend by 100, per element",
        Op("{c}.extend({s})"),
        fill=nothing,
        step=100,
        once=True,
        sizes=(100_000,),
    ),
    case(
        "list-insert",
        "insert(0, v) and pop(0)",
        Op("{c}.insert(0, {v})\n{c}.pop(0)"),
        counts_for=lambda size: 2,
        trial="c.insert(0, 1) or c.pop(0)",
    ),
    case("list-slice", "l[100:200]", Op("{c}[100:200]"), trial="c[0:0]"),
    case(
        "list-sort",
        "sort() of shuffled ints, per element",
        Op("{c}.sort()"),
        fill=shuffled,
        once=True,
        step=1,
        counts_for=lambda size: size,
        threads=(1,),
        sizes=(10_000,),
        trial="c.sort()",
    ),
]
