/* A thread that is stopped at one place of an operation while another one forks: at every
 * yield of the sources, one after the other.
 */
#ifndef ENGINE_FORK_STOPS_H
#define ENGINE_FORK_STOPS_H

#include "harness.h"

typedef enum { STOP_NOT_YET, STOP_THERE, STOP_GO_ON } stop_stage;

static _Thread_local bool stop_here; /* in the thread to be stopped */
static unsigned stop_at, stop_passed;
static _Atomic unsigned stop_now; /* stop_stage */
static char stop_place[32];

static inline void
stop_hook(const char *place)
{
    if (!stop_here || stop_passed++ != stop_at)
        return;
    snprintf(stop_place, sizeof stop_place, "%s", place);
    qc_store_release(&stop_now, STOP_THERE);
    while (qc_load_acquire(&stop_now) != STOP_GO_ON)
        sleep_ms(0);
}

typedef struct {
    void (*fn)(void *);
    void *arg;
} stop_job;

static inline void
stop_run(void *arg)
{
    stop_job *job = arg;
    stop_here = true;
    job->fn(job->arg);
    stop_here = false;
}

/* fn(arg) in the stepper's thread, stopped at its n-th yield; there, `child` in a forked
 * process.  False: fn has fewer yields.  Returns when fn is through. */
static inline bool
fork_at(stepper *s, void (*fn)(void *), void *arg, unsigned n, void (*child)(void *))
{
    static bool tell;
    tell = getenv("QC_TELL") != NULL;
    stop_job job = {fn, arg};
    stop_at = n;
    stop_passed = 0;
    qc_store_relaxed(&stop_now, STOP_NOT_YET);
#ifdef QC_DEBUG
    qc_yield_hook = stop_hook;
#endif
    stepper_start(s, stop_run, &job);
    while (qc_load_acquire(&stop_now) != STOP_THERE && stepper_busy(s))
        sleep_ms(0);
    bool stopped = qc_load_acquire(&stop_now) == STOP_THERE;
    if (stopped) {
        if (tell)
            printf("  %u: %s\n", n, stop_place);
        in_child(child, arg);
        qc_store_release(&stop_now, STOP_GO_ON);
    }
    stepper_wait(s);
#ifdef QC_DEBUG
    qc_yield_hook = NULL;
#endif
    return stopped;
}

#endif
