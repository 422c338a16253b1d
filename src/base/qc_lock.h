/* A plain mutex of four bytes, which knows when its holder was left behind by a fork.
 *
 * Why not PyMutex: it hands ownership over to a waiter that waits detached,
 * and an owner that has yet to attach hangs at finalization and at fork.
 * Why not pthread_mutex_t: 40 bytes a container, and a call where one CAS
 * does.  The holder never detaches, runs no Python code and never blocks on
 * anything but a grace period, so a waiter may wait attached.
 *
 *   state    0                   free
 *            generation << 2 | 1 held
 *            generation << 2 | 2 held, and somebody may sleep in futex(2)
 *                                (U. Drepper, "Futexes are tricky", mutex 2)
 *
 * Q10  The child of a fork has one thread.  A lock that another one held is held by
 *      nobody there, and what it protects may be half done.  The generation is the
 *      number of forks that this process comes from: in the child a held lock with
 *      an older one is an orphan.  Who wants it finds that out when it would have to
 *      wait, takes it over by the exchange with which it would have announced itself
 *      (so one thread does), and is told: QC_LOCK_ORPHANED.  It puts right what the
 *      lock protects, or says that it has not (qc_lock_release_as): the next holder
 *      is told again.  Nobody waits for a thread that is gone.
 *
 *      What a thread had stored before the fork, the child has, and nothing of what
 *      came later: fork stops a thread's stores at one point (a store to a page that
 *      is copied already waits for the end of the fork).  So an orphan's data are as
 *      the orphan's holder had them at one place in its program, and what another
 *      thread had seen of them is among it.
 *
 * macOS: os_unfair_lock, which knows its holder by a number that means nothing in a
 * child.  Each lock has the generation that it was last used in; the first use in a
 * child makes a lock that cannot be had new.  Elsewhere: spin and yield.
 */
#ifndef QC_LOCK_H
#define QC_LOCK_H

#include "base/qc_atomic.h"
#include "base/qc_debug.h"

#if defined(__APPLE__)
#include <os/lock.h>
#endif

/* How many forks this process comes from.  Written by qc_fork_happened only, while
 * there is one thread. */
extern QC_HIDDEN uint32_t qc_fork_generation;

/* In the child, first of all: pthread_atfork's handler. */
void qc_fork_happened(void);

typedef enum {
    QC_LOCK_TAKEN,
    QC_LOCK_ORPHANED, /* taken; what it protects may be half done */
} qc_lock_found;

typedef struct {
#if defined(__APPLE__)
    os_unfair_lock os;
    _Atomic uint32_t state;      /* (the lock) held or not, for those who only look */
    _Atomic uint32_t generation; /* that `os` is from */
    _Atomic uint32_t half_done;  /* (the lock) */
#else
    _Atomic uint32_t state;
#endif
} qc_lock;

#define QC_LOCK_HELD 1u
#define QC_LOCK_AWAITED 2u

QC_INLINE uint32_t
qc_lock_state(uint32_t generation, uint32_t how)
{
    return generation << 2 | how;
}

/* What qc_lock_acquire and _release do when it is not a matter of one CAS. */
qc_lock_found qc_lock_wait(qc_lock *lock);
void qc_lock_wake(qc_lock *lock);

static inline void
qc_lock_init(qc_lock *lock)
{
#if defined(__APPLE__)
    lock->os = OS_UNFAIR_LOCK_INIT;
    qc_store_relaxed(&lock->generation, qc_fork_generation);
    qc_store_relaxed(&lock->half_done, 0u);
#endif
    qc_store_relaxed(&lock->state, 0u);
}

/* Who protects nothing that can be half done may ignore the answer. */
QC_INLINE qc_lock_found
qc_lock_acquire(qc_lock *lock)
{
    qc_yield("lock");
#if defined(__APPLE__)
    /* acquire: partner is the release in qc_lock_wait; `os` is new. */
    if (qc_unlikely(qc_load_acquire(&lock->generation) != qc_fork_generation))
        return qc_lock_wait(lock);
    os_unfair_lock_lock(&lock->os);
    qc_store_release(&lock->state, QC_LOCK_HELD);
    return qc_load_relaxed(&lock->half_done) ? QC_LOCK_ORPHANED : QC_LOCK_TAKEN;
#else
    uint32_t unheld = 0;
    /* acquire: partner is the release in qc_lock_release; what the last holder
     * wrote is seen by this one. */
    if (qc_likely(
            qc_cas_acq_rel(&lock->state, &unheld, qc_lock_state(qc_fork_generation, QC_LOCK_HELD))))
        return QC_LOCK_TAKEN;
    return qc_lock_wait(lock);
#endif
}

