/* What the C programs of this folder share.
 *
 *   CHECK          always on; prints file:line and the condition, and ends the
 *                  process with status 1 (in a fork child, the child)
 *   run_threads    threads that begin together
 *   stepper        a thread that does one thing at a time, on request: one thread
 *                  of the test drives several records through a protocol
 *   in_child       a function in a forked child, whose status is checked
 *   scaled         counts times QC_TORTURE_SCALE
 *   a_seed         chance that QC_SEED repeats, as far as the schedule does
 *   report         figures that tests/soak.py adds up over all runs
 *
 * A program names the guarantee a test is about: RUN(test_Q1_...).  Which barrier
 * is used (Q12) says QSBRCONTAINERS_BARRIER, as for the extension.
 */
#ifndef ENGINE_HARNESS_H
#define ENGINE_HARNESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#include "qsbr/qsbr.h"

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond))                                                                               \
            harness_fail(__FILE__, __LINE__, #cond);                                               \
    } while (0)

#define CHECK_EQ(a, b)                                                                             \
    do {                                                                                           \
        uint64_t harness_a = (uint64_t)(a), harness_b = (uint64_t)(b);                             \
        if (harness_a != harness_b)                                                                \
            harness_fail_eq(__FILE__, __LINE__, #a " == " #b, harness_a, harness_b);               \
    } while (0)

_Noreturn void harness_fail(const char *file, int line, const char *what);
_Noreturn void harness_fail_eq(const char *file, int line, const char *what, uint64_t a,
                               uint64_t b);

/* The status by which a program says that this machine cannot do what is asked. */
#define HARNESS_CANNOT 77

/* First thing in main: output, watchdog; with `engine` barrier_init and qsbr_init. */
void harness_init(bool engine);

/* Prints the name, runs it; a test that hangs is ended, with its name. */
#define RUN(test) harness_run(#test, test)
void harness_run(const char *name, void (*test)(void));

/* ---- amounts, chance ---- */

/* n times QC_TORTURE_SCALE, at least 1. */
uint64_t scaled(uint64_t n);
uint64_t now_ns(void);
void sleep_ms(unsigned ms);

/* xorshift64*: each thread its own state, never 0. */
static inline uint64_t
chance(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}

/* A beginning for chance(), another one at each call.  All come from QC_SEED, which
 * harness_init prints; without it, from the clock. */
uint64_t a_seed(void);

/* ---- near misses ---- */

/* A line that tests/soak.py adds up over all runs; `how` is "sum", "least" or "most". */
void report(const char *how, const char *name, uint64_t n);

/* How long something took: one for each thread, put together in the end.  (Zeroes are
 * none.) */
typedef struct {
    uint64_t n, least, most;
} span;

typedef struct {
    _Atomic uint64_t inverted_least, most;
} spans;

static inline void
span_add(span *s, uint64_t ns)
{
    s->least = s->n == 0 || ns < s->least ? ns : s->least;
    s->most = ns > s->most ? ns : s->most;
    s->n++;
}

void span_put_together(spans *all, const span *more);
/* The least and the most, and none from here on. */
void span_report(spans *all, const char *name);

/* Records of the domain that a thread has, or has left and not let go of. */
static inline unsigned
records_in_use(qsbr_domain *domain)
{
    unsigned n = 0;
    for (struct qsbr_chunk *c = qc_load_acquire(&domain->chunks); c != NULL; c = c->next)
        for (int i = 0; i < QSBR_CHUNK_RECORDS; i++)
            n += qc_load_acquire(&c->records[i].refs) != 0;
    return n;
}

/* After a poll that said no: how many sections are in the way of `goal` now, not
 * more than 2.  (By now: 0, if they have been left since.) */
unsigned sections_before(qsbr_domain *domain, uint64_t goal);

/* ---- threads ---- */

/* `body(arg, i)` in n threads that begin together; returns when all have ended. */
void run_threads(unsigned n, void (*body)(void *arg, unsigned i), void *arg);

/* The same for about ms times QC_TORTURE_SCALE milliseconds: bodies go on until
 * time_is_over(). */
void run_threads_for(unsigned ms, unsigned n, void (*body)(void *arg, unsigned i), void *arg);
bool time_is_over(void);

/* As pthread_create, checked. */
pthread_t thread_start(void *(*body)(void *), void *arg);
void thread_join(pthread_t thread);

typedef struct stepper stepper;
stepper *stepper_new(void);
/* fn(arg) in the stepper's thread; `run` returns when it is through, `start` at
 * once (then `wait`). */
void stepper_run(stepper *s, void (*fn)(void *), void *arg);
void stepper_start(stepper *s, void (*fn)(void *), void *arg);
void stepper_wait(stepper *s);
bool stepper_busy(stepper *s);
/* Ends and joins the thread: its records with it (Q4). */
void stepper_end(stepper *s);

/* A stepper with a record in `domain`, and steps of it. */
stepper *reader_new(qsbr_domain *domain);
qsbr_record *reader_record(stepper *s);
void reader_enter(stepper *s);
void reader_exit(stepper *s);

/* ---- processes ---- */

/* fn(arg) in a forked child that has to end well.  `in_child_that_dies`: it has to
 * be ended by the signal. */
void in_child(void (*fn)(void *), void *arg);
void in_child_that_dies(void (*fn)(void *), void *arg, int signal);

/* ---- libc allocations that fail ---- */

/* In builds with HARNESS_MALLOC the sources' malloc, calloc and posix_memalign come
 * through here: the n-th from now fails (0: none).  And pthread_setspecific, which may
 * need memory: the next one fails. */
#ifdef HARNESS_MALLOC
void harness_fail_malloc(uint64_t n);
void harness_fail_setspecific(void);
#endif

/* Which sanitizer takes part: their programs are slower, and some cannot do all. */
#if defined(__has_feature)
#define harness_has(feature) __has_feature(feature)
#else
#define harness_has(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || harness_has(address_sanitizer)
#define HARNESS_ASAN 1
#else
#define HARNESS_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__) || harness_has(thread_sanitizer)
#define HARNESS_TSAN 1
#else
#define HARNESS_TSAN 0
#endif
#define HARNESS_SANITIZED (HARNESS_ASAN || HARNESS_TSAN)

#endif
