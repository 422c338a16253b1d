/* In builds that count (QSBRCONTAINERS_COVERAGE=1): for processes that end by _exit(), which asks
 * nobody.  tests/covered_exits.py calls it. */
extern void __gcov_dump(void);
__attribute__((visibility("default"))) void qc_coverage_dump(void);

void
qc_coverage_dump(void)
{
    __gcov_dump();
}