/* Without waiting, and without a call: false if somebody has it, or has left it behind. */
QC_INLINE bool
qc_lock_try(qc_lock *lock)
{
    qc_yield("lock");
#if defined(__APPLE__)
    if (qc_unlikely(qc_load_acquire(&lock->generation) != qc_fork_generation) ||
        !os_unfair_lock_trylock(&lock->os))
        return false;
    if (qc_unlikely(qc_load_relaxed(&lock->half_done))) {
        os_unfair_lock_unlock(&lock->os);
        return false;
    }
    qc_store_release(&lock->state, QC_LOCK_HELD);
    return true;
#else
    uint32_t unheld = 0; /* as in qc_lock_acquire */
    return qc_likely(
        qc_cas_acq_rel(&lock->state, &unheld, qc_lock_state(qc_fork_generation, QC_LOCK_HELD)));
#endif
}

/* qc_lock_release without a call: true if qc_lock_wake is to be called next. */
QC_INLINE bool
qc_lock_let_go(qc_lock *lock)
{
#if defined(__APPLE__)
    qc_store_relaxed(&lock->half_done, 0u);
    qc_store_release(&lock->state, 0u);
    os_unfair_lock_unlock(&lock->os);
    return false;
#else
    return qc_unlikely((qc_exchange_acq_rel(&lock->state, 0u) & QC_LOCK_AWAITED) != 0);
#endif
}

QC_INLINE void
qc_lock_release(qc_lock *lock)
{
    if (qc_lock_let_go(lock))
        qc_lock_wake(lock);
}

/* Whether somebody holds it, an orphan's holder included.  acquire: partner is
 * qc_lock_release; a caller that finds it free sees all that finished holders wrote
 * (K4: len). */
QC_INLINE bool
qc_lock_is_held(qc_lock *lock)
{
#if defined(__APPLE__)
    return qc_load_acquire(&lock->state) != 0 || qc_load_acquire(&lock->half_done) != 0;
#else
    return qc_load_acquire(&lock->state) != 0;
#endif
}

/* qc_lock_try and qc_lock_let_go for who knows that nobody else acquires or releases the
 * lock meanwhile: all who ever do run one at a time, and none stops with the lock held (with
 * a GIL: they are attached, and holders never detach).  So a plain load and a plain store
 * do, and the lock is found held only where a fork has left it behind.  Whatever makes them
 * take turns orders what they store, too.  The compiler's order is for a child (Q10): it
 * finds the lock held if it finds any of what the holder stores. */
QC_INLINE bool
qc_lock_try_alone(qc_lock *lock)
{
#if defined(__APPLE__)
    return qc_lock_try(lock);
#else
    qc_yield("lock");
    if (qc_unlikely(qc_load_relaxed(&lock->state) != 0))
        return false;
    qc_store_relaxed(&lock->state, qc_lock_state(qc_fork_generation, QC_LOCK_HELD));
    atomic_signal_fence(memory_order_seq_cst);
    return true;
#endif
}

QC_INLINE bool
qc_lock_let_go_alone(qc_lock *lock)
{
#if defined(__APPLE__)
    return qc_lock_let_go(lock);
#else
    qc_assert(qc_lock_is_held(lock));
    /* release: partner is the acquire load in qc_lock_is_held. */
    qc_store_release(&lock->state, 0u);
    return false;
#endif
}

/* By who has put nothing right: the lock is as it was found, and if that was
 * QC_LOCK_ORPHANED the next holder is told so. */
static inline void
qc_lock_release_as(qc_lock *lock, qc_lock_found found)
{
    if (qc_likely(found == QC_LOCK_TAKEN)) {
        qc_lock_release(lock);
        return;
    }
#if defined(__APPLE__)
    qc_store_relaxed(&lock->half_done, 1u);
    qc_store_release(&lock->state, 0u);
    os_unfair_lock_unlock(&lock->os);
#else
    /* release: partner is the exchange in qc_lock_wait, from which an orphan is AWAITED: so
     * somebody may sleep. */
    qc_store_release(&lock->state, qc_lock_state(qc_fork_generation - 1, QC_LOCK_HELD));
    qc_lock_wake(lock);
#endif
}

/* For those who do without the lock as long as nothing is half done: true if the
 * holder may be gone.  (May: who releases it as it was found has it for a moment.) */
QC_INLINE bool
qc_lock_may_be_orphaned(qc_lock *lock)
{
    return qc_unlikely(qc_fork_generation != 0) && qc_lock_is_held(lock);
}

#endif
