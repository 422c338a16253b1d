/* Sequences: advance, poll, wait. */
#define _GNU_SOURCE
#include "qsbr/qsbr.h"

#include <sched.h>

uint64_t
qsbr_advance(qsbr_domain *domain)
{
    qc_add_relaxed(&domain->advances, 1u);
    /* A real RMW after the unlink.  seq_cst, so release: partner is the acquire
     * load in qsbr_go_online; a section that starts at the goal sees the unlink. */
    return qc_add_seq_cst(&domain->wr_seq, QSBR_STEP) + QSBR_STEP;
}

uint64_t
qsbr_advance_now(qsbr_domain *domain, qsbr_deferred *deferred)
{
    if (deferred->blocks == 0)
        return 0;
    deferred->blocks = 0;
    deferred->bytes = 0;
    return qsbr_advance(domain);
}

uint64_t
qsbr_advance_deferred(qsbr_domain *domain, qsbr_deferred *deferred, size_t bytes)
{
    deferred->blocks++;
    deferred->bytes += bytes;
    if (deferred->blocks < deferred->max_blocks && deferred->bytes < deferred->max_bytes)
        return 0;
    return qsbr_advance_now(domain, deferred);
}

/* The lowest sequence that a section under way may have entered at, or `seq`. */
static uint64_t
scan(qsbr_domain *domain, uint64_t seq)
{
    uint64_t lowest = seq;
    /* acquire: partner is the release store of the chunk list in take_record. */
    for (struct qsbr_chunk *c = qc_load_acquire(&domain->chunks); c != NULL; c = c->next) {
        /* acquire: partner is the release in mark_registered.  Without it memory could be
         * freed before the last section of a record whose bit is cleared is over.  (struct
         * qsbr_chunk says why a scan may miss a set bit.) */
        uint32_t left = qc_load_acquire(&c->registered);
        for (; left != 0; left &= left - 1) {
            /* acquire: partners are the releases of qsbr_go_offline and _online. */
            uint64_t s = qc_load_acquire(&c->records[__builtin_ctz(left)].seq);
            if (s != QSBR_OFFLINE && qsbr_before(s, lowest))
                lowest = s;
        }
    }
    return lowest;
}

/* Only ever raised, and after the barrier.  release: partner is the load in first_half.
 * Without it a poll that leaves its barrier out because of `fenced` could scan before this
 * barrier. */
static void
raise_fenced(qsbr_domain *domain, uint64_t seq)
{
    uint64_t known = qc_load_relaxed(&domain->fenced);
    while (qsbr_before(known, seq) && !qc_cas_acq_rel(&domain->fenced, &known, seq))
        ;
}

/* Makes the enter stores of all sections visible that may hold what was unlinked
 * before the sequence *seq; false: that cannot be done. */
static bool
fence(qsbr_domain *domain, uint64_t *seq)
{
    qsbr_record *self = qsbr_find(domain);
    qc_assert(self == NULL || !qsbr_in_section(self)); /* Q2 */
    if (qc_load_relaxed(&domain->broken) != 0) {
        return false;
    }
    /* The load comes first: only goals up to it can be said to be reached (see
     * "two orders" in the header). */
#ifndef QC_BREAK_LOAD_AFTER_BARRIER
    *seq = qc_load_acquire(&domain->wr_seq);
#endif
    /* Partner: the fence in register_record.  That other records *look* offline
     * proves nothing, only that none exists does. */
    qc_fence_seq_cst();
    bool others = qc_load_acquire(&domain->registered) > (self != NULL ? 1u : 0u);
#ifdef QC_BREAK_BARRIER_LEFT_OUT_OFFLINE
    others = scan(domain, *seq) != *seq;
#endif
#ifdef QC_BREAK_FENCED_TOO_EARLY
    raise_fenced(domain, *seq);
#endif
    if (others) {
        qc_add_relaxed(&domain->heavy_barriers, 1u);
#ifndef QC_BREAK_NO_HEAVY_BARRIER
        if (!barrier_heavy()) { /* partner: barrier_light in qsbr_go_online */
            qc_add_relaxed(&domain->broken, 1u);
            return false;
        }
#endif
    }
#ifdef QC_BREAK_LOAD_AFTER_BARRIER
    *seq = qc_load_acquire(&domain->wr_seq);
#endif
    raise_fenced(domain, *seq);
    return true;
}

/* The first half of a poll: a sequence not below `goal` that was fenced. */
static bool
first_half(qsbr_domain *domain, uint64_t goal, uint64_t *seq)
{
    /* acquire: partner is the CAS in raise_fenced. */
    *seq = qc_load_acquire(&domain->fenced);
    return !qsbr_before(*seq, goal) || fence(domain, seq);
}

/* The second half: what the records say, for goals up to `seq`. */
static bool
scan_for(qsbr_domain *domain, uint64_t seq, uint64_t goal)
{
    qc_add_relaxed(&domain->polls, 1u);
    uint64_t lowest = scan(domain, seq);
    uint64_t known = qc_load_acquire(&domain->rd_seq);
    /* Only ever raised.  release: partner is qsbr_goal_reached. */
    while (qsbr_before(known, lowest) && !qc_cas_acq_rel(&domain->rd_seq, &known, lowest))
        ;
    return !qsbr_before(lowest, goal) || !qsbr_before(known, goal);
}

bool
qsbr_poll(qsbr_domain *domain, uint64_t goal)
{
    uint64_t seq;
    if (qsbr_goal_reached(domain, goal))
        return true;
    return first_half(domain, goal, &seq) && scan_for(domain, seq, goal);
}

bool
qsbr_wait(qsbr_domain *domain, uint64_t goal)
{
    uint64_t seq;
    if (qsbr_goal_reached(domain, goal))
        return true;
    if (!first_half(domain, goal, &seq))
        return false;
    while (!scan_for(domain, seq, goal))
        sched_yield();
    return true;
}
