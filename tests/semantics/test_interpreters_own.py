"""The interpreter's own tests of mappings, run on ConcurrentDict and a subclass of it.

Debian's interpreters come without the `test` package: then one loud line says so.
"""

import pytest

from qsbrcontainers import ConcurrentDict

try:
    from test import mapping_tests
except ImportError:
    pytest.skip(
        "!!!! THIS INTERPRETER COMES WITHOUT ITS TESTS: test.mapping_tests DID NOT RUN !!!!",
        allow_module_level=True,
    )


class Subclass(ConcurrentDict):
    pass


class TestMapping(mapping_tests.TestMappingProtocol):
    type2test = ConcurrentDict


class TestMappingMethods(mapping_tests.TestHashMappingProtocol):
    type2test = ConcurrentDict


class TestSubclassMapping(mapping_tests.TestMappingProtocol):
    type2test = Subclass


class TestSubclassMappingMethods(mapping_tests.TestHashMappingProtocol):
    type2test = Subclass
