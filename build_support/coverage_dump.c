/* In builds that count (QSBRCONTAINERS_COVERAGE=1): for processes that end by _exit(), which asks
 * nobody (tests/covered_exits.py calls it), and by abort(), as misuse of the C API does. */
#define _GNU_SOURCE
#include <signal.h>

extern void __gcov_dump(void);
__attribute__((visibility("default"))) void qc_coverage_dump(void);

void
qc_coverage_dump(void)
{
    __gcov_dump();
}

static struct sigaction before;

static void
aborted(int signal_number)
{
    sigaction(signal_number, &before, NULL);
    __gcov_dump();
    raise(signal_number);
}

__attribute__((constructor)) static void
at_abort(void)
{
    struct sigaction action = {.sa_handler = aborted};
    sigaction(SIGABRT, &action, &before);
}
