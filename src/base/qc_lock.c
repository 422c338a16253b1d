#define _GNU_SOURCE /* syscall(), CPU_COUNT() */
#include "base/qc_lock.h"

#if defined(__linux__)
#include <linux/futex.h>
#include <sched.h>
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

/* Holders are done in a few hundred nanoseconds, and a sleep costs microseconds: so a
 * waiter stays awake for some tens of them.  But it looks seldom.  Each look takes the
 * line away from the holder, and what two threads protect that take turns after every
 * operation travels from one core to the other every time; with a microsecond and more
 * between two looks the other one does tens of operations with all of it in its cache
 * (measured, inserting and deleting: twice as many operations of both together).
 * Nobody's turn is promised: who sleeps is woken, and then as good as any. */
#define FIRST_PAUSES 64u
#define LONGEST_PAUSES 256u
#define MOST_PAUSES 1024u

static inline void
pause_here(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" : : : "memory"); /* `yield` is over at once */
#endif
}

/* There the holder goes on only if the waiter sleeps. */
static bool
has_one_cpu(void)
{
#if defined(__linux__)
    static _Atomic uint32_t cpus; /* 0: not asked yet */
    uint32_t n = qc_load_relaxed(&cpus);
    if (n == 0) {
        cpu_set_t set;
        n = sched_getaffinity(0, sizeof set, &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 2;
        qc_store_relaxed(&cpus, n);
    }
    return n == 1;
#else
    return false;
#endif
}

/* On the CPU: true if the lock could be had. */
static bool
wait_awake(qc_lock *lock, uint32_t held)
{
    if (has_one_cpu())
        return false;
    for (unsigned pauses = FIRST_PAUSES, sum = 0; sum < MOST_PAUSES; sum += pauses) {
        for (unsigned i = 0; i < pauses; i++)
            pause_here();
        uint32_t state = qc_load_relaxed(&lock->state);
        if (state == 0 && qc_cas_acq_rel(&lock->state, &state, held))
            return true;
        if (state != 0 && state >> 2 != held >> 2)
            return false; /* an orphan: nobody will release it */
        if (pauses < LONGEST_PAUSES)
            pauses *= 2;
    }
    return false;
}

qc_lock_found
qc_lock_wait(qc_lock *lock)
{
    if (wait_awake(lock, qc_lock_state(qc_fork_generation, QC_LOCK_HELD)))
        return QC_LOCK_TAKEN;
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
