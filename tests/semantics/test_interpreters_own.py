"""The interpreter's own tests of mappings and lists, run on ConcurrentDict, ConcurrentList and a
subclass of each.

Debian's interpreters come without the `test` package: then one loud line says so.
"""

import sys

import pytest

from qsbrcontainers import ConcurrentDict, ConcurrentList

try:
    from test import list_tests, mapping_tests
except ImportError:
    pytest.skip(
        "!!!! THIS INTERPRETER COMES WITHOUT ITS TESTS: test.mapping_tests AND test.list_tests "
        "DID NOT RUN !!!!",
        allow_module_level=True,
    )


class DictSubclass(ConcurrentDict):
    pass


class ListSubclass(ConcurrentList):
    pass


class TestMapping(mapping_tests.TestMappingProtocol):
    type2test = ConcurrentDict


class TestMappingMethods(mapping_tests.TestHashMappingProtocol):
    type2test = ConcurrentDict


class TestSubclassMapping(mapping_tests.TestMappingProtocol):
    type2test = DictSubclass


class TestSubclassMappingMethods(mapping_tests.TestHashMappingProtocol):
    type2test = DictSubclass


class TestList(list_tests.CommonTest):
    type2test = ConcurrentList

    # What only the builtin has, by name.
    if sys.version_info < (3, 13):
        # It asks that an iterator which has seen the end gives up its list. Ours keeps it until it
        # goes itself, since other threads may be in the middle of a step (as list's does where
        # there is no GIL; from 3.13 on the case asks for less, and runs).
        test_free_after_iterating = None


class TestSubclassList(TestList):
    type2test = ListSubclass
