/* Waiting for other threads: every wait of the extension that may last (T7).
 *
 *   poll, yield        a few times, attached: sections take microseconds
 *   [ detach, sleep a step, attach; signal handlers; poll ] ...
 *
 * A reader that is off the CPU, or stopped by a debugger, stays in its section for as long
 * as that lasts.  A thread that waited for it attached would keep out the collector, which
 * stops the world of a free-threaded interpreter; with a GIL, all other threads; and on the
 * main thread, signals.  So a thread waits detached, in steps, and runs signal handlers in
 * between.
 *
 * A thread that waits has nothing in hand that other threads need: no lock of ours (none is
 * ever held across a detach), no section, nothing reserved in a queue and no batch taken
 * out of it.  A signal handler may use every container.  It may also raise; then the wait
 * ends, and its caller leaves the container as it was.
 *
 * No thread may wait like this under a lock of ours.  An operation that needs a grace period
 * with the lock held (K7) therefore tries briefly, and otherwise releases the lock for the
 * wait: dict_lock_frozen.
 *
 * Four waits are bounded by other means and stay attached:
 *   qc_lock_wait       for a container's lock: its holder does not detach, and waits for
 *                      readers only briefly (above)
 *   qsbr_await_forks   for a fork from C: a second at most
 *   retire_look        for the thread that looks, in collect(): a look is bounded
 *   heap_delete        for readers: half a second, at the end of the interpreter, when no
 *                      other thread of it can be attached
 * get_or_create() waits for a factory on a lock of the interpreter, by the same rules. */
#ifndef PY_WAIT_H
#define PY_WAIT_H

#include "qsbr/qsbr.h"

#include <stdbool.h>

typedef enum {
    WAIT_OVER,
    WAIT_NEVER,  /* the heavy barrier fails, or the wait ran out of time: wait_never() raises */
    WAIT_RAISED, /* a signal handler raised; its exception is set */
} wait_result;

/* Polls a few times, attached, with or without a lock: whether the goal is reached. */
bool wait_briefly(qsbr_domain *domain, uint64_t goal);

/* Waits detached, for a caller with nothing in hand.  Python code may run.
 *
 * The thread that ends an interpreter (threads_stay_attached) cannot detach any more.  It
 * waits attached for as long as a writer does, and then gets NEVER. */
wait_result wait_for_goal(qsbr_domain *domain, uint64_t goal);
/* The same for at most `most_ns`, and then NEVER. */
wait_result wait_for_goal_at_most(qsbr_domain *domain, uint64_t goal, uint64_t most_ns);

/* Raises RuntimeError, which says why there is no grace period and what needed it. */
void wait_never(qsbr_domain *domain, const char *what_for);

/* One step: sleeps detached for *ns nanoseconds, and doubles *ns up to a limit.  0, or -1
 * with the exception of a signal handler. */
int wait_step(long *ns);
#define WAIT_FIRST_STEP_NS (20 * 1000)

/* For retire_queue.wait: false with the exception of a signal handler. */
bool wait_for_queue(qsbr_domain *domain, uint64_t goal, bool drains);
/* For heap_collect: false with an exception, or if there is no grace period. */
bool wait_for_heap(qsbr_domain *domain, uint64_t goal);

#endif
