"""All cases of the suite, by name."""

from __future__ import annotations

from dataclasses import replace

import cases_lists
import cases_mixes
import cases_reads
import cases_whole
import cases_writes
import contenders

_DEFAULT = {"dict": contenders.DICTS, "list": contenders.LISTS}
GROUPS = {
    "reads": cases_reads.CASES,
    "writes": cases_writes.CASES,
    "mixes": cases_mixes.CASES,
    "lists": cases_lists.CASES,
    "whole": cases_whole.CASES,
}
CASES = {
    case.name: replace(case, group=group, contenders=case.contenders or _DEFAULT[case.kind])
    for group, cases in GROUPS.items()
    for case in cases
}


def measure(cell: dict) -> dict:
    """What a child process does: one cell, by the name of its case."""
    return CASES[cell["case"]].measure(cell)
