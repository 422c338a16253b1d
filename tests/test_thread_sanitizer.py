"""What tests/thread_sanitizer.py takes for a report about us, and which suppressions it refuses."""

from pathlib import Path

import pytest
import thread_sanitizer

REPORT = """\
==================
WARNING: ThreadSanitizer: data race (pid=7)
  Write of size 8 at 0x7b0800001000 by thread T1:
    #0 {first} <null> ({module}+0x12a0)
    #1 cfunction_call Objects/methodobject.c:564:18 (python3.15+0x1f6b3e)

  Previous read of size 8 at 0x7b0800001000 by main thread:
    #0 PyObject_Repr Objects/object.c:779:11 (python3.15+0x1f6b3e)

SUMMARY: ThreadSanitizer: data race
==================
"""
OURS = REPORT.format(first="dict_get", module="_native.cpython-315t-x86_64-linux-gnu.so")
OTHERS = REPORT.format(first="_native_looks_alike", module="python3.15")


def test_reports_about_us_are_told_from_others():
    ours, others = thread_sanitizer.sort(["noise\n" + OURS + OTHERS, "", OURS])
    assert ours == [OURS.rstrip("\n")] * 2 and others == 1


@pytest.mark.parametrize(
    "line", ["race:dict_get", "race_top:ct_g*", "race:^src/py", "race:_native", "race:*"]
)
def test_suppressions_that_would_hide_us_are_refused(line, tmp_path, monkeypatch):
    listed = tmp_path / "list.txt"
    listed.write_text(f"# of the interpreter\nthread:pthread_create\n{line}\n")
    monkeypatch.setenv("QC_TSAN_SUPPRESSIONS", str(listed))
    with pytest.raises(thread_sanitizer.Wrong, match="would hide"):
        thread_sanitizer.suppressions(None)


def test_suppressions_of_the_interpreters_own_are_taken(tmp_path, monkeypatch):
    listed = tmp_path / "list.txt"
    listed.write_text("# race:dict_get\nrace:PyObject_Realloc\n\nrace_top:^dict_get$x\n")
    monkeypatch.setenv("QC_TSAN_SUPPRESSIONS", str(listed))
    assert thread_sanitizer.suppressions(None) == listed


def test_the_callers_options_are_kept_beside_ours(monkeypatch):
    monkeypatch.setenv("TSAN_OPTIONS", "history_size=7")
    given = thread_sanitizer.options(Path("/r"), Path("/s.txt"))
    assert given == "suppressions=/s.txt:history_size=7:exitcode=0:log_path=/r/report"
