/* How much memory may wait: limits that users can set, what a writer does that is
 * over them, and when dead containers call for the collector (T7). */
#ifndef PY_LIMITS_H
#define PY_LIMITS_H

#include "py/state.h"

/* Dead containers with deferred counting hold their tables, and what is in them, until the
 * collector comes, which counts objects and not bytes.  So much is nobody's trouble. */
#define LIMITS_DEAD_BYTES ((size_t)64 << 20)

/* Once a process, before the first queue: takes over what the environment says.
 * NULL, or the name of a variable whose value is no number in its range. */
const char *limits_from_environment(void);

/* For a writer, with nothing held, when retire_must_wait: processes, and sleeps
 * detached, in steps that let signals in, until there is room or for a second.  0,
 * or -1 with a signal handler's exception.  Runs Python code. */
QC_NOINLINE int limits_wait_for_room(qc_state *state);
/* The same in any queue; `pages`: the heap whose waiting pages count, or NULL. */
int limits_wait_in(retire_local *local, heap *pages);

static inline int
limits_room(qc_state *state)
{
    return retire_must_wait(state->queue) ? limits_wait_for_room(state) : 0;
}

/* At a safe point: runs the collector if dead containers may hold too much. */
void limits_collect_dead(qc_state *state);

#endif
