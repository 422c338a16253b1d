#define _GNU_SOURCE /* syscall() */
#include "base/qc_lock.h"

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <sched.h>
#endif

uint32_t qc_fork_generation = 0;

#if defined(__APPLE__)
static os_unfair_lock adopting = OS_UNFAIR_LOCK_INIT; /* new in each child */

void
qc_fork_happened(void)
{
    qc_fork_generation++;
    adopting = OS_UNFAIR_LOCK_INIT;
}

/* The first use of a lock since a fork: nobody can have `os` who is still there,
 * since to get it one comes here first. */
qc_lock_found
qc_lock_wait(qc_lock *lock)
{
    os_unfair_lock_lock(&adopting);
    if (qc_load_relaxed(&lock->generation) == qc_fork_generation) {
        os_unfair_lock_unlock(&adopting); /* somebody was faster */
        return qc_lock_acquire(lock);
    }
    if (!os_unfair_lock_trylock(&lock->os)) {
        lock->os = OS_UNFAIR_LOCK_INIT;
        os_unfair_lock_lock(&lock->os);
        qc_store_relaxed(&lock->half_done, 1u);
    }
    qc_store_release(&lock->state, QC_LOCK_HELD);
    /* release: partner is the acquire load in qc_lock_acquire. */
    qc_store_release(&lock->generation, qc_fork_generation);
    os_unfair_lock_unlock(&adopting);
    return qc_load_relaxed(&lock->half_done) ? QC_LOCK_ORPHANED : QC_LOCK_TAKEN;
}

#else

void
qc_fork_happened(void)
{
    qc_fork_generation++;
}

/* Waits a little on the CPU first: holders are done in a few hundred
 * nanoseconds, and a sleep costs microseconds. */
#define SPINS 64

qc_lock_found
qc_lock_wait(qc_lock *lock)
{
    uint32_t held = qc_lock_state(qc_fork_generation, QC_LOCK_HELD);
    for (int i = 0; i < SPINS; i++) {
        uint32_t unheld = 0;
        if (qc_load_relaxed(&lock->state) == 0 && qc_cas_acq_rel(&lock->state, &unheld, held))
            return QC_LOCK_TAKEN;
    }
    uint32_t awaited = qc_lock_state(qc_fork_generation, QC_LOCK_AWAITED);
    for (;;) {
        /* AWAITED tells the holder to wake somebody; who gets the lock here keeps it
         * so, since it cannot know whether others still sleep.  An orphan is the
         * caller's with this, and nobody else's. */
        uint32_t was = qc_exchange_acq_rel(&lock->state, awaited);
        if (was == 0)
            return QC_LOCK_TAKEN;
#ifndef QC_BREAK_WAIT_FOR_THE_GONE
        if (was >> 2 != awaited >> 2)
            return QC_LOCK_ORPHANED;
#endif
#if defined(__linux__)
        syscall(SYS_futex, &lock->state, FUTEX_WAIT_PRIVATE, awaited, NULL, NULL, 0);
#else
        sched_yield();
#endif
    }
}
#endif

void
qc_lock_wake(qc_lock *lock)
{
#if defined(__linux__)
    syscall(SYS_futex, &lock->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
#else
    (void)lock;
#endif
}
