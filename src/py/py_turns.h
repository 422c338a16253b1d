/* Whose turn it is with an iterator: its owner's, by plain loads and stores, or anybody's,
 * by atomic ones.
 *
 *   its owner            owner == its record?      steps, stores      exit
 *                [= a section ==========================================]
 *   another              owner = LEAVING   advance   wait .............. : ANYBODY, steps
 *
 * Nearly all iterators are stepped by one thread, and there a CAS or a lock costs more
 * than the step.  So the first thread that steps owns the iterator (NULL becomes its
 * record, by a CAS).  Its steps look at `owner` and move the iterator in one section, and
 * the first step of another thread waits for a grace period before it lets anybody in.
 *
 * Why that excludes.  The store of LEAVING is to `owner` what an unlink is to memory
 * (qsbr.h): a section that found its own record there began before the advance, and the
 * wait is for its end; what it stored is seen after the wait, since its exit released
 * it.  A section that begins later finds LEAVING, and moves nothing until it has found
 * ANYBODY.  `owner` never goes back to a record.
 *
 * A record may be a new thread's when the owner has ended: that one steps no more, so to
 * take the new thread for the owner is right (as in T1).  The child of a fork has no
 * section of a thread that is gone; where that thread was in a step, its store has
 * happened or not (Q10).
 *
 * Without grace periods (a barrier that fails) nobody may step once another thread has
 * wanted to: RuntimeError, as for K7.
 *
 * With a GIL (QC_FREES_AT_ONCE) the turn is whose the GIL is: a step neither calls nor
 * detaches between its look at the iterator and its store. */
#ifndef PY_TURNS_H
#define PY_TURNS_H

#include "py/py_threads.h"
#include "py/py_wait.h"

/* Values of `owner` that are no record. */
#define TURNS_LEAVING ((qsbr_record *)1)
#define TURNS_ANYBODY ((qsbr_record *)2)

typedef struct {
    _Atomic(qsbr_record *) owner;
} turns;

typedef enum { TURN_MINE, TURN_ANYBODYS, TURN_LATER } turn;

static inline void
turns_init(turns *t)
{
    qc_store_relaxed(&t->owner, NULL);
}

/* In a section, and good until its end. */
QC_INLINE bool
turns_is_mine(turns *t, qsbr_record *rec)
{
    if (QC_FREES_AT_ONCE)
        return true;
    qc_assert(qsbr_in_section(rec));
    bool mine = qc_load_relaxed(&t->owner) == rec;
    qc_yield("turn");
    return mine;
}

/* The same, for who is not the owner yet.  LATER: leave the section, and call
 * turns_share. */
static inline turn
turns_whose(turns *t, qsbr_record *rec)
{
    qsbr_record *none = NULL;
    if (turns_is_mine(t, rec))
        return TURN_MINE;
    /* acquire: partner is the release in turns_share; what the owner did is seen. */
    qsbr_record *owner = qc_load_acquire(&t->owner);
    qc_yield("turn: owner");
#ifdef QC_BREAK_TURNS_TWO_OWNERS
    if (owner == NULL)
        qc_store_release(&t->owner, none = rec);
#endif
    if (owner == NULL && qc_cas_acq_rel(&t->owner, &none, rec))
        return TURN_MINE;
    return owner == TURNS_ANYBODY ? TURN_ANYBODYS : TURN_LATER;
}

/* Outside sections and without locks.  Afterwards every thread may step.  False with an
 * exception: RuntimeError, or that of a signal handler (py_wait.h). */
static QC_NOINLINE bool
turns_share(turns *t)
{
    qsbr_record *owner = qc_load_acquire(&t->owner);
    if (owner == TURNS_ANYBODY)
        return true;
    if (owner != TURNS_LEAVING)
        (void)qc_cas_acq_rel(&t->owner, &owner, TURNS_LEAVING);
        /* Who finds LEAVING waits for itself: nobody has to wait for another thread. */
#ifdef QC_BREAK_TURNS_LEAVING_IS_LEFT
    if (owner == TURNS_LEAVING) {
        qc_store_release(&t->owner, TURNS_ANYBODY);
        return true;
    }
#endif
#ifndef QC_BREAK_TURNS_NO_WAIT
    wait_result result = wait_for_goal(&qsbr_process, qsbr_advance(&qsbr_process));
    if (result == WAIT_NEVER)
        wait_never(&qsbr_process, "an iterator cannot be handed to another thread");
    if (result != WAIT_OVER)
        return false;
#endif
    /* release: partner is the acquire load in turns_whose. */
    qc_store_release(&t->owner, TURNS_ANYBODY);
    return true;
}

#endif
