"""Values that are numbers: equal ones come back, of the same type; every other value comes back
as itself. Run on dict and list and on ours alike."""

import math
import struct

import pytest
from support import OUR_DICTS, OUR_LISTS, Number, settle

from qsbrcontainers import stats

EDGES = [0, 2**31, 2**32, 2**50, 2**51, 2**52, 2**53, 2**61, 2**62, 2**63, 2**64, 2**1000]
INTS = sorted({sign * edge + i for edge in EDGES for sign in (1, -1) for i in range(-3, 4)})
FLOATS = [
    *(0.0, -0.0, 1.0, -1.0, 0.1, 1e-5, math.pi, 1e308, -1e308, 2.0**53, 2.0**63),
    *(math.inf, -math.inf, 5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308),
]


def slots(constructor):
    """A container, and what stores and loads one value in it."""
    container = constructor()
    if hasattr(container, "append"):
        container.append(None)
        return container, 0
    return container, "key"


@pytest.fixture(params=["dict", "list"])
def slot(request, make_dict, make_list):
    return slots(make_dict if request.param == "dict" else make_list)


@pytest.fixture(params=[*OUR_DICTS.values(), *OUR_LISTS.values()])
def our_slot(request):
    return slots(request.param)


def bits(number):
    return struct.pack("d", number)


def test_ints(slot):
    container, key = slot
    for value in INTS:
        container[key] = value
        back = container[key]
        assert back == value and type(back) is int
        assert repr(back) == repr(value) and hash(back) == hash(value)


def test_floats(slot):
    container, key = slot
    for value in FLOATS:
        container[key] = value
        back = container[key]
        assert type(back) is float and bits(back) == bits(value)


def test_floats_of_all_bit_patterns(slot):
    """Every exponent with both signs: no float may be taken for a pointer or an int."""
    container, key = slot
    for high in range(0, 1 << 16, 7):
        value = struct.unpack("d", struct.pack("Q", (high << 48) | 0x123456789ABC))[0]
        container[key] = value
        back = container[key]
        assert type(back) is float and (bits(back) == bits(value) or back is value)


def test_nans_stay_themselves(slot):
    container, key = slot
    patterns = [0x7FF8 << 48, 0xFFF8 << 48, (0x7FF8 << 48) | 1, (0xFFFF << 48) | 0xFFFFFFFFFFFF]
    for pattern in patterns:
        nan = struct.unpack("d", struct.pack("Q", pattern))[0]
        container[key] = nan
        assert container[key] is nan and container[key] != container[key]


def test_bools_and_none_stay_themselves(slot):
    container, key = slot
    for value in (True, False, None, Ellipsis, NotImplemented):
        container[key] = value
        assert container[key] is value


def test_subclasses_stay_themselves(slot):
    class Ratio(float):
        pass

    container, key = slot
    for value in (Number(5), Number(2**70), Ratio(0.5), Ratio(math.nan)):
        container[key] = value
        assert container[key] is value


def test_other_values_stay_themselves(slot):
    container, key = slot
    for value in ("", "text", b"", (), [], {}, object(), int, len, 1j, type(container)()):
        container[key] = value
        assert container[key] is value


def test_one_kind_of_number_after_another(slot):
    container, key = slot
    kinds = [1, 2.5, "text", 2**70, True, -1, None, -0.0, 2**50, -(2**50) - 1]
    for first in kinds:
        for second in kinds:
            container[key] = first
            container[key] = second
            assert repr(container[key]) == repr(second)


def test_numbers_says_how_they_are_kept(our_slot):
    container, key = our_slot
    assert stats()["numbers"] in ("value", "object")
    value = int("123456789012")
    container[key] = value
    assert (container[key] is value) == (stats()["numbers"] == "object")


def test_many_numbers_in_a_list(make_list):
    container = make_list(INTS)
    container.extend(FLOATS)
    assert list(container) == INTS + FLOATS
    assert [type(v) for v in container] == [int] * len(INTS) + [float] * len(FLOATS)
    assert all(
        bits(a) == bits(b) for a, b in zip(FLOATS, list(container)[len(INTS) :], strict=True)
    )
    assert container == make_list(INTS + FLOATS)


def test_many_numbers_in_a_dict(make_dict):
    content = {repr(v): v for v in INTS + FLOATS}
    container = make_dict(content)
    for _ in range(3):
        assert list(container.items()) == list(content.items())
        container.update({str(i): i for i in range(1000)})
        for i in range(1000):
            del container[str(i)]
        content = {k: v for k, v in content.items() if not k.isdigit() or int(k) >= 1000}
        assert [repr(v) for v in container.values()] == [repr(v) for v in content.values()]
    container.clear()
    settle()
