/* The lock of a container, or of an iterator: qc_lock, by plain loads and stores where there
 * is a GIL.
 *
 * All who take such a lock are attached, and whoever holds it neither detaches nor runs
 * Python code nor decrefs; so with a GIL nobody ever finds it held, but in the child of a
 * fork that a thread without the GIL has made (Q10).  Others may still use qc_lock's own
 * functions: nobody does at the same time. */
#ifndef PY_LOCK_H
#define PY_LOCK_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/qc_lock.h"

/* Without waiting, and without a call, as qc_lock_try. */
QC_INLINE bool
lock_try(qc_lock *lock)
{
#ifdef Py_GIL_DISABLED
    return qc_lock_try(lock);
#else
    return qc_likely(qc_lock_try_alone(lock));
#endif
}

/* As qc_lock_let_go: true if qc_lock_wake is to be called next. */
QC_INLINE bool
lock_let_go(qc_lock *lock)
{
#ifdef Py_GIL_DISABLED
    return qc_lock_let_go(lock);
#else
    return qc_lock_let_go_alone(lock);
#endif
}

QC_INLINE qc_lock_found
lock_acquire(qc_lock *lock)
{
#ifdef Py_GIL_DISABLED
    return qc_lock_acquire(lock);
#else
    return lock_try(lock) ? QC_LOCK_TAKEN : qc_lock_wait(lock);
#endif
}

QC_INLINE void
lock_release(qc_lock *lock)
{
    if (lock_let_go(lock))
        qc_lock_wake(lock);
}

#endif
