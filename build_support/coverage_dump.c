/* In builds that count (QSBRCONTAINERS_COVERAGE=1): for processes that end by _exit(), which asks
 * nobody (tests/covered_exits.py calls it), and by Py_FatalError(), as misuse of the C API does:
 * the linker puts __wrap_... in its place (--wrap). */
extern void __gcov_dump(void);
extern void __real__Py_FatalErrorFunc(const char *function, const char *message)
    __attribute__((noreturn));
void __wrap__Py_FatalErrorFunc(const char *function, const char *message) __attribute__((noreturn));
__attribute__((visibility("default"))) void qc_coverage_dump(void);

void
qc_coverage_dump(void)
{
    __gcov_dump();
}

void
__wrap__Py_FatalErrorFunc(const char *function, const char *message)
{
    __gcov_dump();
    __real__Py_FatalErrorFunc(function, message);
}
