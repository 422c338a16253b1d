"""str keys are told apart by what is in them, whatever their length and kind. Whoever looks for two
that differ and have one hash would look for ever: here the hash that a str keeps is overwritten."""

import ctypes

import pytest
from support import touch

HASH_AT = object.__basicsize__ + ctypes.sizeof(ctypes.c_ssize_t)  # behind the length
KINDS = {"ascii": "a", "latin": "\xe9", "two bytes": "\u20ac", "four bytes": "\U0001f600"}
LENGTHS = [*range(2, 26), 64, 100]


def with_hash(text, wanted):
    """A new str that equals `text` and has that hash."""
    new = "".join([text[:1], text[1:]])
    kept = ctypes.c_ssize_t.from_address(id(new) + HASH_AT)
    assert hash(new) == kept.value, "this interpreter keeps it elsewhere"
    kept.value = wanted
    return new


def similar(text, other):
    """What differs from `text` in one place: each of the first and last, and the middle."""
    n = len(text)
    places = {*range(min(n, 9)), *range(max(0, n - 9), n), n // 2}
    return [text[:i] + other + text[i + 1 :] for i in sorted(places)]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_equal_hashes_of_keys_that_differ_in_one_place(make_dict, kind, shared):
    for length in LENGTHS:
        text = KINDS[kind] * length
        same_kind = similar(text, chr(ord(KINDS[kind]) + 1))
        other_kinds = similar(text, "b") + [c * length for c in KINDS.values() if c not in text]
        others = {*same_kind, *other_kinds, text + text[0], text[:-1] + "bb"}
        d = make_dict({text: 0})
        if shared:
            touch(d)
        assert d[with_hash(text, hash(text))] == 0  # equal, but another object
        for wrong in others:
            key = with_hash(wrong, hash(text))
            assert key not in d and d.get(key) is None and d.pop(key, 5) == 5
            with pytest.raises(KeyError):
                d[key]
            with pytest.raises(KeyError):
                del d[key]
        for i, wrong in enumerate(others):
            d[with_hash(wrong, hash(text))] = i
        assert len(d) == 1 + len(others) and d[text] == 0
        for i, wrong in enumerate(others):
            key = with_hash(wrong, hash(text))
            assert d[key] == d.get(key) == i
            d[key] = -i
            assert d.setdefault(key, 5) == -i
        for wrong in others:
            assert d.pop(with_hash(wrong, hash(text))) <= 0
        assert dict(d.items()) == {text: 0}


def test_many_of_equal_hashes_at_once(make_our_dict):
    text = "k" * 20
    d = make_our_dict({text: 0})
    wrong = [with_hash(other, hash(text)) for other in similar(text, "l")]
    assert d.get_many([text, *wrong], -1) == [0] + [-1] * len(wrong)
    d.update((key, i) for i, key in enumerate(wrong))
    again = [with_hash(key, hash(text)) for key in wrong]
    assert d.get_many([*again, "none"], -1) == [*range(len(wrong)), -1]
    assert [d.incr(key) for key in again] == [i + 1 for i in range(len(wrong))]
