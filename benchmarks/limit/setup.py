"""The extension that does nothing, which `make bench` builds: see limit.c."""

from setuptools import Extension, setup

setup(
    name="qc_limit",
    version="1",
    py_modules=[],
    ext_modules=[Extension("qc_limit", ["limit.c"], extra_compile_args=["-O2"])],
)
