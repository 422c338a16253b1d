/* ConcurrentDict: its lock, with no word that changes (K7). */
#include "py/py_dict.h"

#include "py/py_wait.h"

static const char what_for[] = "no moment can be had at which no other thread assigns";

/* With the lock: raises the flag and waits briefly.  True: no word changes any more. */
static bool
try_freeze(dict_object *d, dict_frozen *f)
{
    f->shared = sharing_is_shared(&d->sharing);
    if (!f->shared)
        return true; /* no thread assigns without the lock */
    f->freezing = keytable_freeze(&d->map, &qsbr_process);
    return wait_briefly(&qsbr_process, f->freezing.goal);
}

/* Waits for the goal with the flag set and without the lock, since a reader is off the CPU
 * and a holder of the lock may not detach.  0, or -1 with an exception and the flag
 * cleared. */
static int
await_goal(dict_object *d, const dict_frozen *f)
{
    wait_result result = wait_for_goal(&qsbr_process, f->freezing.goal);
    if (result == WAIT_OVER)
        return 0;
    keytable_thaw(&d->map, f->freezing);
    if (result == WAIT_NEVER)
        wait_never(&qsbr_process, what_for);
    return -1;
}

int
dict_lock_frozen(dict_object *d, dict_frozen *f)
{
    do {
        dict_lock(d);
        if (try_freeze(d, f))
            return 0;
        dict_unlock(d);
        if (await_goal(d, f) < 0)
            return -1;
        dict_lock(d);
        /* The goal is reached and the flag has been set all along, so words change only
         * under the lock, which this thread has. */
        if (keytable_freeze_holds(f->freezing))
            return 0;
        dict_unlock(d); /* a signal handler has forked */
    } while (true);
}

void
dict_unlock_frozen(dict_object *d, const dict_frozen *f)
{
    if (f->shared)
        keytable_thaw(&d->map, f->freezing);
    dict_unlock(d);
}
