/* A plain mutex of four bytes.
 *
 * Why not PyMutex: it hands ownership over to a waiter that waits detached,
 * and an owner that has yet to attach hangs at finalization and at fork.
 * Why not pthread_mutex_t: 40 bytes a container, and a call where one CAS
 * does.  The holder never detaches, runs no Python code and never blocks on
 * anything but a grace period, so a waiter may wait attached.
 *
 * Linux: 0 free, 1 held, 2 held and somebody may sleep in futex(2)
 * (U. Drepper, "Futexes are tricky", mutex 2).  macOS: os_unfair_lock.
 * Elsewhere: spin and yield.
 */
#ifndef QC_LOCK_H
#define QC_LOCK_H

#include "base/qc_atomic.h"
#include "base/qc_debug.h"

#if defined(__APPLE__)
#include <os/lock.h>
#endif

typedef struct {
#if defined(__APPLE__)
    os_unfair_lock os;
    _Atomic uint32_t state; /* (the lock) for qc_lock_is_held only */
#else
    _Atomic uint32_t state;
#endif
} qc_lock;

void qc_lock_wait(qc_lock *lock);
void qc_lock_wake(qc_lock *lock);

static inline void
qc_lock_init(qc_lock *lock)
{
#if defined(__APPLE__)
    lock->os = OS_UNFAIR_LOCK_INIT;
#endif
    qc_store_relaxed(&lock->state, 0u);
}

QC_INLINE void
qc_lock_acquire(qc_lock *lock)
{
    qc_yield("lock");
#if defined(__APPLE__)
    os_unfair_lock_lock(&lock->os);
    qc_store_release(&lock->state, 1u);
#else
    uint32_t unheld = 0;
    /* acquire: partner is the release in qc_lock_release; what the last holder
     * wrote is seen by this one. */
    if (qc_unlikely(!qc_cas_acq_rel(&lock->state, &unheld, 1u)))
        qc_lock_wait(lock);
#endif
}

QC_INLINE void
qc_lock_release(qc_lock *lock)
{
#if defined(__APPLE__)
    qc_store_release(&lock->state, 0u);
    os_unfair_lock_unlock(&lock->os);
#else
    if (qc_unlikely(qc_exchange_acq_rel(&lock->state, 0u) == 2u))
        qc_lock_wake(lock);
#endif
}

/* Whether somebody holds it.  acquire: partner is qc_lock_release; a caller
 * that finds it free sees all that finished holders wrote (K4: len). */
QC_INLINE bool
qc_lock_is_held(qc_lock *lock)
{
    return qc_load_acquire(&lock->state) != 0;
}

#endif
