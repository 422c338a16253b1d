"""Reads of a dict: what the keys and values are, how the container is reached."""

from __future__ import annotations

from contenders import CEREGGII, DICT, DICTS, FT_UTILS, LOCKED, NULL, OURS
from loops import LoopCase, Op, at_random, missing_keys, one_hot_key, shared_objects

READ = Op("{c}[{k}]")
GET = Op("{c}.get({k})")
IN = Op("{k} in {c}", {"cereggii": None})
GET_MANY = Op(
    "{c}.get_many({s})",
    {
        "builtin": "list(map({c}.get, {s}))",
        "cereggii": "list(map({c}.get, {s}))",
        "ft_utils": "list(map({c}.get, {s}))",
    },
)
ASSIGN = Op("{c}[{k}] = {v}")

WITH_NULL = (*DICTS, NULL)
# Where the way to the container is the question, there is nothing of a thread's own.
REACHED_BY = (OURS, DICT, LOCKED, CEREGGII, FT_UTILS)
# What several threads know is a global or an attribute in most code; the interpreter reads an
# argument without counting a reference, which spares a dict much (3.14 and newer).
WAYS = (("", "a global", "global"), ("-arg", "an argument", "argument"))

CASES = [
    LoopCase(
        name="read-str-int", title="d[k], str keys, int values", ops=READ, contenders=WITH_NULL
    ),
    *(
        LoopCase(
            name=f"read-interned-int{name}",
            title=f"D['literal'], D {title}, int values",
            ops=READ,
            keys="interned",
            held="literals",
            reached=reached,
            step=100,
            contenders=WITH_NULL,
        )
        for name, title, reached in WAYS
    ),
    LoopCase(
        name="read-int-int",
        title="d[k], int keys, int values",
        ops=READ,
        keys="int",
        contenders=WITH_NULL,
    ),
    LoopCase(name="read-tuple-int", title="d[k], tuple keys, int values", ops=READ, keys="tuple"),
    LoopCase(name="read-str-float", title="d[k], float values", ops=READ, values="float"),
    LoopCase(name="read-str-none", title="d[k], None for values", ops=READ, values="none"),
    LoopCase(name="read-str-object", title="d[k], values object()", ops=READ, values="object"),
    *(
        LoopCase(
            name=f"read-shared-int{name}",
            title=f"D[k], the same key objects for all, D {title}, int values",
            ops=READ,
            draw=shared_objects,
            held="locals",
            reached=reached,
            step=100,
            contenders=WITH_NULL,
        )
        for name, title, reached in WAYS
    ),
    LoopCase(
        name="read-handed-int",
        title="d[k], the same key objects, from a tuple that all threads go through",
        ops=READ,
        draw=shared_objects,
    ),
    LoopCase(name="read-hot-int", title="d[k], one hot key, int value", ops=READ, draw=one_hot_key),
    LoopCase(
        name="read-hot-object",
        title="d[k], one hot key, value object()",
        ops=READ,
        draw=one_hot_key,
        values="object",
    ),
    LoopCase(
        name="read-million",
        title="d[k], 10^6 str keys at random",
        ops=READ,
        draw=at_random,
        sizes=(1_000_000,),
    ),
    LoopCase(name="get-str-int", title="d.get(k)", ops=GET, contenders=WITH_NULL),
    LoopCase(name="get-missing", title="d.get(k), k is not there", ops=GET, draw=missing_keys),
    LoopCase(name="in-str", title="k in d", ops=IN, contenders=WITH_NULL),
    LoopCase(name="in-missing", title="k in d, k is not there", ops=IN, draw=missing_keys),
    LoopCase(name="get-many", title="d.get_many(100 keys), per key", ops=GET_MANY, step=100),
    *(
        LoopCase(
            name=f"reached-{reached}",
            title=title,
            ops=READ,
            reached=reached,
            contenders=REACHED_BY,
        )
        for reached, title in (
            ("global", "CACHE[k], a global"),
            ("class", "Settings.cache[k], a class attribute"),
            ("instance", "app.cache[k], app a plain global instance"),
            ("shared", "app.cache[k], app shared by share()"),
        )
    ),
    *(
        LoopCase(
            name=f"mix-{reads}-{100 - reads}",
            title=f"{reads} % d[k], {100 - reads} % d[k] = v",
            ops={READ: reads, ASSIGN: 100 - reads},
            draw=at_random,
            step=100,
            sizes=(100, 1000, 1_000_000),
        )
        for reads in (100, 99, 95, 90, 75)
    ),
]
