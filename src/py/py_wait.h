/* Waiting for other threads: every wait of the extension that may last (T7).
 *
 *   poll, yield        a few times, attached: sections are microseconds
 *   [ detach, sleep a step, poll, attach; signals' handlers ] ...
 *
 * A reader that is off the CPU, or stopped by a debugger, stays in its section for as long
 * as that lasts.  A thread that waited for it attached would keep out what needs all
 * threads: the collector, which stops the world of a free-threaded interpreter, and with a
 * GIL everything else; on the main thread signals as well.  So a wait is detached, in steps,
 * and handlers run in between.
 *
 * What a thread may have in hand while it waits: nothing that others need.  No lock of ours
 * (DESIGN: never held across a detach), no section, nothing reserved in a queue and no batch
 * taken out of it.  A handler may use every container, and may raise; then the wait ends and
 * its caller leaves the container as it was.
 *
 * A wait under a lock of ours is not to be had, so what needs a grace period with a lock
 * held (K7) tries briefly, and otherwise lets go of the lock: dict_lock_frozen.
 *
 * Waits that are bounded by other means, and stay attached:
 *   qc_lock_wait       for a container's lock: its holder neither detaches nor waits
 *                      (but briefly, above)
 *   qsbr_await_forks   for a fork from C: a second at most
 *   heap_delete        half a second, where the interpreter ends and no other thread of it
 *                      can be attached
 * get_or_create() waits for a factory on a lock of the interpreter's, by the same rules. */
#ifndef PY_WAIT_H
#define PY_WAIT_H

#include "qsbr/qsbr.h"

#include <stdbool.h>

typedef enum {
    WAIT_OVER,
    WAIT_NEVER,  /* the heavy barrier fails, or it is too late to wait: wait_never() says so */
    WAIT_RAISED, /* an exception from a signal's handler */
} wait_result;

/* Attached and bounded, with a lock held or without: whether the goal is reached. */
bool wait_briefly(qsbr_domain *domain, uint64_t goal);

/* Detached, with nothing in hand.  Python code may run.
 *
 * The thread that ends an interpreter (threads_stay_attached) cannot detach any more.  It
 * waits no longer than a writer does: then NEVER. */
wait_result wait_for_goal(qsbr_domain *domain, uint64_t goal);
/* NEVER after `most_ns` in any case. */
wait_result wait_for_goal_at_most(qsbr_domain *domain, uint64_t goal, uint64_t most_ns);

/* RuntimeError: why there is no grace period, and what it was for. */
void wait_never(qsbr_domain *domain, const char *what_for);

/* One step: sleeps detached for *ns nanoseconds, and longer the next time.  0, or -1 with
 * the exception of a signal's handler. */
int wait_step(long *ns);
#define WAIT_FIRST_STEP_NS (20 * 1000)

/* retire_queue.wait: false with an exception, or where the queue drains in vain. */
bool wait_for_queue(qsbr_domain *domain, uint64_t goal, bool drains);
/* For heap_collect: false with an exception, or where there is no grace period. */
bool wait_for_heap(qsbr_domain *domain, uint64_t goal);

#endif
