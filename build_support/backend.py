"""setuptools' build backend, plus mimalloc as a build requirement where it is wanted.

A static list in pyproject.toml could not leave it out for QSBRCONTAINERS_MIMALLOC=system
or for a libc that the wheels do not cover.
"""

import mimalloc_link
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  the hooks that stay as they are


def _requirements():
    try:
        return mimalloc_link.requirements()
    except mimalloc_link.MimallocError as error:
        raise SystemExit(f"error: {error}") from None


def get_requires_for_build_wheel(config_settings=None):
    return build_meta.get_requires_for_build_wheel(config_settings) + _requirements()


def get_requires_for_build_editable(config_settings=None):
    return build_meta.get_requires_for_build_editable(config_settings) + _requirements()
