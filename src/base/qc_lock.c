#define _GNU_SOURCE /* syscall() */
#include "base/qc_lock.h"

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <sched.h>
#endif

/* Waits a little on the CPU first: holders are done in a few hundred
 * nanoseconds, and a sleep costs microseconds. */
#define SPINS 64

#if !defined(__APPLE__)
void
qc_lock_wait(qc_lock *lock)
{
    for (int i = 0; i < SPINS; i++) {
        uint32_t unheld = 0;
        if (qc_load_relaxed(&lock->state) == 0 && qc_cas_acq_rel(&lock->state, &unheld, 1u))
            return;
    }
#if defined(__linux__)
    /* 2 tells the holder to wake somebody; who gets the lock here keeps 2,
     * since it cannot know whether others still sleep. */
    while (qc_exchange_acq_rel(&lock->state, 2u) != 0)
        syscall(SYS_futex, &lock->state, FUTEX_WAIT_PRIVATE, 2u, NULL, NULL, 0);
#else
    uint32_t unheld = 0;
    while (!qc_cas_acq_rel(&lock->state, &unheld, 1u)) {
        unheld = 0;
        sched_yield();
    }
#endif
}

void
qc_lock_wake(qc_lock *lock)
{
#if defined(__linux__)
    syscall(SYS_futex, &lock->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
#else
    (void)lock;
#endif
}
#endif
