/* The asymmetric barrier: readers pay nothing, the one who polls pays for all.
 *
 * A section begins with a store (its record's sequence) and goes on with loads
 * (the containers' pointers).  No processor keeps that order by itself: the
 * store may sit in a store buffer while the loads run, and a poll that looked
 * meanwhile would take the reader for offline.  Somebody has to pay for a full
 * fence, and there are two ways:
 *
 *   membarrier   The light side is a compiler barrier.  The heavy side makes
 *                the kernel run a full fence on every CPU that runs a thread of
 *                this process (membarrier(2), PRIVATE_EXPEDITED); a thread that
 *                is not running passed one when it was switched out.
 *   fence        Both sides are seq_cst fences.  It has to be a fence on the
 *                light side: a seq_cst *store* does not order a later load on
 *                AArch64.
 *
 * Either way (Q12): of a section's enter store and a poll's scan, or of the
 * unlink before the poll and the section's loads, at least one is seen.
 *
 * The mode is chosen once, before any reader, and never changes.  If the
 * system call stops working later (a seccomp filter that came after us), the
 * heavy side says so and nothing is freed any more: see qsbr_poll.
 */
#ifndef QSBR_BARRIER_H
#define QSBR_BARRIER_H

#include "base/qc_atomic.h"
#include "base/qc_debug.h"

typedef enum { BARRIER_FENCE = 0, BARRIER_MEMBARRIER = 1 } barrier_mode;

/* Written by barrier_init only, before the first record exists. */
QC_HIDDEN extern barrier_mode barrier_chosen;

/* Chooses the mode, once a process; `wanted` is NULL, "membarrier" or "fence"
 * (the environment variable QSBRCONTAINERS_BARRIER).  Any error of the probe
 * means fence.  False if `wanted` is another word or cannot be had. */
bool barrier_init(const char *wanted);

/* Between the enter store and the first load of a section.  Partner:
 * barrier_heavy in fence (qsbr.c).  Without it a reader can hold a pointer that the
 * poll has already declared free. */
QC_INLINE void
barrier_light(void)
{
#ifdef QC_BREAK_NO_LIGHT_BARRIER
    return;
#endif
    if (qc_likely(barrier_chosen == BARRIER_MEMBARRIER))
        qc_fence_compiler();
    else
        qc_fence_seq_cst();
}

/* The other side.  False: it could not be done. */
bool barrier_heavy(void);

#endif
