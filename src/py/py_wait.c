#define _GNU_SOURCE /* nanosleep */
#include "py/py_wait.h"

#include "py/py_threads.h"

#include <sched.h>
#include <time.h>

/* Most waits are for a reader in the middle of a section on another CPU.  A reader on this
 * CPU goes on when this thread yields. */
#define BRIEF_TRIES 8
/* The longer it lasts, the more likely the reader is off the CPU, for milliseconds. */
#define LAST_STEP_NS (1000 * 1000)
/* How long the end of an interpreter waits for readers. */
#define DRAIN_NS ((uint64_t)500 * 1000 * 1000)

bool
wait_briefly(qsbr_domain *domain, uint64_t goal)
{
    for (int tries = BRIEF_TRIES; !qsbr_poll(domain, goal); sched_yield())
        if (--tries == 0 || qc_load_relaxed(&domain->broken) != 0)
            return false;
    return true;
}

/* Sleeps for a step.  False: it slept attached, since the thread is ending its interpreter. */
static bool
sleep_detached(long *ns)
{
    struct timespec step = {.tv_nsec = *ns};
    PyThreadState *detached = threads_detach();
    nanosleep(&step, NULL);
    threads_attach(detached);
    if (*ns < LAST_STEP_NS)
        *ns *= 2;
    return detached != NULL;
}

int
wait_step(long *ns)
{
    (void)sleep_detached(ns);
    return PyErr_CheckSignals();
}

wait_result
wait_for_goal_at_most(qsbr_domain *domain, uint64_t goal, uint64_t most_ns)
{
    long ns = WAIT_FIRST_STEP_NS;
    if (wait_briefly(domain, goal))
        return WAIT_OVER;
    for (uint64_t began = retire_now_ns(); !qsbr_poll(domain, goal);) {
        if (qc_load_relaxed(&domain->broken) != 0 || retire_now_ns() - began >= most_ns)
            return WAIT_NEVER;
        if (!sleep_detached(&ns) && most_ns > retire_limit.wait_ns)
            most_ns = retire_limit.wait_ns;
        if (PyErr_CheckSignals() < 0)
            return WAIT_RAISED;
    }
    return WAIT_OVER;
}

wait_result
wait_for_goal(qsbr_domain *domain, uint64_t goal)
{
    return wait_for_goal_at_most(domain, goal, UINT64_MAX);
}

void
wait_never(qsbr_domain *domain, const char *what_for)
{
    PyErr_Format(PyExc_RuntimeError, "%s: %s",
                 qc_load_relaxed(&domain->broken) != 0
                     ? "membarrier stopped working in this process"
                     : "the interpreter is finalizing, and a thread is stopped while it reads",
                 what_for);
}

bool
wait_for_queue(qsbr_domain *domain, uint64_t goal, bool drains)
{
    /* After NEVER the queue still runs the batches that are reached. */
    return wait_for_goal_at_most(domain, goal, drains ? DRAIN_NS : UINT64_MAX) != WAIT_RAISED;
}

bool
wait_for_heap(qsbr_domain *domain, uint64_t goal)
{
    return wait_for_goal(domain, goal) == WAIT_OVER;
}
