"""Writes of a dict, counting, iterating; and what an operation of the package itself costs."""

from __future__ import annotations

import contenders as who
from cases_reads import ASSIGN, WITH_NULL
from loops import (
    LoopCase,
    Op,
    Place,
    every_key,
    interleaved,
    new_keys,
    one_hot_key,
    one_new_key,
    own_block,
    zipf_numbers,
)

DELETE = Op("del {c}[{k}]")
# `dict` alone and ft_utils lose counts; they are here for what the others' safety costs.
INCR = Op(
    "{c}[{k}] += 1",
    {
        "ours": "{c}.incr({k})",
        "cereggii": "{c}.reduce_sum((({k}, 1),))",
        "cereggii cells": "{c}[{k}].increment_and_get()",
        "ft_utils cells": "{c}[{k}].incr()",
    },
)
COUNT = Op(
    "{c}[{k}] = {c}.get({k}, 0) + 1",
    {"ours": "{c}.incr({k})", "cereggii": "{c}.reduce_sum((({k}, 1),))"},
)
CREATE = Op(
    "try:\n    {c}[{k}]\nexcept KeyError:\n    {c}[{k}] = make_slowly()",
    {"ours": "{c}.get_or_create({k}, make_slowly)"},
)
COUNTERS = (*who.DICTS, who.CEREGGII_CELLS, who.FT_UTILS_CELLS)

ITERATE = Op("for _ in {c}:\n    pass", {"cereggii": "for _ in {c}.fast_iter():\n    pass"})
ITEMS = Op("for _ in {c}.items():\n    pass", {"cereggii": "for _ in {c}.fast_iter():\n    pass"})
# dict's iterators raise when its size changes.
ITERATE_CHANGING = Op(
    "for _ in list({c}):\n    pass",
    {"ours": "for _ in {c}:\n    pass"} | {"cereggii": "for _ in {c}.fast_iter():\n    pass"},
)
COME_AND_GO = Op("{c}[{k}] = {v}\ndel {c}[{k}]")
GO_AND_COME = Op("del {c}[{k}]\n{c}[{k}] = {v}")
SHARED = tuple(name for name in who.DICTS if name != who.PRIVATE)


def nothing(size: int) -> range:
    return range(0)


def words(place: Place) -> list:
    return [place.key(n) for n in zipf_numbers(place, 50 * place.size)]


def iteration(name: str, title: str, op: Op, **more) -> LoopCase:
    """Each element is an operation."""
    return LoopCase(name=name, title=title, ops=op, step=1, counts_for=lambda size: size, **more)


CASES = [
    LoopCase(
        name="assign-block",
        title="d[k] = v in own blocks",
        ops=ASSIGN,
        draw=own_block,
        contenders=WITH_NULL,
    ),
    LoopCase(
        name="assign-interleaved", title="d[k] = v, interleaved", ops=ASSIGN, draw=interleaved
    ),
    LoopCase(name="assign-hot", title="d[k] = v, one hot key", ops=ASSIGN, draw=one_hot_key),
    LoopCase(
        name="assign-object",
        title="d[k] = object in own blocks",
        ops=ASSIGN,
        draw=own_block,
        values="object",
    ),
    LoopCase(
        name="insert-delete",
        title="insert and delete own keys",
        ops=ASSIGN,
        then=DELETE,
        draw=new_keys,
        counts_for=lambda size: 2,
        contenders=WITH_NULL,
    ),
    LoopCase(
        name="one-comes-and-goes",
        title="insert and delete one key, a different one in each thread, beside keys that stay",
        ops=COME_AND_GO,
        draw=one_new_key,
        counts_for=lambda size: 2,
        sizes=(10, 1000, 10_000, 1_000_000),
    ),
    LoopCase(
        name="oldest-to-the-end",
        title="delete the oldest own key and insert it again, as an LRU cache does",
        ops=GO_AND_COME,
        draw=own_block,
        counts_for=lambda size: 2,
        sizes=(10, 1000, 10_000, 1_000_000),
    ),
    LoopCase(
        name="incr",
        title="count up 1,000 keys (dict alone and ft_utils lose counts)",
        ops=INCR,
        contenders=COUNTERS,
    ),
    LoopCase(
        name="incr-hot",
        title="count up one key (dict alone and ft_utils lose counts)",
        ops=INCR,
        draw=one_hot_key,
        contenders=COUNTERS,
    ),
    LoopCase(
        name="word-count",
        title="count words that come by Zipf, from an empty dict (private: not merged)",
        ops=COUNT,
        draw=words,
        fill=nothing,
        once=True,
        step=100,
    ),
    LoopCase(
        name="stampede",
        title="all threads want the same new keys, 50 us each to make",
        ops=CREATE,
        draw=every_key,
        fill=nothing,
        once=True,
        threads=(1, 2, 8),
        contenders=SHARED,
    ),
    iteration("iterate-dict", "for k in d", ITERATE),
    iteration("iterate-items", "for k, v in d.items()", ITEMS),
    iteration(
        "iterate-assigned",
        "for k in d, while a thread assigns",
        ITERATE,
        beside=ASSIGN,
        contenders=SHARED,
    ),
    iteration(
        "iterate-changing",
        "for k in d, while a thread inserts and deletes (others: for k in list(d))",
        ITERATE_CHANGING,
        beside=COME_AND_GO,
        beside_draw=new_keys,
        contenders=SHARED,
    ),
    LoopCase(name="stats", title="stats()", ops=Op("stats()"), contenders=(who.OURS,)),
]
